// What     max_pool2d, avg_pool2d and their adaptive forms, forward and backward, and the flat indices of the maxima.
// Maths    max: y = max over the window, the first of equals, the last of NaNs; average: y = sum over the window / divisor. Backward gathers:
//          every input element sums the outputs whose window it is in (max: those that it won), so nothing is scattered and no atomic is
//          needed.
// Traffic  max forward: x once, y and winner once (winner: 1 byte up to 255 taps); backward: gy and winner once, gx once. Windows that overlap
//          are read again from L1. Bound by device memory.
// Tiling   one thread per element of the result, in memory order, so that loads and stores of a warp are neighbours.
// Numerics float16 and bfloat16 are averaged in float; a gradient's terms are added in the order of the taps.
// Limits   contiguous or channels-last, all arrays alike; the planes below 2^31 elements.
// Measured not yet on hardware.
#include "kdl/dispatch.h"
#include "kdl/image.h"
#include "kdl/launch.h"

namespace kdl::pool {

// --- device ---

// The taps of one window along one axis that lie inside the input: coordinates first + i * step for i < count, taps first_tap + i.
struct Span {
  int first, step, count, first_tap;
};

// One axis of ordinary pooling.
struct Axis {
  int size, out, kernel, stride, padding, dilation;

  KDL_FN Span window(int o) const {
    const int start = o * stride - padding;
    const int first_tap = start < 0 ? (-start + dilation - 1) / dilation : 0, inside = size > start ? (size - start + dilation - 1) / dilation : 0;
    const int last = inside < kernel ? inside : kernel;
    return {start + first_tap * dilation, dilation, last > first_tap ? last - first_tap : 0, first_tap};
  }

  // Elements that an average divides by along this axis; what hangs over the padding's end in ceil_mode never counts.
  KDL_FN int area(int o, bool count_padding) const {
    const int start = o * stride - padding, end = start + kernel < size + padding ? start + kernel : size + padding;
    if (count_padding) return end - start;
    return (end < size ? end : size) - (start > 0 ? start : 0);
  }

  // The outputs whose window a coordinate may be in: candidate i, with the tap it would be there; -1 where it is not.
  KDL_FN int candidates(int) const { return kernel; }
  KDL_FN int candidate(int coordinate, int i, int* tap) const {
    *tap = i;
    const int t = coordinate + padding - i * dilation;
    return t >= 0 && t % stride == 0 && t / stride < out ? t / stride : -1;
  }
};

// One axis of adaptive pooling: the window of output o is floor(o size / out) .. ceil((o + 1) size / out).
struct AdaptiveAxis {
  int size, out;

  KDL_FN static int scale(int i, int numerator, int denominator) {
    return static_cast<int>(static_cast<int64_t>(i) * numerator / denominator);
  }
  KDL_FN int start(int o) const { return scale(o, size, out); }
  KDL_FN int end(int o) const { return static_cast<int>((static_cast<int64_t>(o + 1) * size + out - 1) / out); }
  KDL_FN Span window(int o) const { return {start(o), 1, end(o) - start(o), 0}; }
  KDL_FN int area(int o, bool) const { return end(o) - start(o); }

  KDL_FN int first(int coordinate) const { return scale(coordinate, out, size); }
  KDL_FN int candidates(int coordinate) const {
    const int last = static_cast<int>((static_cast<int64_t>(coordinate + 1) * out + size - 1) / size);
    return last - first(coordinate);
  }
  KDL_FN int candidate(int coordinate, int i, int* tap) const {
    *tap = 0;
    return first(coordinate) + i;
  }
};

// How a maximum's place is written down: as the tap r * S + s, or, adaptive, as the flat position in the plane.
struct ByTap {
  int S, outside;
  KDL_FN int code(int r, int s, int, int) const { return r * S + s; }
};
struct ByPosition {
  int W, outside;
  KDL_FN int code(int, int, int h, int w) const { return h * W + w; }
};

template <class Axes> struct Pooling {
  Axes h, w;
  ImageStrides x, y;
  ImageOrder order;  // of the array that the threads run over
  int64_t count;
};

template <class T, class Winner, class Axes, class Code>
__global__ void __launch_bounds__(256) max_forward_kernel(const T* x, T* y, Winner* winner, Pooling<Axes> p, Code code) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= p.count) return;
  int n, c, i, j;
  p.order.place(index, &n, &c, &i, &j);
  const T* plane = x + p.x.at(n, c, 0, 0);
  const Span rows = p.h.window(i), columns = p.w.window(j);
  compute_t<T> best = -INFINITY;
  int which = code.outside;
  bool none = true;
  for (int r = 0; r < rows.count; ++r)
    for (int s = 0; s < columns.count; ++s) {
      const int h = rows.first + r * rows.step, w = columns.first + s * columns.step;
      const compute_t<T> v = to_compute(plane[h * p.x.h + w * p.x.w]);
      if (v > best || v != v || none) {
        best = v;
        which = code.code(rows.first_tap + r, columns.first_tap + s, h, w);
        none = false;
      }
    }
  y[index] = from_compute<T>(best);
  winner[index] = static_cast<Winner>(which);
}

