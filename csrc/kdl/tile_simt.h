// A tile's product on the ordinary arithmetic units: two shared tiles per operand, a square of sums in each thread's registers.
//
// A step of BK: while the block multiplies one pair of tiles, the next pair is on its way through registers; `load` starts it, `store` puts
// it down. Two buffers make one barrier per step enough.
#pragma once
#include "kdl/tile.h"

namespace kdl {

// Rows and columns of the output tile, depth of a step, and what one thread computes of it.
template <int BM_, int BN_, int BK_, int TM_, int TN_> struct SimtShape {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, threads = (BM / TM) * (BN / TN);
  static constexpr int vector = 4;  // shared memory is read four elements at a time
  static_assert(TM % vector == 0 && TN % vector == 0 && BM % TM == 0 && BN % TN == 0, "a thread owns whole groups of four rows and columns");
  static_assert(threads % 32 == 0 && threads <= 1024, "a block is made of whole warps");
};

// A BX x BK tile of an operand on its way through registers: every thread carries `width` neighbours, along k where these lie side by side
// in memory, else along x.
template <class Operand, class T, int BX, int BK, int threads> struct SimtCopy {
  static constexpr int width = BX * BK / threads;
  static_assert(width * threads == BX * BK && BX % width == 0 && BK % width == 0, "every thread must carry the same number of neighbours");
  using Neighbours = Vector<T, width>;

  const Operand& operand;
  const T* data;
  int x, k, x0;
  typename Operand::Place kept[Operand::places_are_dear ? width : 1];
  Neighbours held;

  KDL_FN SimtCopy(const Operand& operand, int batch, int x0) : operand(operand), data(operand.of_batch(batch)), x0(x0) {
    const int first = threadIdx.x * width;
    x = operand.along_k ? first / BK : first % BX;
    k = operand.along_k ? first % BK : first / BX;
    if constexpr (Operand::places_are_dear) {
#pragma unroll
      for (int i = 0; i < width; ++i) kept[i] = operand.x_place(x0 + x + (operand.along_k ? 0 : i));
    }
  }

  KDL_FN typename Operand::Place x_place(int i) const {
    if constexpr (Operand::places_are_dear) return kept[i];
    else return operand.x_place(x0 + x + (operand.along_k ? 0 : i));
  }

  KDL_FN void load(int k0) {
    auto k_place = operand.k_place(k0 + k);
    if (operand.vector >= width && operand.left(x0 + x, k0 + k) >= width) {
      const T* source = operand.address(data, x_place(0), k_place);
      held = source ? *reinterpret_cast<const Neighbours*>(source) : Neighbours{};
      return;
    }
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (operand.along_k && i > 0) k_place = operand.k_place(k0 + k + i);
      const T* source = operand.address(data, x_place(i), k_place);
      held.item[i] = source ? *source : from_compute<T>(0);
    }
  }

  template <class A, int pitch> KDL_FN void store(A (*tile)[pitch]) const {
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (operand.along_k) tile[k + i][x] = to_compute(held.item[i]);
      else tile[k][x + i] = to_compute(held.item[i]);
    }
  }
};

// The sums of one thread. Groups of four rows lie BM / (TM / 4) apart, so that the threads of a warp read shared memory without conflicts.
template <class A, class Shape> struct SimtSum {
  static constexpr int rows = Shape::TM, columns = Shape::TN;
  A item[rows][columns] = {};

  KDL_FN static int row(int i) {
    return threadIdx.x / (Shape::BN / columns) * Shape::vector + i / Shape::vector * (Shape::BM / (rows / Shape::vector)) + i % Shape::vector;
  }
  KDL_FN static int column(int j) {
    return threadIdx.x % (Shape::BN / columns) * Shape::vector + j / Shape::vector * (Shape::BN / (columns / Shape::vector)) + j % Shape::vector;
  }
  KDL_FN A at(int i, int j) const { return item[i][j]; }

  template <int pitch_a, int pitch_b> KDL_FN void multiply(const A (*a)[pitch_a], const A (*b)[pitch_b]) {
#pragma unroll
    for (int k = 0; k < Shape::BK; ++k) {
      A va[rows], vb[columns];
#pragma unroll
      for (int i = 0; i < rows; ++i) va[i] = a[k][row(i)];
#pragma unroll
      for (int j = 0; j < columns; ++j) vb[j] = b[k][column(j)];
#pragma unroll
      for (int i = 0; i < rows; ++i)
#pragma unroll
        for (int j = 0; j < columns; ++j) item[i][j] += va[i] * vb[j];
    }
  }
};

// The whole kernel: k is added in ascending order.
template <class Shape, class P> KDL_FN void multiply_simt(const P& p) {
  using A = typename P::A;
  constexpr int pitch_a = Shape::BM + Shape::vector, pitch_b = Shape::BN + Shape::vector;  // padded: stores along k hit other banks
  using TilesA = A[2][Shape::BK][pitch_a];
  using TilesB = A[2][Shape::BK][pitch_b];
  KDL_SHARED(TilesA, tile_a);
  KDL_SHARED(TilesB, tile_b);
  const BlockTile<Shape> block(p);
  SimtCopy<typename P::Operand, typename P::T, Shape::BM, Shape::BK, Shape::threads> copy_a(p.a, block.batch, block.m0);
  SimtCopy<typename P::Operand, typename P::T, Shape::BN, Shape::BK, Shape::threads> copy_b(p.b, block.batch, block.n0);
  SimtSum<A, Shape> sum;
  if (block.k_begin < block.k_end) {
    copy_a.load(block.k_begin);
    copy_b.load(block.k_begin);
    copy_a.store(tile_a[0]);
    copy_b.store(tile_b[0]);
    __syncthreads();
  }
  for (int k0 = block.k_begin, buffer = 0; k0 < block.k_end; k0 += Shape::BK, buffer ^= 1) {
    const bool more = k0 + Shape::BK < block.k_end;
    if (more) {
      copy_a.load(k0 + Shape::BK);
      copy_b.load(k0 + Shape::BK);
    }
    sum.multiply(tile_a[buffer], tile_b[buffer]);
    if (more) {
      copy_a.store(tile_a[buffer ^ 1]);
      copy_b.store(tile_b[buffer ^ 1]);
      __syncthreads();
    }
  }
  store_sum(sum, p, block);
}

}  // namespace kdl
