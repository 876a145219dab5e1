// What     conv2d forward, backward_x and backward_w as implicit matrix products, with groups; depthwise convolutions (one filter per
//          channel) directly. Transposed convolution is backward_x called as a forward. No im2col matrix is ever written.
// Maths    y[n,k,p,q] = sum over c,r,s of x[n, c, p stride - padding + r dilation, ...] w[k,c,r,s] + b[k]; backward_x and backward_w are its
//          adjoints in x and in w. 2 N K P Q C R S / groups FLOPs each.
// Traffic  least: x, w and y once. An image tile is read R S times, mostly from L1 and L2. Bound by arithmetic from C of about 32 on.
// Tiling   conv_tiles.inc. Products: forward filters x pixels over (c,r,s); backward_x channels x pixels over (k,r,s), once per phase of
//          the stride, with only the taps that meet the phase, so no zero is inserted or multiplied; backward_w filters x (c,r,s) over pixels,
//          split over blocks whose partial sums are added in order. Channels-last swaps the tile's sides, so stores stay contiguous.
// Numerics float16 and bfloat16 are summed in float, float64 in double; every sum has one fixed order.
// Limits   contiguous or channels-last, all arrays alike; N P Q and N H W below 2^31.
// Measured not yet on hardware.
#include "conv_operands.h"
#include "kdl/reduce.h"

namespace kdl::conv {

// --- device ---

// Where the pixels of a product's result lie: pixel (n, i, j) of row `channel` at n, channel, i * h + first_h, j * w + first_w.
struct Result {
  ImageStrides at;
  int step_h, first_h, step_w, first_w;
  int64_t group;  // elements from one group's channels to the next's