template <class T, class Winner, class Axes, class Code>
__global__ void __launch_bounds__(256) max_backward_kernel(const T* gy, const Winner* winner, T* gx, Pooling<Axes> p, Code code) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= p.count) return;
  int n, c, h, w;
  p.order.place(index, &n, &c, &h, &w);
  const int64_t plane = p.y.at(n, c, 0, 0);
  compute_t<T> sum = 0;
  for (int a = 0; a < p.h.candidates(h); ++a) {
    int r, s;
    const int i = p.h.candidate(h, a, &r);
    if (i < 0) continue;
    for (int b = 0; b < p.w.candidates(w); ++b) {
      const int j = p.w.candidate(w, b, &s);
      if (j < 0) continue;
      const int64_t at = plane + i * p.y.h + j * p.y.w;
      if (static_cast<int>(winner[at]) == code.code(r, s, h, w)) sum += to_compute(gy[at]);
    }
  }
  gx[index] = from_compute<T>(sum);
}

template <class T, class Axes>
__global__ void __launch_bounds__(256) avg_forward_kernel(const T* x, T* y, Pooling<Axes> p, bool count_padding, int divisor) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= p.count) return;
  int n, c, i, j;
  p.order.place(index, &n, &c, &i, &j);
  const T* plane = x + p.x.at(n, c, 0, 0);
  const Span rows = p.h.window(i), columns = p.w.window(j);
  compute_t<T> sum = 0;
  for (int r = 0; r < rows.count; ++r)
    for (int s = 0; s < columns.count; ++s)
      sum += to_compute(plane[(rows.first + r * rows.step) * p.x.h + (columns.first + s * columns.step) * p.x.w]);
  const int area = divisor ? divisor : p.h.area(i, count_padding) * p.w.area(j, count_padding);
  y[index] = from_compute<T>(sum / area);
}

template <class T, class Axes>
__global__ void __launch_bounds__(256) avg_backward_kernel(const T* gy, T* gx, Pooling<Axes> p, bool count_padding, int divisor) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= p.count) return;
  int n, c, h, w;
  p.order.place(index, &n, &c, &h, &w);
  const int64_t plane = p.y.at(n, c, 0, 0);
  compute_t<T> sum = 0;
  int tap;
  for (int a = 0; a < p.h.candidates(h); ++a) {
    const int i = p.h.candidate(h, a, &tap);
    if (i < 0) continue;
    for (int b = 0; b < p.w.candidates(w); ++b) {
      const int j = p.w.candidate(w, b, &tap);
      if (j < 0) continue;
      const int area = divisor ? divisor : p.h.area(i, count_padding) * p.w.area(j, count_padding);
      sum += to_compute(gy[plane + i * p.y.h + j * p.y.w]) / area;
    }
  }
  gx[index] = from_compute<T>(sum);
}

// The flat position in its plane of every maximum; -1 where the window lies outside the input.
template <class Winner>
__global__ void __launch_bounds__(256)
    max_indices_kernel(const Winner* winner, int64_t* indices, ImageOrder order, Axis h, Axis w, int S, int outside, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (index >= count) return;
  int n, c, i, j;
  order.place(index, &n, &c, &i, &j);
  const int tap = static_cast<int>(winner[index]), r = tap / S, s = tap % S;
  const int64_t row = i * h.stride - h.padding + r * h.dilation, column = j * w.stride - w.padding + s * w.dilation;
  indices[index] = tap == outside ? -1 : row * w.size + column;
}

// --- launch ---

int narrow(int64_t n) {
  expect(n >= 0 && n < int64_t{1} << 31, "a dimension or parameter is outside [0, 2^31): ", n);
  return static_cast<int>(n);
}

