// What     conv2d forward, backward_x and backward_w as implicit matrix products, with groups; depthwise convolutions (one filter per
//          channel) directly. Transposed convolution is backward_x called as a forward. No im2col matrix is ever written. conv2d_mma on the
//          tensor cores for float16, bfloat16 and, where the caller allows TF32, float32; conv2d_simt for the rest.
// Maths    y[n,k,p,q] = sum over c,r,s of x[n, c, p stride - padding + r dilation, ...] w[k,c,r,s] + b[k]; backward_x and backward_w are its
//          adjoints in x and in w. 2 N K P Q C R S / groups FLOPs each.
// Traffic  least: x, w and y once. A product of M x N over K reads ceil(N / BN) M K + ceil(M / BM) N K elements, less what lies outside the
//          image, mostly from L1 and L2; backward_w in S splits writes and reads S floats for each of gw. Bound by arithmetic from C of about 32 on.
// Tiling   conv_tiles.inc; kdl/tile_mma.h and kdl/tile_simt.h say how a block multiplies. Products: forward positions x filters over (c,r,s);
//          backward_x positions x channels over (k,r,s), once per phase of the stride, with only the taps that meet the phase, so no zero is
//          inserted or multiplied; backward_w filters x (c,r,s) over positions, split over blocks. Contiguous arrays swap the sides of
//          forward and backward_x, so that stores stay contiguous.
// Numerics float16 and bfloat16 are summed in float, float64 in double; fp32 is true fp32 unless TF32 is asked for; every sum has one fixed
//          order, the splits' too.
// Limits   contiguous or channels-last, all arrays alike; N P Q and N H W below 2^31. Tensor cores load 16 bytes at a time where 8 halves (4
//          floats) are neighbours: channels-last with channels in eights, or 1 x 1 filters; else element by element.
// Measured not yet on hardware.
#include "conv_operands.h"
#include "kdl/choose.h"
#include "kdl/reduce.h"
#include "kdl/tile_mma.h"
#include "kdl/tile_simt.h"

namespace kdl::conv {

// --- device ---

template <class Shape, int registers, class P>
__global__ void __launch_bounds__(Shape::threads, blocks_within(registers, Shape::threads)) conv2d_simt_kernel(const __grid_constant__ P product) {
  multiply_simt<Shape>(product);
}

template <class Shape, int registers, class P>
__global__ void __launch_bounds__(Shape::threads, blocks_within(registers, Shape::threads)) conv2d_mma_kernel(const __grid_constant__ P product) {
  multiply_mma<Shape>(product);
}

// Depthwise forward and backward_x: one thread per element of the result. Filter `channel * multiplier + m` belongs to `channel`.
struct Depthwise {
  ImageStrides x, w, y;
  int H, W, P, Q, R, S, multiplier;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  ImageOrder order;  // of the array that the threads run over
};

template <class T> __global__ void __launch_bounds__(256) depthwise_forward_kernel(const T* x, const T* w, const T* b, T* y, Depthwise d, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= count) return;
  int n, k, p, q;
  d.order.place(index, &n, &k, &p, &q);
  const T* image = x + n * d.x.n + k / d.multiplier * d.x.c;
  compute_t<T> sum = b ? to_compute(b[k]) : compute_t<T>(0);
  for (int r = 0; r < d.R; ++r) {
    const int h = p * d.stride_h - d.padding_h + r * d.dilation_h;
    if (h < 0 || h >= d.H) continue;
    for (int s = 0; s < d.S; ++s) {
      const int column = q * d.stride_w - d.padding_w + s * d.dilation_w;
      if (column >= 0 && column < d.W) sum += to_compute(image[h * d.x.h + column * d.x.w]) * to_compute(w[k * d.w.n + r * d.w.h + s * d.w.w]);
    }
  }
  y[index] = from_compute<T>(sum);
}