  KDL_FN int64_t pixel(int n, int i, int j) const { return n * at.n + (i * step_h + first_h) * at.h + (j * step_w + first_w) * at.w; }
};

// out[n, channel, i, j] = sum over taps of windows[n, i, j, tap] weight[channel, tap], + bias: forward, and each phase of backward_x.
template <class T, class Shape, bool channels_last>
__global__ void __launch_bounds__(Shape::threads)
    conv2d_pixels_kernel(const T* image, const T* weight, const T* bias, T* out, Windows windows, WeightView view, Result result,
                         int64_t image_group, int64_t weight_group, TileOrder order) {
  const int tiles = order.m_tiles * order.n_tiles, group = blockIdx.x / tiles;
  int m0, n0;
  order.place(blockIdx.x % tiles, &m0, &n0);
  m0 *= Shape::BM;
  n0 *= Shape::BN;
  constexpr int pixel_side = channels_last ? Shape::BM : Shape::BN, channel_side = channels_last ? Shape::BN : Shape::BM;
  const int pixel0 = channels_last ? m0 : n0, channel0 = channels_last ? n0 : m0;
  PixelCopy<T, pixel_side, Shape::BK, Shape::threads> pixels(windows, image + group * image_group, pixel0);
  WeightCopy<T, channel_side, Shape::BK, Shape::threads> weights(view, weight + group * weight_group, channel0);
  TileSum<compute_t<T>, Shape> sum;
  if constexpr (channels_last) multiply_tiles(pixels, weights, 0, windows.tap_count, sum);
  else multiply_tiles(weights, pixels, 0, windows.tap_count, sum);

  constexpr int pixel_items = channels_last ? Shape::TM : Shape::TN, channel_items = channels_last ? Shape::TN : Shape::TM;
#pragma unroll
  for (int a = 0; a < pixel_items; ++a) {
    const int pixel = pixel0 + (channels_last ? sum.row(a) : sum.column(a));
    if (pixel >= windows.pixel_count) continue;
    int n, i, j;
    windows.pixels(pixel, &n, &i, &j);
    T* at = out + group * result.group + result.pixel(n, i, j);
#pragma unroll
    for (int b = 0; b < channel_items; ++b) {
      const int channel = channel0 + (channels_last ? sum.column(b) : sum.row(b));
      if (channel >= view.X) continue;
      const compute_t<T> value = channels_last ? sum.item[a][b] : sum.item[b][a];
      at[channel * result.at.c] = from_compute<T>(bias ? value + to_compute(bias[group * view.X + channel]) : value);
    }
  }
}

// partial[split][filter][tap] = sum over the split's pixels of gy[filter, pixel] windows[pixel, tap].
template <class T, class Shape, bool channels_last>
__global__ void __launch_bounds__(Shape::threads)
    conv2d_backward_w_kernel(const T* gy, const T* image, compute_t<T>* partial, WeightView gradient, Windows windows, int64_t gy_group,
                             int64_t image_group, TileOrder order, int groups, int pixels_per_split) {
  const int tiles = order.m_tiles * order.n_tiles, group = blockIdx.x / tiles;
  int m0, n0;
  order.place(blockIdx.x % tiles, &m0, &n0);
  m0 *= Shape::BM;
  n0 *= Shape::BN;
  const int begin = blockIdx.y * pixels_per_split, left = windows.pixel_count - begin;
  WeightCopy<T, Shape::BM, Shape::BK, Shape::threads> gradients(gradient, gy + group * gy_group, m0);
  TapCopy<T, Shape::BN, Shape::BK, Shape::threads, channels_last> taps(windows, image + group * image_group, n0);
  TileSum<compute_t<T>, Shape> sum;
  multiply_tiles(gradients, taps, begin, begin + (left < pixels_per_split ? left : pixels_per_split), sum);

  compute_t<T>* out = partial + (static_cast<int64_t>(blockIdx.y) * groups + group) * gradient.X * windows.tap_count;
#pragma unroll
  for (int i = 0; i < Shape::TM; ++i) {
    const int filter = m0 + sum.row(i);
#pragma unroll
    for (int j = 0; j < Shape::TN; ++j) {
      const int tap = n0 + sum.column(j);
      if (filter < gradient.X && tap < windows.tap_count) out[static_cast<int64_t>(filter) * windows.tap_count + tap] = sum.item[i][j];
    }
  }
}

// gw = the sum of the splits' partial sums, added in ascending order.
template <class T> __global__ void __launch_bounds__(256) add_splits_kernel(const compute_t<T>* partial, T* gw, int64_t n, int splits) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (i >= n) return;
  compute_t<T> sum = 0;
  for (int split = 0; split < splits; ++split) sum += partial[split * n + i];
  gw[i] = from_compute<T>(sum);
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

// The row of conv_tiles.inc with the least modelled cost for `batches` products of M x N: body(Type<TileShape>{}) launches it.
template <class Body> void with_best_tile(int64_t M, int64_t N, int64_t batches, Body body) {
  const int sms = multiprocessors();
  int64_t least = -1;
#define KDL_CONV_SIMT(BM, BN, ...) \
  if (const int64_t cost = tile_cost(M, N, batches, BM, BN, sms); least < 0 || cost < least) least = cost;
#include "conv_tiles.inc"
#undef KDL_CONV_SIMT
#define KDL_CONV_SIMT(BM, BN, ...) \
  if (tile_cost(M, N, batches, BM, BN, sms) == least) return body(Type<TileShape<BM, BN, __VA_ARGS__>>{});
#include "conv_tiles.inc"
#undef KDL_CONV_SIMT
}

Split3 split_taps(const Sizes& z, int channels, int R, int S) {
  return z.channels_last ? Split3(S, channels) : Split3(R, S);
}

template <class T> bool gathers_vectors(const Windows& windows, const T* image, int channels, int width) {
  return windows.channels_last && channels % width == 0 && windows.at.w % width == 0 &&
         reinterpret_cast<uintptr_t>(image) % (width * sizeof(T) < 16 ? width * sizeof(T) : 16) == 0;
}

template <class T>
void launch_pixels(const T* image, const T* weight, const T* bias, T* out, Windows windows, int image_channels, const WeightView& view,
                   const Result& result, int64_t image_group, int64_t weight_group, const Sizes& z, Stream stream) {
  const int64_t M = z.channels_last ? windows.pixel_count : view.X, N = z.channels_last ? view.X : windows.pixel_count;
  with_best_tile(M, N, z.groups, [&](auto shape) {
    using Shape = typename decltype(shape)::type;
    const TileOrder order{static_cast<int>((M + Shape::BM - 1) / Shape::BM), static_cast<int>((N + Shape::BN - 1) / Shape::BN)};
    const unsigned blocks = blocks_for(static_cast<int64_t>(order.m_tiles) * order.n_tiles * z.groups, 1);
    windows.vectors = gathers_vectors(windows, image, image_channels, TilePlace<Shape::BM, Shape::BK, Shape::threads>::width);
    const ::kdl::Launch launch_shape(blocks, Shape::threads, stream);
    if (z.channels_last)
      launch<conv2d_pixels_kernel<T, Shape, true>>(launch_shape, image, weight, bias, out, windows, view, result, image_group, weight_group, order);
    else
      launch<conv2d_pixels_kernel<T, Shape, false>>(launch_shape, image, weight, bias, out, windows, view, result, image_group, weight_group, order);
  });
}

Windows forward_windows(const Array& x, const Sizes& z) {
  const int channels = z.C / z.groups;
  return {ImageStrides(x),
          {z.stride_h, -z.padding_h, z.dilation_h, z.H},
          {z.stride_w, -z.padding_w, z.dilation_w, z.W},
          Split3(z.P, z.Q),
          split_taps(z, channels, z.R, z.S),
          z.N * z.P * z.Q,
          channels * z.R * z.S,
          z.channels_last,
          false};
}

// `over` is the one of the arrays that the threads run over.
Depthwise depthwise(const Array& x, const Array& w, const Array& y, const Sizes& z, const Array& over) {
  return {ImageStrides(x), ImageStrides(w), ImageStrides(y), z.H, z.W, z.P, z.Q, z.R, z.S, z.K / z.C, z.stride_h, z.stride_w, z.padding_h,
          z.padding_w, z.dilation_h, z.dilation_w, ImageOrder(over, z.channels_last)};
}

void conv2d_forward(const Array& x, const Array& w, OptionalArray b, const Array& y, Integers stride, Integers padding, Integers dilation,
                    int64_t groups, Stream stream) {
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
    const Windows windows = forward_windows(x, z);
    const int filters = z.K / z.groups, channels = z.C / z.groups;
    const WeightView view{w.shape[0] ? windows.tap_count : 0, 0, 0, 0, windows.taps, filters, windows.tap_count, true};
    const Result result{ImageStrides(y), 1, 0, 1, 0, filters * y.strides[1]};
    launch_pixels(x.as<const T>(), w.as<const T>(), bias, y.as<T>(), windows, channels, view, result, channels * x.strides[1],
                  static_cast<int64_t>(filters) * windows.tap_count, z, stream);
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

template <class T> void backward_x_phase(const Array& gy, const Array& w, const Array& gx, const Sizes& z, int h0, int w0, Stream stream) {
  const Phase ph = phase_of(h0, z.stride_h, z.padding_h, z.dilation_h, z.R), pw = phase_of(w0, z.stride_w, z.padding_w, z.dilation_w, z.S);
  const int rows = (z.H - h0 + z.stride_h - 1) / z.stride_h, columns = (z.W - w0 + z.stride_w - 1) / z.stride_w;
  const int filters = z.K / z.groups, channels = z.C / z.groups, R = ph.count, S = pw.count;
  const ImageStrides at(w);
  const Split3 taps = split_taps(z, filters, R > 0 ? R : 1, S > 0 ? S : 1);
  const Windows windows{ImageStrides(gy),
                        {1, ph.first_output, -ph.output_step, z.P},
                        {1, pw.first_output, -pw.output_step, z.Q},
                        Split3(rows, columns),
                        taps,
                        z.N * rows * columns,
                        filters * R * S,  // 0 taps: the product is empty and the phase is filled with zeros
                        z.channels_last,
                        false};
  const int64_t k = at.n, r = at.h * ph.tap_step, s = at.w * pw.tap_step;
  const WeightView view{at.c,  z.channels_last ? r : k, z.channels_last ? s : r, z.channels_last ? k : s, taps, channels, windows.tap_count,
                        false};
  const Result result{ImageStrides(gx), z.stride_h, h0, z.stride_w, w0, channels * gx.strides[1]};
  launch_pixels<T>(gy.as<const T>(), w.as<const T>() + ph.first_tap * at.h + pw.first_tap * at.w, nullptr, gx.as<T>(), windows, filters, view,
                   result, filters * gy.strides[1], filters * at.n, z, stream);
}

void conv2d_backward_x(const Array& gy, const Array& w, const Array& gx, Integers stride, Integers padding, Integers dilation, int64_t groups,
                       Stream stream) {
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
      for (int w0 = 0; w0 < z.stride_w && w0 < z.W; ++w0) backward_x_phase<T>(gy, w, gx, z, h0, w0, stream);
  });
}

