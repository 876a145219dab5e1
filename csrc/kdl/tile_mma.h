// A tile's product on the tensor cores (mma.sync, compute capability 8.0 and newer): operands flow through a ring of STAGES shared tiles by
// cp.async, fragments come by ldmatrix, warps own WM x WN of the output tile.
//
// Operands lie in shared memory as they lie in global memory, k side by side or x side by side, so that 16 bytes stay together; ldmatrix
// transposes where it must. Rows are padded by 16 bytes (32 where floats lie along x): the eight rows of a matrix then hit different banks.
// float is multiplied as TF32, rounded to nearest in registers.
#pragma once
#include "kdl/ptx.cuh"
#include "kdl/tile.h"

namespace kdl {

// Output tile, depth of a step in 16-bit elements (half as many floats), warp tile, stages.
template <int BM_, int BN_, int BK_, int WM_, int WN_, int STAGES_> struct MmaShape {
  static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, STAGES = STAGES_, warps_n = BN / WN, threads = (BM / WM) * warps_n * 32;
  static constexpr int row_bytes = BK_ * 2;
  template <class T> static constexpr int depth = row_bytes / sizeof(T);
  static_assert(WM % 16 == 0 && WN % 16 == 0 && BM % WM == 0 && BN % WN == 0, "a warp multiplies blocks of 16 x 16");
  static_assert(row_bytes % 32 == 0 && STAGES >= 2, "an mma is 32 bytes deep");
};

// The two ways a BX x BK tile lies in shared memory.
template <class T, int BX, int BK> struct MmaTile {
  static constexpr int chunk = 16 / sizeof(T);
  static constexpr int pitch_k = BK + chunk, pitch_x = BX + 8;
  static constexpr int along_k_size = BX * pitch_k, along_x_size = BK * pitch_x;
  static constexpr int size = along_k_size > along_x_size ? along_k_size : along_x_size;  // in elements
};

// One thread's part of the copies of an operand: chunks of 16 bytes, in one cp.async where their alignment allows it, else in pieces.
template <class Operand, class T, int BX, int BK, int threads> struct MmaCopy {
  using Tile = MmaTile<T, BX, BK>;
  static constexpr int width = Tile::chunk, per_k = BK / width, per_x = BX / width, count = BX * BK / width / threads;
  static_assert(count * threads * width == BX * BK && threads % per_k == 0 && threads % per_x == 0, "every thread copies the same number of chunks");

  const Operand& operand;
  const T* data;
  int x0, x, k, x_step, k_step, at, at_step;
  typename Operand::Place x_places[count];

  KDL_FN MmaCopy(const Operand& operand, int batch, int x0) : operand(operand), data(operand.of_batch(batch)), x0(x0) {
    const int t = threadIdx.x;
    const bool along_k = operand.along_k;
    x = along_k ? t / per_k : t % per_x * width;
    k = along_k ? t % per_k * width : t / per_x;
    x_step = along_k ? threads / per_k : 0;
    k_step = along_k ? 0 : threads / per_x;
    at = along_k ? x * Tile::pitch_k + k : k * Tile::pitch_x + x;
    at_step = along_k ? x_step * Tile::pitch_k : k_step * Tile::pitch_x;
#pragma unroll
    for (int j = 0; j < count; ++j) x_places[j] = operand.x_place(x0 + x + j * x_step);
  }

  // Elements outside the operand become zeros.
  KDL_FN void start(T* tile, int k0) const {
    if (operand.vector == width) {
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const int here_k = k0 + k + j * k_step;
        copy<16>(tile + at + j * at_step, operand.address(data, x_places[j], operand.k_place(here_k)), operand.left(x0 + x + j * x_step, here_k));
      }
      return;
    }
#pragma unroll 1
    for (int i = 0; i < count * width; i += operand.vector) {
      const int j = i / width, within = i % width;
      const int here_x = x0 + x + j * x_step + (operand.along_k ? 0 : within), here_k = k0 + k + j * k_step + (operand.along_k ? within : 0);
      const T* source = operand.address(data, operand.x_place(here_x), operand.k_place(here_k));
      T* to = tile + at + j * at_step + within;
      if (operand.vector * sizeof(T) == 8) copy<8>(to, source, operand.left(here_x, here_k));
      else if (operand.vector * sizeof(T) == 4) copy<4>(to, source, operand.left(here_x, here_k));
      else *to = source ? *source : from_compute<T>(0);  // two bytes are below cp.async
    }
  }

 private:
  template <int bytes> KDL_FN void copy(T* to, const T* source, int left) const {
    constexpr int most = bytes / sizeof(T);
    ptx::cp_async<bytes>(to, source ? source : data, source ? (left < most ? left : most) * static_cast<int>(sizeof(T)) : 0);
  }
};

// Where a lane reads the fragments of 16 rows (of a) or columns (of b), 32 bytes deep: four 8 x 8 matrices, of which a takes x before k and b
// takes k before x.
template <class T, class Tile> struct MmaFragments {
  static constexpr int depth = 32 / sizeof(T);
  bool along_k;
  int first, x_stride, k_stride;

  KDL_FN MmaFragments(bool along_k, bool is_b, int x0) : along_k(along_k) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, row = lane % 8;
    const int x_half = is_b ? matrix / 2 : matrix % 2, k_half = is_b ? matrix % 2 : matrix / 2;
    x_stride = along_k ? Tile::pitch_k : 1;
    k_stride = along_k ? 1 : Tile::pitch_x;
    if (along_k) first = (x0 + x_half * 8 + row) * x_stride + k_half * (depth / 2);
    else if (sizeof(T) == 2) first = (k_half * 8 + row) * k_stride + x0 + x_half * 8;
    else first = lane % 4 * k_stride + x0 + lane / 4;
  }

  KDL_FN void load(uint32_t (&r)[4], const T* tile, bool is_b, int block, int step) const {
    const T* from = tile + first + block * 16 * x_stride + step * depth * k_stride;
    if constexpr (sizeof(T) == 2) {
      if (along_k) ptx::ldmatrix_x4(r, from);
      else ptx::ldmatrix_x4_trans(r, from);
    } else {
      if (along_k) {
        ptx::ldmatrix_x4(r, from);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) r[j] = float_bits(from[(is_b ? j / 2 : j % 2) * 8 + (is_b ? j % 2 : j / 2) * 4 * k_stride]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) r[j] = ptx::cvt_rna_tf32(bits_float(r[j]));
    }
  }

  KDL_FN static uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
  }
  KDL_FN static float bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
  }
};