template <class T> __global__ void __launch_bounds__(256) depthwise_backward_x_kernel(const T* gy, const T* w, T* gx, Depthwise d, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= count) return;
  int n, c, h, column;
  d.order.place(index, &n, &c, &h, &column);
  compute_t<T> sum = 0;
  for (int k = c * d.multiplier; k < (c + 1) * d.multiplier; ++k)
    for (int r = 0; r < d.R; ++r) {
      const int p = h + d.padding_h - r * d.dilation_h;
      if (p < 0 || p % d.stride_h != 0 || p / d.stride_h >= d.P) continue;
      for (int s = 0; s < d.S; ++s) {
        const int q = column + d.padding_w - s * d.dilation_w;
        if (q < 0 || q % d.stride_w != 0 || q / d.stride_w >= d.Q) continue;
        sum += to_compute(gy[n * d.y.n + k * d.y.c + p / d.stride_h * d.y.h + q / d.stride_w * d.y.w]) *
               to_compute(w[k * d.w.n + r * d.w.h + s * d.w.w]);
      }
    }
  gx[index] = from_compute<T>(sum);
}

// One block per filter and tap; its threads share the pixels in a fixed way.
template <class T, int threads>
__global__ void __launch_bounds__(threads) depthwise_backward_w_kernel(const T* x, const T* gy, T* gw, Depthwise d, int64_t pixels) {
  const int k = blockIdx.x, r = blockIdx.y / d.S, s = blockIdx.y % d.S;
  compute_t<T> sum = 0;
  for (int64_t pixel = threadIdx.x; pixel < pixels; pixel += threads) {
    int n, p, q;
    d.order.places(pixel, &n, &p, &q);
    const int h = p * d.stride_h - d.padding_h + r * d.dilation_h, column = q * d.stride_w - d.padding_w + s * d.dilation_w;
    if (h >= 0 && h < d.H && column >= 0 && column < d.W)
      sum += to_compute(x[n * d.x.n + k / d.multiplier * d.x.c + h * d.x.h + column * d.x.w]) *
             to_compute(gy[n * d.y.n + k * d.y.c + p * d.y.h + q * d.y.w]);
  }
  sum = block_sum<threads>(sum);
  if (threadIdx.x == 0) gw[k * d.w.n + r * d.w.h + s * d.w.w] = from_compute<T>(sum);
}

// gb[k] = the sum of gy over everything but its channels: one block per channel, its threads share the pixels in a fixed way.
template <class T> __global__ void __launch_bounds__(256) channel_sum_kernel(const T* gy, T* gb, int64_t images, Divider pixels, int64_t image_stride, int64_t channel_stride, int64_t pixel_stride) {
  compute_t<T> sum = 0;
  for (int64_t i = threadIdx.x; i < images * pixels.divisor; i += 256) {
    const int64_t n = pixels.quotient(i);
    sum += to_compute(gy[n * image_stride + blockIdx.x * channel_stride + (i - n * pixels.divisor) * pixel_stride]);
  }
  sum = block_sum<256>(sum);
  if (threadIdx.x == 0) gb[blockIdx.x] = from_compute<T>(sum);
}

// --- launch ---

// The checked sizes of one convolution.
struct Sizes {
  int N, C, H, W, K, R, S, P, Q, groups;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w;
  bool channels_last;

  bool is_depthwise() const { return groups == C && groups > 1; }
  int channels() const { return C / groups; }
  int filters() const { return K / groups; }
};