// How the pixels of backward_w are split over blocks: enough blocks for the whole device, at least `least_pixels` each.
struct Splits {
  int count, pixels;  // the last one may have fewer
};

Splits splits_of(const Sizes& z) {
  constexpr int BK = 32, least_pixels = 16 * BK;  // BK: a multiple of every tile's depth, so that no step crosses a split
  const int64_t pixels = static_cast<int64_t>(z.N) * z.P * z.Q, filters = z.K / z.groups, taps = static_cast<int64_t>(z.C / z.groups) * z.R * z.S;
  const int64_t tiles = z.groups * ((filters + 63) / 64) * ((taps + 63) / 64), wanted = 2 * multiprocessors() / tiles, most = pixels / least_pixels;
  const int64_t count = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
  const int64_t each = ((pixels + count - 1) / count + BK - 1) / BK * BK;
  return {static_cast<int>((pixels + each - 1) / each), static_cast<int>(each)};
}

int64_t conv2d_backward_w_workspace(const Array& x, const Array& gy, const Array& gw, Integers stride, Integers padding, Integers dilation,
                                    int64_t groups) {
  const Sizes z = sizes_of(x, gw, gy, stride, padding, dilation, groups);
  if (gw.size() == 0 || gy.size() == 0 || z.is_depthwise()) return 0;
  return splits_of(z).count * gw.size() * (gw.dtype == DType::f64 ? sizeof(double) : sizeof(float));
}