KDL_FN void mma(__half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { ptx::mma_m16n8k16_f16(d, a, b); }
KDL_FN void mma(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { ptx::mma_m16n8k16_bf16(d, a, b); }
KDL_FN void mma(float, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { ptx::mma_m16n8k8_tf32(d, a, b); }

// The sums of one thread, in the fragments of its warp.
template <class T, class Shape> struct MmaSum {
  static constexpr int blocks_m = Shape::WM / 16, blocks_n = Shape::WN / 8, rows = 2 * blocks_m, columns = 2 * blocks_n;
  using TileA = MmaTile<T, Shape::BM, Shape::template depth<T>>;
  using TileB = MmaTile<T, Shape::BN, Shape::template depth<T>>;
  float item[blocks_m][blocks_n][4] = {};

  KDL_FN static int warp_m() { return threadIdx.x / 32 / Shape::warps_n * Shape::WM; }
  KDL_FN static int warp_n() { return threadIdx.x / 32 % Shape::warps_n * Shape::WN; }
  KDL_FN static int row(int i) { return warp_m() + i / 2 * 16 + i % 2 * 8 + threadIdx.x % 32 / 4; }
  KDL_FN static int column(int j) { return warp_n() + j / 2 * 8 + j % 2 + threadIdx.x % 4 * 2; }
  KDL_FN float at(int i, int j) const { return item[i / 2][j / 2][i % 2 * 2 + j % 2]; }

  KDL_FN void multiply(const T* a, const MmaFragments<T, TileA>& from_a, const T* b, const MmaFragments<T, TileB>& from_b) {
#pragma unroll
    for (int step = 0; step < Shape::row_bytes / 32; ++step) {
      uint32_t fragments_a[blocks_m][4];
#pragma unroll
      for (int i = 0; i < blocks_m; ++i) from_a.load(fragments_a[i], a, false, i, step);
#pragma unroll
      for (int j = 0; j < blocks_n; j += 2) {
        uint32_t fragments_b[4];
        from_b.load(fragments_b, b, true, j / 2, step);
#pragma unroll
        for (int i = 0; i < blocks_m; ++i) {
          mma(T(), item[i][j], fragments_a[i], {fragments_b[0], fragments_b[1]});
          mma(T(), item[i][j + 1], fragments_a[i], {fragments_b[2], fragments_b[3]});
        }
      }
    }
  }
};

template <class T, class Shape> constexpr size_t mma_shared_bytes() {
  using Sum = MmaSum<T, Shape>;
  return sizeof(T) * Shape::STAGES * (Sum::TileA::size + Sum::TileB::size);
}

// The whole kernel. Rounds before `step` 0 only fill the ring. The barrier of a step says both that everyone's copies of this stage are there
// and that everyone has done with the stage before it, which the copies issued next overwrite.
template <class Shape, class P> KDL_FN void multiply_mma(const P& p) {
  using T = typename P::T;
  using Sum = MmaSum<T, Shape>;
  constexpr int BK = Shape::template depth<T>, STAGES = Shape::STAGES, stage_size = Sum::TileA::size + Sum::TileB::size;
  KDL_DYN_SHARED(memory);
  T* const ring = reinterpret_cast<T*>(memory);
  const BlockTile<Shape> block(p);
  const MmaCopy<typename P::Operand, T, Shape::BM, BK, Shape::threads> copy_a(p.a, block.batch, block.m0);
  const MmaCopy<typename P::Operand, T, Shape::BN, BK, Shape::threads> copy_b(p.b, block.batch, block.n0);
  const MmaFragments<T, typename Sum::TileA> fragments_a(p.a.along_k, false, Sum::warp_m());
  const MmaFragments<T, typename Sum::TileB> fragments_b(p.b.along_k, true, Sum::warp_n());
  Sum sum;
  const int steps = (block.k_end - block.k_begin + BK - 1) / BK;
  for (int step = 1 - STAGES, filling = 0, reading = 0; step < steps; ++step) {
    if (step >= 0) {
      ptx::cp_async_wait_group<STAGES - 2>();
      __syncthreads();
    }
    if (step + STAGES - 1 < steps) {
      T* const stage = ring + filling * stage_size;
      copy_a.start(stage, block.k_begin + (step + STAGES - 1) * BK);
      copy_b.start(stage + Sum::TileA::size, block.k_begin + (step + STAGES - 1) * BK);
      filling = filling + 1 < STAGES ? filling + 1 : 0;
    }
    ptx::cp_async_commit_group();
    if (step >= 0) {
      const T* const stage = ring + reading * stage_size;
      sum.multiply(stage, fragments_a, stage + Sum::TileA::size, fragments_b);
      reading = reading + 1 < STAGES ? reading + 1 : 0;
    }
  }
  store_sum(sum, p, block);
}

}  // namespace kdl