Sizes sizes_of(const Array& x, const Array& w, const Array& y, Integers stride, Integers padding, Integers dilation, int64_t groups) {
  expect(x.dtype == w.dtype && x.dtype == y.dtype, "the arrays must share one dtype, got ", x, ", ", w, ", ", y);
  expect(x.ndim == 4 && w.ndim == 4 && y.ndim == 4 && stride.count == 2 && padding.count == 2 && dilation.count == 2,
         "the arrays must have 4 dimensions and stride, padding and dilation 2 numbers, got ", x, ", ", w, ", ", y);
  const bool last = expect_images({&x, &w, &y});
  // y may have any height and width: what its windows meet outside x is zero
  expect(groups > 0 && x.shape[1] % groups == 0 && w.shape[0] % groups == 0 && w.shape[1] * groups == x.shape[1] && y.shape[0] == x.shape[0] &&
             y.shape[1] == w.shape[0],
         "shapes must agree with groups, got ", x, ", ", w, ", ", y, ", groups ", groups);
  expect(x.shape[0] * x.shape[2] * x.shape[3] < INT_MAX && y.shape[0] * y.shape[2] * y.shape[3] < INT_MAX, "more than 2^31 pixels, got ", x);
  const auto narrow = [](int64_t n) { return static_cast<int>(n); };
  return {narrow(x.shape[0]),   narrow(x.shape[1]),   narrow(x.shape[2]),   narrow(x.shape[3]), narrow(w.shape[0]), narrow(w.shape[2]),
          narrow(w.shape[3]),   narrow(y.shape[2]),   narrow(y.shape[3]),   narrow(groups),     narrow(stride[0]),  narrow(stride[1]),
          narrow(padding[0]),   narrow(padding[1]),   narrow(dilation[0]),  narrow(dilation[1]), last};
}

