// Matrix products by tiles, for gemm.cu and conv.cu: the product as its kernels see it, a block's share of it, and the end of the sums.
// tile_simt.h and tile_mma.h multiply; a family brings its operands (where element (x, k) lies, or that it is zero) and its output.
#pragma once
#include "kdl/dispatch.h"
#include "kdl/launch.h"

namespace kdl {

// out = a b for `batches` pairs of matrices: a is (M, K), b is (K, N). With more than one split, split s adds up only its own stretch of k
// and leaves it in partial[s][batch][m][n]; add_splits_kernel finishes.
template <class T_, class Operand_, class Output_> struct Product {
  using T = T_;
  using A = compute_t<T>;
  using Operand = Operand_;
  using Output = Output_;

  Operand a, b;  // x is m in a, n in b
  Output out;
  int M, N, K, batches;
  int splits = 1, k_per_split = 0;
  A* partial = nullptr;
};

// A few neighbours, loaded or stored in one instruction where their address is aligned.
template <class T, int n> struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Vector {
  T item[n];
};

// The blocks that may share a multiprocessor when each thread has this many registers: the second argument of __launch_bounds__.
constexpr int blocks_within(int registers, int threads) { return 65536 / (registers * threads); }

// The output tile of a block and its stretch of k. Tiles go in groups of 8 tile rows, each walked column by column, so that L2 keeps the
// operands of neighbours; then batches; the splits are the grid's second dimension.
template <class Shape> struct BlockTile {
  static constexpr int group = 8;
  int m0, n0, batch, k_begin, k_end;

  template <class P> KDL_FN explicit BlockTile(const P& p) {
    const int m_tiles = (p.M + Shape::BM - 1) / Shape::BM, n_tiles = (p.N + Shape::BN - 1) / Shape::BN, tiles = m_tiles * n_tiles;
    batch = blockIdx.x / tiles;
    const int tile = blockIdx.x % tiles, first = tile / (group * n_tiles) * group, within = tile % (group * n_tiles);
    const int rows = m_tiles - first < group ? m_tiles - first : group;
    m0 = (first + within % rows) * Shape::BM;
    n0 = within / rows * Shape::BN;
    k_begin = blockIdx.y * p.k_per_split;
    k_end = p.splits == 1 || p.K - k_begin < p.k_per_split ? p.K : k_begin + p.k_per_split;
  }
};

// Writes a thread's sums, whose elements (i, j) belong to row(i), column(j) of the tile; columns come in pairs of neighbours. What depends on
// the row or the column alone is found once.
template <class Sum, class P, class Block> KDL_FN void store_sum(const Sum& sum, const P& p, const Block& block) {
  using T = typename P::T;
  if (p.splits > 1) {
    typename P::A* to = p.partial + (static_cast<int64_t>(blockIdx.y) * p.batches + block.batch) * p.M * p.N;
#pragma unroll
    for (int i = 0; i < Sum::rows; ++i)
#pragma unroll
      for (int j = 0; j < Sum::columns; ++j) {
        const int m = block.m0 + sum.row(i), n = block.n0 + sum.column(j);
        if (m < p.M && n < p.N) to[static_cast<int64_t>(m) * p.N + n] = sum.at(i, j);
      }
    return;
  }
  int64_t columns[Sum::columns];
  typename P::A biases[Sum::columns];
#pragma unroll
  for (int j = 0; j < Sum::columns; ++j) {
    const int n = block.n0 + sum.column(j);
    columns[j] = n < p.N ? p.out.column(n) : -1;
    biases[j] = n < p.N ? p.out.column_bias(block.batch, n) : 0;
  }
#pragma unroll
  for (int i = 0; i < Sum::rows; ++i) {
    const int m = block.m0 + sum.row(i);
    if (m >= p.M) continue;
    T* const row = p.out.data + p.out.row(block.batch, m);
    const typename P::A bias = p.out.row_bias(block.batch, m);
#pragma unroll
    for (int j = 0; j < Sum::columns; j += 2) {
      const T first = p.out.finish(sum.at(i, j) + bias + biases[j]), second = p.out.finish(sum.at(i, j + 1) + bias + biases[j + 1]);
      if (p.out.pairs) {
        if (columns[j] >= 0) *reinterpret_cast<Vector<T, 2>*>(row + columns[j]) = {first, second};
      } else {
        if (columns[j] >= 0) row[columns[j]] = first;
        if (columns[j + 1] >= 0) row[columns[j + 1]] = second;
      }
    }
  }
}

// out = the partial sums of the splits, added in ascending order.
template <class P> __global__ void __launch_bounds__(256) add_splits_kernel(P p) {
  const int64_t each = static_cast<int64_t>(p.M) * p.N, all = each * p.batches, at = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (at >= all) return;
  typename P::A sum = 0;
  for (int split = 0; split < p.splits; ++split) sum += p.partial[split * all + at];
  const int batch = static_cast<int>(at / each), m = static_cast<int>(at % each / p.N), n = static_cast<int>(at % p.N);
  p.out.data[p.out.row(batch, m) + p.out.column(n)] = p.out.finish(sum + p.out.row_bias(batch, m) + p.out.column_bias(batch, n));
}

template <class P> void add_splits(const P& p, Stream stream) {
  if (p.splits > 1) launch<add_splits_kernel<P>>({blocks_for(static_cast<int64_t>(p.M) * p.N * p.batches, 256), 256, stream}, p);
}

template <class Shape, class P> dim3 tile_grid(const P& p) {
  const int64_t m_tiles = (p.M + Shape::BM - 1) / Shape::BM, n_tiles = (p.N + Shape::BN - 1) / Shape::BN;
  return dim3(blocks_for(m_tiles * n_tiles * p.batches, 1), static_cast<unsigned>(p.splits));
}

}  // namespace kdl
