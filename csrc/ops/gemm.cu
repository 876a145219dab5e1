// What     matmul and linear: y = a b (+ bias, then ReLU), batched, every operand row- or column-major. gemm_mma on the tensor cores for float16,
//          bfloat16 and, where the caller allows TF32, float32; gemm_simt on the ordinary arithmetic units for the rest.
// Maths    y[m, n] = sum over k of a[m, k] b[k, n], + bias[n], max(., 0); linear_backward_b: gb[n] = sum over rows of gy[row, n].
// Traffic  per batch ceil(N / BN) M K + ceil(M / BM) K N elements read, mostly from L2 (least: M K + K N), M N written; with S splits of k another
//          S M N floats written and read. 2 M N K FLOPs: bound by arithmetic from M, N of about 128 on, by memory below.
// Tiling   gemm_tiles.inc; kdl/tile_mma.h and kdl/tile_simt.h say how a block multiplies, kdl/choose.h how the row is chosen. Blocks walk the
//          output in groups of 8 tile rows, so that L2 keeps the operands. Skinny products split k over blocks.
// Numerics float16 and bfloat16 are summed in float, float64 in double; fp32 is true fp32 unless TF32 is asked for. k is added in ascending order,
//          in the tensor cores 8 or 16 at a time; splits are added in ascending order. Same shapes, same device, same bits.
// Limits   one of the two strides of each matrix is 1 element; y is row-major. M, N, K below 2^31. Tensor cores take any alignment, slower
//          below 16 bytes; they need compute capability 8.0, older devices take gemm_simt.
// Measured not yet on hardware.
#include <limits>

#include "kdl/choose.h"
#include "kdl/tile_mma.h"
#include "kdl/tile_simt.h"