// The row of conv_tiles.inc for a product of these sizes. The workspace and the launch ask the same question.
template <class T> TileChoice choose(const TileChooser::Sizes& sizes, int most_splits, bool tf32) {
  using namespace tile_types;
  TileChooser chooser(sizes, sizeof(T), most_splits);
#define KDL_CONV_SIMT(TYPES, BM, BN, BK, TM, TN, REGISTERS) \
  chooser.consider("conv2d_simt " #BM "x" #BN "x" #BK, {BM, BN, BK, 1}, is_among<T>(TYPES) ? "" : "it has no instance of this type");
#define KDL_CONV_MMA(BM, BN, BK, WM, WN, STAGES, REGISTERS)                                                                                     \
  chooser.consider("conv2d_mma " #BM "x" #BN "x" #BK, {BM, BN, MmaShape<BM, BN, BK, WM, WN, STAGES>::template depth<T>, sizeof(T) == 2 ? 8 : 4}, \
                   chooser.mma_obstacle(sizeof(T) == 2, sizeof(T) == 4, tf32, mma_shared_bytes<T, MmaShape<BM, BN, BK, WM, WN, STAGES>>()));
#include "conv_tiles.inc"
#undef KDL_CONV_SIMT
#undef KDL_CONV_MMA
  return chooser.best();
}

constexpr int most_splits = 64;  // of backward_w, whose results are small and whose sums are long

template <class T> void multiply(ConvProduct<T> p, const TileChoice& choice, Workspace workspace, Stream stream) {
  using namespace tile_types;
  p.a.vector = vector_of(p.a);
  p.b.vector = vector_of(p.b);
  p.out.pairs = stores_pairs(p.out);
  p.splits = choice.splits;
  p.k_per_split = choice.k_per_split;
  p.partial = static_cast<compute_t<T>*>(workspace.data);
  int row = 0;
#define KDL_CONV_SIMT(TYPES, BM, BN, BK, TM, TN, REGISTERS)                                                             \
  if constexpr (is_among<T>(TYPES)) {                                                                                   \
    using Shape = SimtShape<BM, BN, BK, TM, TN>;                                                                        \
    if (row == choice.row) launch<conv2d_simt_kernel<Shape, REGISTERS, ConvProduct<T>>>({tile_grid<Shape>(p), Shape::threads, stream}, p); \
  }                                                                                                                     \
  ++row;
#define KDL_CONV_MMA(BM, BN, BK, WM, WN, STAGES, REGISTERS)                                                             \
  if constexpr (sizeof(T) <= 4) {                                                                                       \
    using Shape = MmaShape<BM, BN, BK, WM, WN, STAGES>;                                                                 \
    constexpr size_t shared = mma_shared_bytes<T, Shape>();                                                             \
    if (row == choice.row) launch<conv2d_mma_kernel<Shape, REGISTERS, ConvProduct<T>>>({tile_grid<Shape>(p), Shape::threads, stream, shared}, p); \
  }                                                                                                                     \
  ++row;
#include "conv_tiles.inc"
#undef KDL_CONV_SIMT
#undef KDL_CONV_MMA
  add_splits(p, stream);
}

// One product of forward or backward_x, positions x channels; its sides are swapped where the channels do not lie last.
template <class T>
void multiply_positions(const WalkOperand<T>& image, const WalkOperand<T>& weight, T* out, const Walk& positions, const Walk& channels, int64_t out_group,
                        const T* bias, const Sizes& z, bool tf32, Stream stream) {
  const bool last = z.channels_last;
  const WalkOutput<T> output{out, last ? positions : channels, last ? channels : positions, out_group, bias, !last, false};
  const int M = output.rows.count, N = output.columns.count, K = weight.k.count;
  const ConvProduct<T> product{last ? image : weight, last ? weight : image, output, M, N, K, z.groups};
  multiply<T>(product, choose<T>({M, N, K, z.groups}, 1, tf32), {}, stream);
}

Axis axis_h(const Sizes& z) { return {z.P, z.stride_h, -z.padding_h, z.R, z.dilation_h}; }
Axis axis_w(const Sizes& z) { return {z.Q, z.stride_w, -z.padding_w, z.S, z.dilation_w}; }

// `over` is the one of the arrays that the threads run over.
Depthwise depthwise(const Array& x, const Array& w, const Array& y, const Sizes& z, const Array& over) {
  return {ImageStrides(x), ImageStrides(w), ImageStrides(y), z.H, z.W, z.P, z.Q, z.R, z.S, z.K / z.C, z.stride_h, z.stride_w, z.padding_h,
          z.padding_w, z.dilation_h, z.dilation_w, ImageOrder(over, z.channels_last)};
}

void conv2d_forward(const Array& x, const Array& w, OptionalArray b, const Array& y, Integers stride, Integers padding, Integers dilation,
                    int64_t groups, bool tf32, Stream stream) {
  const Sizes z = sizes_of(x, w, y, stride, padding, dilation, groups);
  expect(!b || (b->dtype == x.dtype && b->ndim == 1 && b->shape[0] == z.K && b->is_contiguous()), "b must have one element per filter, w ", w);
  if (y.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const T* bias = b ? b->as<const T>() : nullptr;
    if (z.is_depthwise()) {
      launch<depthwise_forward_kernel<T>>({blocks_for(y.size(), 256), 256, stream}, x.as<const T>(), w.as<const T>(), bias, y.as<T>(),
                                          depthwise(x, w, y, z, y), y.size());
      return;
    }
    const ImageStrides image(x), weight(w), result(y);
    const Walk taps = walk_of_taps(z.channels(), axis_h(z), axis_w(z), image, z.channels_last);
    const Walk filters = walk_of_channels(z.filters(), weight.n), windows = walk_of_positions(z.N, axis_h(z), axis_w(z), image);
    const WalkOperand<T> pixels{x.as<const T>(), windows, taps, z.channels() * image.c, z.H, z.W, 1, z.channels_last};
    const WalkOperand<T> weights{w.as<const T>(), filters, walk_of_weights(taps, weight.c, weight.h, weight.w), z.filters() * weight.n, 1, 1, 1, true};
    multiply_positions<T>(pixels, weights, y.as<T>(), walk_of_positions(z.N, {z.P, 1, 0, 1, 0}, {z.Q, 1, 0, 1, 0}, result),
                          walk_of_channels(z.filters(), result.c), z.filters() * result.c, bias, z, tf32, stream);
  });
}

// Which taps of one axis meet the input positions `first`, `first + stride`, ...: tap = first_tap + a * tap_step for a < count, and
// position number i of them then sees output i + first_output - a * output_step.
struct Phase {
  int first_tap, tap_step, count, first_output, output_step;
};

