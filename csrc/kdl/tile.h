// A block's share of a matrix product, for gemm.cu and conv.cu: two operand tiles in shared memory, a square of sums in registers.
//
// Operands come through copies: `load(k0)` brings one tile step into registers, `store(tile)` puts it into shared memory. Between the
// two the block multiplies the step before, so that the loads' latency is hidden; two buffers make one barrier per step enough.
#pragma once
#include "kdl/dispatch.h"
#include "kdl/launch.h"

namespace kdl {

// Rows and columns of the output tile, depth of a step, and what one thread computes of it.
template <int BM_, int BN_, int BK_, int TM_, int TN_> struct TileShape {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, threads = (BM / TM) * (BN / TN);
  static constexpr int vector = 4;  // shared memory is read four elements at a time
  static_assert(TM % vector == 0 && TN % vector == 0 && BM % TM == 0 && BN % TN == 0, "a thread owns whole groups of four rows and columns");
  static_assert(threads % 32 == 0 && threads <= 1024, "a block is made of whole warps");
};

// A few neighbours, loaded in one instruction where their address is aligned.
template <class T, int n> struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Vector {
  T item[n];
};

// Where a thread's elements of a BX x BK tile begin, when every thread carries `width` neighbours along k or along x.
template <int BX, int BK, int threads> struct TilePlace {
  static constexpr int width = BX * BK / threads;
  static_assert(width * threads == BX * BK && BX % width == 0 && BK % width == 0, "every thread must carry the same number of neighbours");

  int x, k;
  bool along_k;

  KDL_FN explicit TilePlace(bool along_k) : along_k(along_k) {
    const int first = threadIdx.x * width;
    x = along_k ? first / BK : first % BX;
    k = along_k ? first % BK : first / BX;
  }

  template <class A, class T, int pitch> KDL_FN void store(A (*tile)[pitch], const T* held) const {
#pragma unroll
    for (int i = 0; i < width; ++i) {
      if (along_k) tile[k + i][x] = to_compute(held[i]);
      else tile[k][x + i] = to_compute(held[i]);
    }
  }
};

// The output tile of a block: groups of 8 tile rows, each walked column by column, so that L2 keeps the operands of neighbours.
struct TileOrder {
  static constexpr int group = 8;
  int m_tiles, n_tiles;

  KDL_FN void place(int tile, int* m, int* n) const {
    const int per_group = group * n_tiles, first = tile / per_group * group, within = tile % per_group;
    const int rows = m_tiles - first < group ? m_tiles - first : group;
    *m = first + within % rows;
    *n = within / rows;
  }
};

// The sums of one thread: element (i, j) belongs to row(i), column(j) of the tile. Groups of four rows lie BM / (TM / 4) apart, so that
// the threads of a warp read shared memory without bank conflicts.
template <class A, class Shape> struct TileSum {
  A item[Shape::TM][Shape::TN] = {};

  KDL_FN static int row(int i) {
    return threadIdx.x / (Shape::BN / Shape::TN) * Shape::vector + i / Shape::vector * (Shape::BM / (Shape::TM / Shape::vector)) + i % Shape::vector;
  }
  KDL_FN static int column(int j) {
    return threadIdx.x % (Shape::BN / Shape::TN) * Shape::vector + j / Shape::vector * (Shape::BN / (Shape::TN / Shape::vector)) + j % Shape::vector;
  }

  template <int pitch_a, int pitch_b> KDL_FN void multiply(const A (*a)[pitch_a], const A (*b)[pitch_b]) {
#pragma unroll
    for (int k = 0; k < Shape::BK; ++k) {
      A va[Shape::TM], vb[Shape::TN];
#pragma unroll
      for (int i = 0; i < Shape::TM; ++i) va[i] = a[k][row(i)];
#pragma unroll
      for (int j = 0; j < Shape::TN; ++j) vb[j] = b[k][column(j)];
#pragma unroll
      for (int i = 0; i < Shape::TM; ++i)
#pragma unroll
        for (int j = 0; j < Shape::TN; ++j) item[i][j] += va[i] * vb[j];
    }
  }
};

// sum += a[:, k_begin:k_end] b[k_begin:k_end, :], in ascending k. All threads of the block take part.
template <class A, class Shape, class CopyA, class CopyB>
KDL_FN void multiply_tiles(CopyA& copy_a, CopyB& copy_b, int k_begin, int k_end, TileSum<A, Shape>& sum) {
  constexpr int pitch_a = Shape::BM + Shape::vector, pitch_b = Shape::BN + Shape::vector;  // padded: stores along k hit other banks
  using TilesA = A[2][Shape::BK][pitch_a];
  using TilesB = A[2][Shape::BK][pitch_b];
  KDL_SHARED(TilesA, tile_a);
  KDL_SHARED(TilesB, tile_b);
  if (k_begin >= k_end) return;
  copy_a.load(k_begin);
  copy_b.load(k_begin);
  copy_a.store(tile_a[0]);
  copy_b.store(tile_b[0]);
  __syncthreads();
  for (int k0 = k_begin, buffer = 0; k0 < k_end; k0 += Shape::BK, buffer ^= 1) {
    const bool more = k0 + Shape::BK < k_end;
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
}

// Modelled cost of a tile shape: rounds of blocks over the multiprocessors, times what one block multiplies and loads. The cheapest legal
// row of a tile table is taken.
inline int64_t tile_cost(int64_t M, int64_t N, int64_t batches, int BM, int BN, int multiprocessors) {
  constexpr int load_cost = 16;  // in multiply-adds, for one element of an operand
  const int64_t blocks = batches * ((M + BM - 1) / BM) * ((N + BN - 1) / BN);
  return (blocks + multiprocessors - 1) / multiprocessors * (static_cast<int64_t>(BM) * BN + load_cost * (BM + BN));
}

}  // namespace kdl
