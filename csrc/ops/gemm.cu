// What     matmul and linear: y = a b (+ bias), batched, every operand row- or column-major, on the ordinary (SIMT) arithmetic units.
// Maths    y[m, n] = sum over k of a[m, k] b[k, n], + bias[n]; linear_backward_b: gb[n] = sum over rows of gy[row, n].
// Traffic  least: M K + K N read, M N written; tiles read (N / BN) M K + (M / BM) K N, mostly from L2. 2 M N K FLOPs: bound by arithmetic
//          from M, N of about 128 on, by memory below.
// Tiling   gemm_tiles.inc. Per step of BK a block copies one tile of each operand through registers into one of two shared buffers, while
//          it multiplies the other: one barrier per step. Blocks walk the output in groups of 8 tile rows, so that L2 keeps the operands.
// Numerics float16 and bfloat16 are summed in float, float64 in double; fp32 is true fp32. k is added in ascending order in every tile
//          shape, so results do not depend on the tile chosen.
// Limits   one of the two strides of each matrix is 1 element; y is row-major. M, N, K below 2^31.
// Measured not yet on hardware.
#include "kdl/tile.h"

namespace kdl::gemm {

// --- device ---

// A matrix inside a batch: element (x, k) lies at x * stride_x + k * stride_k, where x is m for a and n for b. One stride is 1.
template <class T> struct Operand {
  const T* data;
  int64_t stride_x, stride_k, batch_outer, batch_inner;

  KDL_FN const T* of_batch(int64_t outer, int64_t inner) const { return data + outer * batch_outer + inner * batch_inner; }
};

// One tile of an operand on its way to shared memory.
template <class T, int BX, int BK, int threads> struct OperandCopy {
  using Place = TilePlace<BX, BK, threads>;
  using Neighbours = Vector<T, Place::width>;

  const Operand<T>& matrix;
  const T* data;
  int x0, X, K;
  bool vectors;  // every group of neighbours starts at an aligned address
  Place place;
  Neighbours held;

  KDL_FN OperandCopy(const Operand<T>& matrix, const T* data, int x0, int X, int K, bool vectors)
      : matrix(matrix), data(data), x0(x0), X(X), K(K), vectors(vectors), place(matrix.stride_k == 1) {}

  // Elements outside the matrix are zero.
  KDL_FN void load(int k0) {
    const int x = x0 + place.x, k = k0 + place.k, left = place.along_k ? K - k : X - x;
    const bool inside = place.along_k ? x < X : k < K;
    const T* source = data + x * matrix.stride_x + k * matrix.stride_k;
    if (vectors && inside && left >= Place::width) {
      held = *reinterpret_cast<const Neighbours*>(source);
    } else {
#pragma unroll
      for (int i = 0; i < Place::width; ++i) held.item[i] = inside && i < left ? source[i] : from_compute<T>(0);
    }
  }

  template <class A, int pitch> KDL_FN void store(A (*tile)[pitch]) const { place.store(tile, held.item); }
};

template <class T> struct AddBias {
  const T* bias;  // or nullptr
  KDL_FN compute_t<T> operator()(compute_t<T> sum, int n) const { return bias ? sum + to_compute(bias[n]) : sum; }
};

template <class T, class Shape, class Epilogue>
__global__ void __launch_bounds__(Shape::threads)
    gemm_simt_kernel(Operand<T> a, Operand<T> b, T* y, int M, int N, int K, int batches_inner, TileOrder order, bool vectors_a, bool vectors_b,
                     Epilogue epilogue) {
  const int tiles = order.m_tiles * order.n_tiles, batch = blockIdx.x / tiles;
  int m0, n0;
  order.place(blockIdx.x % tiles, &m0, &n0);
  m0 *= Shape::BM;
  n0 *= Shape::BN;
  const int outer = batch / batches_inner, inner = batch % batches_inner;
  OperandCopy<T, Shape::BM, Shape::BK, Shape::threads> copy_a(a, a.of_batch(outer, inner), m0, M, K, vectors_a);
  OperandCopy<T, Shape::BN, Shape::BK, Shape::threads> copy_b(b, b.of_batch(outer, inner), n0, N, K, vectors_b);
  TileSum<compute_t<T>, Shape> sum;
  multiply_tiles(copy_a, copy_b, 0, K, sum);

  T* out = y + static_cast<int64_t>(batch) * M * N;
#pragma unroll
  for (int i = 0; i < Shape::TM; ++i) {
    const int m = m0 + sum.row(i);
#pragma unroll
    for (int j = 0; j < Shape::TN; ++j) {
      const int n = n0 + sum.column(j);
      if (m < M && n < N) out[static_cast<int64_t>(m) * N + n] = from_compute<T>(epilogue(sum.item[i][j], n));
    }
  }
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

// What a product needs to know of its arrays, checked.
struct Product {
  int M, N, K, batches_outer, batches_inner;

  int64_t batches() const { return static_cast<int64_t>(batches_outer) * batches_inner; }
};

int to_int(int64_t n, const char* name) {
  expect(n < int64_t{1} << 31, name, " must be below 2^31, got ", n);
  return static_cast<int>(n);
}

// The stride of leading dimension `from_matrix` (1 is the one next to the matrix); 0 where it is missing or broadcast.
int64_t batch_stride(const char* name, const Array& array, int from_matrix, int64_t batches) {
  const int d = array.ndim - 2 - from_matrix;
  if (d < 0 || array.shape[d] == 1) return 0;
  expect(array.shape[d] == batches, name, " must have as many matrices as y or one, got ", array.shape[d], " and ", batches);
  return array.strides[d];
}

// `x_dim` and `k_dim` are the operand's dimensions counted from the end: a is (M, K), b is (K, N), linear's weight is (N, K).
template <class T> Operand<T> operand(const char* name, const Array& array, int x_dim, int k_dim, const Product& p) {
  const int x_at = array.ndim - x_dim, k_at = array.ndim - k_dim;
  int64_t x = array.strides[x_at], k = array.strides[k_at];
  if (array.shape[x_at] == 1) x = k == 1 ? 0 : 1;  // a dimension of length 1 has any stride: choose the one that helps
  if (array.shape[k_at] == 1) k = x == 1 ? 0 : 1;
  expect(x == 1 || k == 1, name, " must be row-major or column-major, got ", array, " with strides ", x, " and ", k);
  return {array.as<const T>(), x, k, batch_stride(name, array, 2, p.batches_outer), batch_stride(name, array, 1, p.batches_inner)};
}

// Whether every group of `width` neighbours that a thread may load starts at an aligned address.
template <class T> bool loads_vectors(const Operand<T>& m, int width) {
  const size_t bytes = width * sizeof(T);
  const bool strides = (m.stride_x == 1 ? m.stride_k : m.stride_x) % width == 0 && m.batch_outer % width == 0 && m.batch_inner % width == 0;
  return strides && reinterpret_cast<uintptr_t>(m.data) % (bytes < 16 ? bytes : 16) == 0;
}

template <class T, class Shape>
void launch_simt(const Operand<T>& a, const Operand<T>& b, const Array& y, const Product& p, const AddBias<T>& epilogue, Stream stream) {
  const TileOrder order{(p.M + Shape::BM - 1) / Shape::BM, (p.N + Shape::BN - 1) / Shape::BN};
  const int64_t blocks = p.batches() * order.m_tiles * order.n_tiles;
  const bool vectors_a = loads_vectors(a, TilePlace<Shape::BM, Shape::BK, Shape::threads>::width);
  const bool vectors_b = loads_vectors(b, TilePlace<Shape::BN, Shape::BK, Shape::threads>::width);
  launch<gemm_simt_kernel<T, Shape, AddBias<T>>>({blocks_for(blocks, 1), Shape::threads, stream}, a, b, y.as<T>(), p.M, p.N, p.K,
                                                 p.batches_inner, order, vectors_a, vectors_b, epilogue);
}

template <class T>
void multiply(const Operand<T>& a, const Operand<T>& b, const Array& y, const Product& p, const AddBias<T>& epilogue, Stream stream) {
  const int sms = multiprocessors();
  decltype(&launch_simt<T, TileShape<32, 32, 8, 4, 4>>) best = nullptr;
  int64_t least = 0;
  const auto consider = [&](auto shape) {
    using Shape = typename decltype(shape)::type;
    const int64_t cost = tile_cost(p.M, p.N, p.batches(), Shape::BM, Shape::BN, sms);
    if (best == nullptr || cost < least) best = launch_simt<T, Shape>, least = cost;
  };
#define KDL_GEMM_SIMT(...) consider(Type<TileShape<__VA_ARGS__>>{});
#include "gemm_tiles.inc"
#undef KDL_GEMM_SIMT
  best(a, b, y, p, epilogue, stream);
}

void matmul_forward(const Array& a, const Array& b, const Array& y, Stream stream) {
  expect(a.dtype == b.dtype && a.dtype == y.dtype, "a, b and y must share one dtype, got a ", a, ", b ", b, ", y ", y);
  expect(a.ndim >= 2 && b.ndim >= 2 && y.ndim >= 2 && y.ndim <= 4 && a.ndim <= y.ndim && b.ndim <= y.ndim && y.is_contiguous(),
         "a, b and y must be matrices with at most two leading dimensions, y contiguous, got a ", a, ", b ", b, ", y ", y);
  const int64_t M = y.shape[y.ndim - 2], N = y.shape[y.ndim - 1], K = a.shape[a.ndim - 1];
  expect(a.shape[a.ndim - 2] == M && b.shape[b.ndim - 1] == N && b.shape[b.ndim - 2] == K, "a must be (M, K), b (K, N) and y (M, N), got a ", a,
         ", b ", b, ", y ", y);
  if (y.size() == 0) return;
  const Product p{to_int(M, "M"), to_int(N, "N"), to_int(K, "K"), y.ndim > 3 ? to_int(y.shape[0], "the batch") : 1,
                  y.ndim > 2 ? to_int(y.shape[y.ndim - 3], "the batch") : 1};
  dispatch_floating(y, "y", [&](auto type) {
    using T = typename decltype(type)::type;
    multiply<T>(operand<T>("a", a, 2, 1, p), operand<T>("b", b, 1, 2, p), y, p, {nullptr}, stream);
  });
}

void linear_forward(const Array& x, const Array& w, OptionalArray b, const Array& y, Stream stream) {
  expect(x.dtype == w.dtype && x.dtype == y.dtype && (!b || b->dtype == x.dtype), "x, w, b and y must share one dtype, got x ", x, ", w ", w, ", y ", y);
  expect(x.ndim == 2 && w.ndim == 2 && y.ndim == 2 && y.is_contiguous() && x.shape[0] == y.shape[0] && w.shape[0] == y.shape[1] &&
             x.shape[1] == w.shape[1],
         "x must be (rows, K), w (N, K) and y (rows, N), y contiguous, got x ", x, ", w ", w, ", y ", y);
  expect(!b || (b->ndim == 1 && b->shape[0] == y.shape[1] && b->is_contiguous()), "b must be contiguous with one element per output, y ", y);
  if (y.size() == 0) return;
  const Product p{to_int(y.shape[0], "rows"), to_int(y.shape[1], "N"), to_int(x.shape[1], "K"), 1, 1};
  dispatch_floating(y, "y", [&](auto type) {
    using T = typename decltype(type)::type;
    multiply<T>(operand<T>("x", x, 2, 1, p), operand<T>("w", w, 2, 1, p), y, p, {b ? b->as<const T>() : nullptr}, stream);
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

KDL_EXPORT(matmul_forward, "a", "b", "y")
KDL_EXPORT(linear_forward, "x", "w", "b", "y")
KDL_EXPORT(linear_backward_b, "gy", "gb")

}  // namespace kdl::gemm