Phase phase_of(int first, int stride, int padding, int dilation, int taps) {
  int tap_step = 1;
  while (tap_step * dilation % stride != 0) ++tap_step;  // stride / gcd(stride, dilation)
  int first_tap = 0;
  while (first_tap < tap_step && (first + padding - first_tap * dilation) % stride != 0) ++first_tap;
  if (first_tap >= tap_step || first_tap >= taps) return {0, tap_step, 0, 0, 0};
  return {first_tap, tap_step, (taps - first_tap + tap_step - 1) / tap_step, (first + padding - first_tap * dilation) / stride,
          tap_step * dilation / stride};
}

template <class T> void backward_x_phase(const Array& gy, const Array& w, const Array& gx, const Sizes& z, int h0, int w0, bool tf32, Stream stream) {
  const Phase ph = phase_of(h0, z.stride_h, z.padding_h, z.dilation_h, z.R), pw = phase_of(w0, z.stride_w, z.padding_w, z.dilation_w, z.S);
  const int rows = (z.H - h0 + z.stride_h - 1) / z.stride_h, columns = (z.W - w0 + z.stride_w - 1) / z.stride_w;
  const Axis h{rows, 1, ph.first_output, ph.count, -ph.output_step}, v{columns, 1, pw.first_output, pw.count, -pw.output_step};
  const ImageStrides image(gy), weight(w), result(gx);
  const Walk taps = walk_of_taps(z.filters(), h, v, image, z.channels_last);  // none: the product is empty and the phase is filled with zeros
  const WalkOperand<T> pixels{gy.as<const T>(), walk_of_positions(z.N, h, v, image), taps, z.filters() * image.c, z.P, z.Q, 1, z.channels_last};
  const WalkOperand<T> weights{w.as<const T>() + ph.first_tap * weight.h + pw.first_tap * weight.w, walk_of_channels(z.channels(), weight.c),
                               walk_of_weights(taps, weight.n, weight.h * ph.tap_step, weight.w * pw.tap_step), z.filters() * weight.n, 1, 1, 1, false};
  multiply_positions<T>(pixels, weights, gx.as<T>(), walk_of_positions(z.N, {rows, z.stride_h, h0, 1, 0}, {columns, z.stride_w, w0, 1, 0}, result),
                        walk_of_channels(z.channels(), result.c), z.channels() * result.c, nullptr, z, tf32, stream);
}

void conv2d_backward_x(const Array& gy, const Array& w, const Array& gx, Integers stride, Integers padding, Integers dilation, int64_t groups,
                       bool tf32, Stream stream) {
  const Sizes z = sizes_of(gx, w, gy, stride, padding, dilation, groups);
  if (gx.size() == 0) return;
  dispatch_floating(gx, "gx", [&](auto type) {
    using T = typename decltype(type)::type;
    if (z.is_depthwise()) {
      launch<depthwise_backward_x_kernel<T>>({blocks_for(gx.size(), 256), 256, stream}, gy.as<const T>(), w.as<const T>(), gx.as<T>(),
                                             depthwise(gx, w, gy, z, gx), gx.size());
      return;
    }
    for (int h0 = 0; h0 < z.stride_h && h0 < z.H; ++h0)
      for (int w0 = 0; w0 < z.stride_w && w0 < z.W; ++w0) backward_x_phase<T>(gy, w, gx, z, h0, w0, tf32, stream);
  });
}

template <class T> TileChoice choose_backward_w(const Sizes& z, bool tf32) {
  return choose<T>({z.filters(), static_cast<int64_t>(z.channels()) * z.R * z.S, static_cast<int64_t>(z.N) * z.P * z.Q, z.groups}, most_splits, tf32);
}

int64_t conv2d_backward_w_workspace(const Array& x, const Array& gy, const Array& gw, Integers stride, Integers padding, Integers dilation,
                                    int64_t groups, bool tf32) {
  const Sizes z = sizes_of(x, gw, gy, stride, padding, dilation, groups);
  if (gw.size() == 0 || z.is_depthwise()) return 0;
  int64_t bytes = 0;
  dispatch_floating(gw, "gw", [&](auto type) {
    using T = typename decltype(type)::type;
    const int splits = choose_backward_w<T>(z, tf32).splits;
    bytes = splits == 1 ? 0 : splits * gw.size() * static_cast<int64_t>(sizeof(compute_t<T>));
  });
  return bytes;
}