Axis axis(const Array& x, const Array& y, int d, Integers kernel_size, Integers stride, Integers padding, const Integers* dilation) {
  expect(kernel_size.count == 2 && stride.count == 2 && padding.count == 2, "kernel_size, stride and padding must have 2 numbers each");
  return {narrow(x.shape[2 + d]), narrow(y.shape[2 + d]),  narrow(kernel_size[d]),
          narrow(stride[d]),      narrow(padding[d]),      dilation ? narrow((*dilation)[d]) : 1};
}

// The pooling between x and y, for threads that run over `over`, one of the two.
template <class Axes> Pooling<Axes> pooling(const Axes& h, const Axes& w, const Array& x, const Array& y, const Array& over) {
  expect(x.dtype == y.dtype && x.shape[0] == y.shape[0] && x.shape[1] == y.shape[1], "x and y must agree in dtype, images and channels, got ", x, ", ", y);
  return {h, w, ImageStrides(x), ImageStrides(y), ImageOrder(over, expect_images({&x, &y})), over.size()};
}

Pooling<Axis> pooling(const Array& x, const Array& y, const Array& over, Integers kernel_size, Integers stride, Integers padding,
                      const Integers* dilation = nullptr) {
  return pooling(axis(x, y, 0, kernel_size, stride, padding, dilation), axis(x, y, 1, kernel_size, stride, padding, dilation), x, y, over);
}

Pooling<AdaptiveAxis> adaptive(const Array& x, const Array& y, const Array& over) {
  return pooling(AdaptiveAxis{narrow(x.shape[2]), narrow(y.shape[2])}, AdaptiveAxis{narrow(x.shape[3]), narrow(y.shape[3])}, x, y, over);
}

// body(Type<T>{}, Type<Winner>{}): winners are uint8, int32 or int64.
template <class Body> void dispatch_winner(const Array& y, const Array& winner, Body body) {
  expect(winner.same_layout(y), "winner must have the outputs' shape and layout, got ", winner, ", ", y);
  dispatch_floating(y, "y", [&](auto type) {
    switch (winner.dtype) {
      case DType::u8: return body(type, Type<uint8_t>{});
      case DType::i32: return body(type, Type<int32_t>{});
      case DType::i64: return body(type, Type<int64_t>{});
      default: expect(false, "winner must be uint8, int32 or int64, got ", winner);
    }
  });
}

template <class Axes, class Code>
void max_forward(const Array& x, const Array& y, const Array& winner, const Pooling<Axes>& p, const Code& code, Stream stream) {
  if (y.size() == 0) return;
  dispatch_winner(y, winner, [&](auto type, auto winner_type) {
    using T = typename decltype(type)::type;
    using W = typename decltype(winner_type)::type;
    launch<max_forward_kernel<T, W, Axes, Code>>({blocks_for(p.count, 256), 256, stream}, x.as<const T>(), y.as<T>(), winner.as<W>(), p, code);
  });
}

template <class Axes, class Code>
void max_backward(const Array& gy, const Array& winner, const Array& gx, const Pooling<Axes>& p, const Code& code, Stream stream) {
  if (gx.size() == 0) return;
  dispatch_winner(gy, winner, [&](auto type, auto winner_type) {
    using T = typename decltype(type)::type;
    using W = typename decltype(winner_type)::type;
    launch<max_backward_kernel<T, W, Axes, Code>>({blocks_for(p.count, 256), 256, stream}, gy.as<const T>(), winner.as<const W>(), gx.as<T>(),
                                                  p, code);
  });
}

template <class Axes>
void avg_forward(const Array& x, const Array& y, const Pooling<Axes>& p, bool count_padding, int divisor, Stream stream) {
  if (y.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    launch<avg_forward_kernel<T, Axes>>({blocks_for(p.count, 256), 256, stream}, x.as<const T>(), y.as<T>(), p, count_padding, divisor);
  });
}

template <class Axes>
void avg_backward(const Array& gy, const Array& gx, const Pooling<Axes>& p, bool count_padding, int divisor, Stream stream) {
  if (gx.size() == 0) return;
  dispatch_floating(gx, "gx", [&](auto type) {
    using T = typename decltype(type)::type;
    launch<avg_backward_kernel<T, Axes>>({blocks_for(p.count, 256), 256, stream}, gy.as<const T>(), gx.as<T>(), p, count_padding, divisor);
  });
}

ByTap by_tap(Integers kernel_size) { return {narrow(kernel_size[1]), narrow(kernel_size[0] * kernel_size[1])}; }