void conv2d_backward_w(const Array& x, const Array& gy, const Array& gw, Integers stride, Integers padding, Integers dilation, int64_t groups,
                       Workspace workspace, Stream stream) {
  const Sizes z = sizes_of(x, gw, gy, stride, padding, dilation, groups);
  if (gw.size() == 0) return;
  dispatch_floating(gw, "gw", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const int64_t pixels = static_cast<int64_t>(z.N) * z.P * z.Q;
    if (z.is_depthwise()) {
      launch<depthwise_backward_w_kernel<T, 256>>({dim3(z.K, z.R * z.S), 256, stream}, x.as<const T>(), gy.as<const T>(), gw.as<T>(),
                                                  depthwise(x, gw, gy, z, gy), pixels);
      return;
    }
    const Windows windows = forward_windows(x, z);
    const int filters = z.K / z.groups, channels = z.C / z.groups;
    const Splits splits = pixels == 0 ? Splits{0, 0} : splits_of(z);
    A* partial = static_cast<A*>(workspace.data);
    const ImageStrides at(gy);
    const WeightView gradient{at.c, at.n, at.h, at.w, windows.pixels, filters, windows.pixel_count, false};
    if (splits.count > 0)
      with_best_tile(filters, windows.tap_count, z.groups * splits.count, [&](auto shape) {
        using Shape = typename decltype(shape)::type;
        const TileOrder order{(filters + Shape::BM - 1) / Shape::BM, (windows.tap_count + Shape::BN - 1) / Shape::BN};
        const unsigned tiles = blocks_for(static_cast<int64_t>(order.m_tiles) * order.n_tiles * z.groups, 1);
        const ::kdl::Launch shape_of_launch(dim3(tiles, splits.count), Shape::threads, stream);
        const auto start = [&](auto last) {
          launch<conv2d_backward_w_kernel<T, Shape, last>>(shape_of_launch, gy.as<const T>(), x.as<const T>(), partial, gradient, windows,
                                                           filters * at.c, channels * x.strides[1], order, z.groups, splits.pixels);
        };
        if (z.channels_last) start(std::true_type{});
        else start(std::false_type{});
      });
    launch<add_splits_kernel<T>>({blocks_for(gw.size(), 256), 256, stream}, partial, gw.as<T>(), gw.size(), splits.count);
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

KDL_EXPORT(conv2d_forward, "x", "w", "b", "y", "stride", "padding", "dilation", "groups")
KDL_EXPORT(conv2d_backward_x, "gy", "w", "gx", "stride", "padding", "dilation", "groups")
KDL_EXPORT_WITH_WORKSPACE(conv2d_backward_w, conv2d_backward_w_workspace, "x", "gy", "gw", "stride", "padding", "dilation", "groups")
KDL_EXPORT(conv_backward_b, "gy", "gb")

}  // namespace kdl::conv