void conv2d_backward_w(const Array& x, const Array& gy, const Array& gw, Integers stride, Integers padding, Integers dilation, int64_t groups,
                       bool tf32, Workspace workspace, Stream stream) {
  const Sizes z = sizes_of(x, gw, gy, stride, padding, dilation, groups);
  if (gw.size() == 0) return;
  dispatch_floating(gw, "gw", [&](auto type) {
    using T = typename decltype(type)::type;
    if (z.is_depthwise()) {
      launch<depthwise_backward_w_kernel<T, 256>>({dim3(z.K, z.R * z.S), 256, stream}, x.as<const T>(), gy.as<const T>(), gw.as<T>(),
                                                  depthwise(x, gw, gy, z, gy), static_cast<int64_t>(z.N) * z.P * z.Q);
      return;
    }
    const ImageStrides image(x), gradient(gy), result(gw);
    const Walk taps = walk_of_taps(z.channels(), axis_h(z), axis_w(z), image, z.channels_last), windows = walk_of_positions(z.N, axis_h(z), axis_w(z), image);
    const Walk outputs = walk_of_positions(z.N, {z.P, 1, 0, 1, 0}, {z.Q, 1, 0, 1, 0}, gradient);
    const WalkOperand<T> gradients{gy.as<const T>(), walk_of_channels(z.filters(), gradient.c), outputs, z.filters() * gradient.c, z.P, z.Q, 1,
                                   !z.channels_last};
    const WalkOperand<T> pixels{x.as<const T>(), taps, windows, z.channels() * image.c, z.H, z.W, 1, !z.channels_last};
    const WalkOutput<T> output{gw.as<T>(), walk_of_channels(z.filters(), result.n), walk_of_weights(taps, result.c, result.h, result.w),
                               z.filters() * result.n, nullptr, false, false};
    const ConvProduct<T> product{gradients, pixels, output, z.filters(), taps.count, windows.count, z.groups};
    multiply<T>(product, choose_backward_w<T>(z, tf32), workspace, stream);
  });
}

void conv_backward_b(const Array& gy, const Array& gb, Stream stream) {
  expect(gy.ndim >= 3 && gb.ndim == 1 && gb.dtype == gy.dtype && gb.shape[0] == gy.shape[1] && gb.is_contiguous(),
         "gy must be (N, K, ...) and gb (K,) of one dtype, got gy ", gy, ", gb ", gb);
  if (gb.size() == 0) return;
  int64_t pixels = 1;
  for (int d = 2; d < gy.ndim; ++d) pixels *= gy.shape[d];
  const bool last = !gy.is_contiguous();  // dense, so channels-last
  expect(gy.is_dense(), "gy must be contiguous or channels-last, got ", gy);
  dispatch_floating(gy, "gy", [&](auto type) {
    using T = typename decltype(type)::type;
    launch<channel_sum_kernel<T>>({blocks_for(gb.size(), 1), 256, stream}, gy.as<const T>(), gb.as<T>(), pixels ? gy.shape[0] : 0,
                                  Divider(pixels), pixels * gy.shape[1], last ? 1 : pixels, last ? gy.shape[1] : 1);
  });
}

KDL_EXPORT(conv2d_forward, "x", "w", "b", "y", "stride", "padding", "dilation", "groups", "tf32")
KDL_EXPORT(conv2d_backward_x, "gy", "w", "gx", "stride", "padding", "dilation", "groups", "tf32")
KDL_EXPORT_WITH_WORKSPACE(conv2d_backward_w, conv2d_backward_w_workspace, "x", "gy", "gw", "stride", "padding", "dilation", "groups", "tf32")
KDL_EXPORT(conv_backward_b, "gy", "gb")

}  // namespace kdl::conv