void max_pool2d_forward(const Array& x, const Array& y, const Array& winner, Integers kernel_size, Integers stride, Integers padding,
                        Integers dilation, Stream stream) {
  max_forward(x, y, winner, pooling(x, y, y, kernel_size, stride, padding, &dilation), by_tap(kernel_size), stream);
}

void max_pool2d_backward(const Array& gy, const Array& winner, const Array& gx, Integers kernel_size, Integers stride, Integers padding,
                         Integers dilation, Stream stream) {
  max_backward(gy, winner, gx, pooling(gx, gy, gx, kernel_size, stride, padding, &dilation), by_tap(kernel_size), stream);
}

void max_pool2d_indices(const Array& winner, const Array& indices, Integers kernel_size, Integers stride, Integers padding, Integers dilation,
                        Integers input_size, Stream stream) {
  expect(input_size.count == 2 && indices.dtype == DType::i64 && indices.same_layout(winner), "indices must be int64 and laid out as winner, got ",
         indices, ", ", winner);
  if (indices.size() == 0) return;
  const Axis h{narrow(input_size[0]), 0, 0, narrow(stride[0]), narrow(padding[0]), narrow(dilation[0])};
  const Axis w{narrow(input_size[1]), 0, 0, narrow(stride[1]), narrow(padding[1]), narrow(dilation[1])};
  const ImageOrder order(indices, expect_images({&indices}));
  const ByTap code = by_tap(kernel_size);
  const ::kdl::Launch shape(blocks_for(indices.size(), 256), 256, stream);
  if (winner.dtype == DType::u8)
    launch<max_indices_kernel<uint8_t>>(shape, winner.as<const uint8_t>(), indices.as<int64_t>(), order, h, w, code.S, code.outside, indices.size());
  else
    launch<max_indices_kernel<int32_t>>(shape, winner.as<const int32_t>(), indices.as<int64_t>(), order, h, w, code.S, code.outside, indices.size());
}

void avg_pool2d_forward(const Array& x, const Array& y, Integers kernel_size, Integers stride, Integers padding, bool count_include_pad,
                        int64_t divisor_override, Stream stream) {
  avg_forward(x, y, pooling(x, y, y, kernel_size, stride, padding), count_include_pad, static_cast<int>(divisor_override), stream);
}

void avg_pool2d_backward(const Array& gy, const Array& gx, Integers kernel_size, Integers stride, Integers padding, bool count_include_pad,
                         int64_t divisor_override, Stream stream) {
  avg_backward(gy, gx, pooling(gx, gy, gx, kernel_size, stride, padding), count_include_pad, static_cast<int>(divisor_override), stream);
}

void adaptive_avg_pool2d_forward(const Array& x, const Array& y, Stream stream) { avg_forward(x, y, adaptive(x, y, y), true, 0, stream); }

void adaptive_avg_pool2d_backward(const Array& gy, const Array& gx, Stream stream) { avg_backward(gy, gx, adaptive(gx, gy, gx), true, 0, stream); }

void adaptive_max_pool2d_forward(const Array& x, const Array& y, const Array& index, Stream stream) {
  max_forward(x, y, index, adaptive(x, y, y), ByPosition{narrow(x.shape[3]), -1}, stream);
}

void adaptive_max_pool2d_backward(const Array& gy, const Array& index, const Array& gx, Stream stream) {
  max_backward(gy, index, gx, adaptive(gx, gy, gx), ByPosition{narrow(gx.shape[3]), -1}, stream);
}

KDL_EXPORT(max_pool2d_forward, "x", "y", "winner", "kernel_size", "stride", "padding", "dilation")
KDL_EXPORT(max_pool2d_backward, "gy", "winner", "gx", "kernel_size", "stride", "padding", "dilation")
KDL_EXPORT(max_pool2d_indices, "winner", "indices", "kernel_size", "stride", "padding", "dilation", "input_size")
KDL_EXPORT(avg_pool2d_forward, "x", "y", "kernel_size", "stride", "padding", "count_include_pad", "divisor_override")
KDL_EXPORT(avg_pool2d_backward, "gy", "gx", "kernel_size", "stride", "padding", "count_include_pad", "divisor_override")
KDL_EXPORT(adaptive_avg_pool2d_forward, "x", "y")
KDL_EXPORT(adaptive_avg_pool2d_backward, "gy", "gx")
KDL_EXPORT(adaptive_max_pool2d_forward, "x", "y", "index")
KDL_EXPORT(adaptive_max_pool2d_backward, "gy", "index", "gx")

}  // namespace kdl::pool