namespace kdl::gemm {

// --- device ---

// The matrices of a batch: element (x, k) lies at x * stride_x + k * stride_k, where x is m for a and n for b. One stride is 1.
template <class T> struct MatrixOperand {
  using Place = int64_t;  // negative outside
  static constexpr bool places_are_dear = false;

  const T* data;
  int64_t stride_x, stride_k, batch_outer, batch_inner;
  int X, K, batches_inner;
  int vector;    // so many neighbours lie side by side at an aligned address, in groups counted from 0
  bool along_k;  // they are neighbours along k

  KDL_FN const T* of_batch(int batch) const { return data + batch / batches_inner * batch_outer + batch % batches_inner * batch_inner; }
  KDL_FN Place x_place(int x) const { return x < X ? x * stride_x : -1; }
  KDL_FN Place k_place(int k) const { return k < K ? k * stride_k : -1; }
  KDL_FN int left(int x, int k) const { return along_k ? K - k : X - x; }  // neighbours from here to the edge
  KDL_FN const T* address(const T* matrix, Place x, Place k) const { return (x | k) < 0 ? nullptr : matrix + x + k; }
};

// Row-major y with its epilogue: a bias per column, and a floor: 0 for ReLU, minus infinity for none.
template <class T> struct MatrixOutput {
  T* data;
  int64_t batch_stride;
  int N;
  const T* bias;  // or nullptr
  compute_t<T> floor;
  bool pairs;  // two neighbours of a row may be stored at once

  KDL_FN int64_t row(int batch, int m) const { return batch * batch_stride + static_cast<int64_t>(m) * N; }
  KDL_FN int64_t column(int n) const { return n; }
  KDL_FN compute_t<T> row_bias(int, int) const { return 0; }
  KDL_FN compute_t<T> column_bias(int, int n) const { return bias ? to_compute(bias[n]) : compute_t<T>(0); }
  KDL_FN T finish(compute_t<T> sum) const { return from_compute<T>(sum < floor ? floor : sum); }  // NaN stays
};

template <class T> using MatrixProduct = Product<T, MatrixOperand<T>, MatrixOutput<T>>;

template <class Shape, int registers, class P>
__global__ void __launch_bounds__(Shape::threads, blocks_within(registers, Shape::threads)) gemm_simt_kernel(const __grid_constant__ P product) {
  multiply_simt<Shape>(product);
}

template <class Shape, int registers, class P>
__global__ void __launch_bounds__(Shape::threads, blocks_within(registers, Shape::threads)) gemm_mma_kernel(const __grid_constant__ P product) {
  multiply_mma<Shape>(product);
}

// gb[n] = sum over rows of gy[row, n]: a block owns 32 columns; its warps take the rows in turn and are added in order.
template <class T, int warps>
__global__ void __launch_bounds__(32 * warps) column_sum_kernel(const T* gy, T* gb, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  using Partials = compute_t<T>[warps][32];
  KDL_SHARED(Partials, partial);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  compute_t<T> sum = 0;
  if (column < columns)
    for (int64_t row = warp; row < rows; row += warps) sum += to_compute(gy[row * row_stride + column * column_stride]);
  partial[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
#pragma unroll
  for (int w = 1; w < warps; ++w) sum += partial[w][lane];
  gb[column] = from_compute<T>(sum);
}

// --- launch ---

// One call's checked sizes. `outer` and `inner` are the dimensions of the batch.
struct Sizes {
  int M, N, K, outer, inner;

  TileChooser::Sizes of_product() const { return {M, N, K, static_cast<int64_t>(outer) * inner}; }
};

int to_int(int64_t n, const char* name) {
  expect(n < int64_t{1} << 31, name, " must be below 2^31, got ", n);
  return static_cast<int>(n);
}

// The row of gemm_tiles.inc for these sizes. The workspace and the launch ask the same question.
template <class T> TileChoice choose(const Sizes& z, bool tf32) {
  using namespace tile_types;
  TileChooser chooser(z.of_product(), sizeof(T), 64);
#define KDL_GEMM_SIMT(TYPES, BM, BN, BK, TM, TN, REGISTERS) \
  chooser.consider("gemm_simt " #BM "x" #BN "x" #BK, {BM, BN, BK, 1}, is_among<T>(TYPES) ? "" : "it has no instance of this type");
#define KDL_GEMM_MMA(BM, BN, BK, WM, WN, STAGES, REGISTERS)                                                                     \
  chooser.consider("gemm_mma " #BM "x" #BN "x" #BK, {BM, BN, MmaShape<BM, BN, BK, WM, WN, STAGES>::template depth<T>, sizeof(T) == 2 ? 8 : 4}, \
                   chooser.mma_obstacle(sizeof(T) == 2, sizeof(T) == 4, tf32, mma_shared_bytes<T, MmaShape<BM, BN, BK, WM, WN, STAGES>>()));
#include "gemm_tiles.inc"
#undef KDL_GEMM_SIMT
#undef KDL_GEMM_MMA
  return chooser.best();
}

template <class T> int64_t workspace_of(const Sizes& z, bool tf32) {
  const int splits = choose<T>(z, tf32).splits;
  return splits == 1 ? 0 : splits * static_cast<int64_t>(sizeof(compute_t<T>)) * z.outer * z.inner * z.M * z.N;
}

template <class T> void multiply(MatrixProduct<T> p, const Sizes& z, bool tf32, Workspace workspace, Stream stream) {
  using namespace tile_types;
  const TileChoice choice = choose<T>(z, tf32);
  p.splits = choice.splits;
  p.k_per_split = choice.k_per_split;
  p.partial = static_cast<compute_t<T>*>(workspace.data);
  int row = 0;
#define KDL_GEMM_SIMT(TYPES, BM, BN, BK, TM, TN, REGISTERS)                                                             \
  if constexpr (is_among<T>(TYPES)) {                                                                                   \
    using Shape = SimtShape<BM, BN, BK, TM, TN>;                                                                        \
    if (row == choice.row) launch<gemm_simt_kernel<Shape, REGISTERS, MatrixProduct<T>>>({tile_grid<Shape>(p), Shape::threads, stream}, p); \
  }                                                                                                                     \
  ++row;
#define KDL_GEMM_MMA(BM, BN, BK, WM, WN, STAGES, REGISTERS)                                                             \
  if constexpr (sizeof(T) <= 4) {                                                                                       \
    using Shape = MmaShape<BM, BN, BK, WM, WN, STAGES>;                                                                 \
    constexpr size_t shared = mma_shared_bytes<T, Shape>();                                                             \
    if (row == choice.row) launch<gemm_mma_kernel<Shape, REGISTERS, MatrixProduct<T>>>({tile_grid<Shape>(p), Shape::threads, stream, shared}, p); \
  }                                                                                                                     \
  ++row;
#include "gemm_tiles.inc"
#undef KDL_GEMM_SIMT
#undef KDL_GEMM_MMA
  add_splits(p, stream);
}

// The stride of leading dimension `from_matrix` (1 is the one next to the matrix); 0 where it is missing or broadcast.
int64_t batch_stride(const char* name, const Array& array, int from_matrix, int64_t batches) {
  const int d = array.ndim - 2 - from_matrix;
  if (d < 0 || array.shape[d] == 1) return 0;
  expect(array.shape[d] == batches, name, " must have as many matrices as y or one, got ", array.shape[d], " and ", batches);
  return array.strides[d];
}

// The widest group of neighbours, up to 16 bytes, that always starts at an aligned address.
template <class T> int vector_of(const MatrixOperand<T>& m) {
  for (int width = 16 / sizeof(T); width > 1; width /= 2) {
    const bool strides = (m.along_k ? m.stride_x : m.stride_k) % width == 0 && m.batch_outer % width == 0 && m.batch_inner % width == 0;
    if (strides && reinterpret_cast<uintptr_t>(m.data) % (width * sizeof(T)) == 0) return width;
  }
  return 1;
}

// `x_dim` and `k_dim` are the operand's dimensions counted from the end: a is (M, K), b is (K, N), linear's weight is (N, K).
template <class T> MatrixOperand<T> operand(const char* name, const Array& array, int x_dim, int k_dim, const Sizes& z) {
  const int x_at = array.ndim - x_dim, k_at = array.ndim - k_dim;
  int64_t x = array.strides[x_at], k = array.strides[k_at];
  if (array.shape[x_at] == 1) x = k == 1 ? 0 : 1;  // a dimension of length 1 has any stride: choose the one that helps
  if (array.shape[k_at] == 1) k = x == 1 ? 0 : 1;
  expect(x == 1 || k == 1, name, " must be row-major or column-major, got ", array, " with strides ", x, " and ", k);
  MatrixOperand<T> m{array.as<const T>(), x, k, batch_stride(name, array, 2, z.outer), batch_stride(name, array, 1, z.inner),
                     static_cast<int>(array.shape[x_at]), z.K, z.inner, 1, k == 1};
  m.vector = vector_of(m);
  return m;
}

template <class T> MatrixOutput<T> output(const Array& y, OptionalArray bias, bool relu, const Sizes& z) {
  const bool pairs = z.N % 2 == 0 && reinterpret_cast<uintptr_t>(y.data) % (2 * sizeof(T)) == 0;
  return {y.as<T>(), static_cast<int64_t>(z.M) * z.N, z.N, bias ? bias->as<const T>() : nullptr,
          relu ? compute_t<T>(0) : -std::numeric_limits<compute_t<T>>::infinity(), pairs};
}

Sizes matmul_sizes(const Array& a, const Array& b, const Array& y) {
  expect(a.dtype == b.dtype && a.dtype == y.dtype, "a, b and y must share one dtype, got a ", a, ", b ", b, ", y ", y);
  expect(a.ndim >= 2 && b.ndim >= 2 && y.ndim >= 2 && y.ndim <= 4 && a.ndim <= y.ndim && b.ndim <= y.ndim && y.is_contiguous(),
         "a, b and y must be matrices with at most two leading dimensions, y contiguous, got a ", a, ", b ", b, ", y ", y);
  const int64_t M = y.shape[y.ndim - 2], N = y.shape[y.ndim - 1], K = a.shape[a.ndim - 1];
  expect(a.shape[a.ndim - 2] == M && b.shape[b.ndim - 1] == N && b.shape[b.ndim - 2] == K, "a must be (M, K), b (K, N) and y (M, N), got a ", a,
         ", b ", b, ", y ", y);
  return {to_int(M, "M"), to_int(N, "N"), to_int(K, "K"), y.ndim > 3 ? to_int(y.shape[0], "the batch") : 1,
          y.ndim > 2 ? to_int(y.shape[y.ndim - 3], "the batch") : 1};
}

int64_t matmul_forward_workspace(const Array& a, const Array& b, const Array& y, bool tf32) {
  const Sizes z = matmul_sizes(a, b, y);
  int64_t bytes = 0;
  if (y.size() > 0) dispatch_floating(y, "y", [&](auto type) { bytes = workspace_of<typename decltype(type)::type>(z, tf32); });
  return bytes;
}

void matmul_forward(const Array& a, const Array& b, const Array& y, bool tf32, Workspace workspace, Stream stream) {
  const Sizes z = matmul_sizes(a, b, y);
  if (y.size() == 0) return;
  dispatch_floating(y, "y", [&](auto type) {
    using T = typename decltype(type)::type;
    const MatrixProduct<T> product{operand<T>("a", a, 2, 1, z), operand<T>("b", b, 1, 2, z), output<T>(y, nullptr, false, z), z.M, z.N, z.K,
                                   z.outer * z.inner};
    multiply<T>(product, z, tf32, workspace, stream);
  });
}

Sizes linear_sizes(const Array& x, const Array& w, OptionalArray b, const Array& y) {
  expect(x.dtype == w.dtype && x.dtype == y.dtype && (!b || b->dtype == x.dtype), "x, w, b and y must share one dtype, got x ", x, ", w ", w, ", y ", y);
  expect(x.ndim == 2 && w.ndim == 2 && y.ndim == 2 && y.is_contiguous() && x.shape[0] == y.shape[0] && w.shape[0] == y.shape[1] &&
             x.shape[1] == w.shape[1],
         "x must be (rows, K), w (N, K) and y (rows, N), y contiguous, got x ", x, ", w ", w, ", y ", y);
  expect(!b || (b->ndim == 1 && b->shape[0] == y.shape[1] && b->is_contiguous()), "b must be contiguous with one element per output, y ", y);
  return {to_int(y.shape[0], "rows"), to_int(y.shape[1], "N"), to_int(x.shape[1], "K"), 1, 1};
}

int64_t linear_forward_workspace(const Array& x, const Array& w, OptionalArray b, const Array& y, bool, bool tf32) {
  const Sizes z = linear_sizes(x, w, b, y);
  int64_t bytes = 0;
  if (y.size() > 0) dispatch_floating(y, "y", [&](auto type) { bytes = workspace_of<typename decltype(type)::type>(z, tf32); });
  return bytes;
}

void linear_forward(const Array& x, const Array& w, OptionalArray b, const Array& y, bool relu, bool tf32, Workspace workspace, Stream stream) {
  const Sizes z = linear_sizes(x, w, b, y);
  if (y.size() == 0) return;
  dispatch_floating(y, "y", [&](auto type) {
    using T = typename decltype(type)::type;
    const MatrixProduct<T> product{operand<T>("x", x, 2, 1, z), operand<T>("w", w, 2, 1, z), output<T>(y, b, relu, z), z.M, z.N, z.K, 1};
    multiply<T>(product, z, tf32, workspace, stream);
  });
}

void linear_backward_b(const Array& gy, const Array& gb, Stream stream) {
  expect(gy.dtype == gb.dtype && gy.ndim == 2 && gb.ndim == 1 && gb.shape[0] == gy.shape[1] && gb.is_contiguous(),
         "gy must be (rows, N) and gb (N,) of one dtype, got gy ", gy, ", gb ", gb);
  if (gb.size() == 0) return;
  dispatch_floating(gy, "gy", [&](auto type) {
    using T = typename decltype(type)::type;
    launch<column_sum_kernel<T, 8>>({blocks_for(gb.size(), 32), 256, stream}, gy.as<const T>(), gb.as<T>(), gy.shape[0], gy.shape[1],
                                    gy.strides[0], gy.strides[1]);
  });
}

KDL_EXPORT_WITH_WORKSPACE(matmul_forward, matmul_forward_workspace, "a", "b", "y", "tf32")
KDL_EXPORT_WITH_WORKSPACE(linear_forward, linear_forward_workspace, "x", "w", "b", "y", "relu", "tf32")
KDL_EXPORT(linear_backward_b, "gy", "gb")

}  // namespace kdl::gemm
