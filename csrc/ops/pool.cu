// What     max_pool2d, avg_pool2d and their adaptive forms, forward and backward, and the flat indices of the maxima.
// Maths    max: y = max over the window, the first of equals, the last of NaNs; average: y = sum over the window / divisor. Backward gathers:
//          every input element sums the outputs whose window it is in (max: those that it won), so nothing is scattered and no atomic is
//          needed.
// Traffic  max forward: x once, y and winner once (winner: 1 byte up to 255 taps); backward: gy and winner once, gx once; average the same
//          without winners. Windows that overlap are read again from L1: threads read each tap of each window. Bound by device memory.
// Tiling   channels-last: a thread has the channels of one pack of one place. Contiguous: one place, found by 32-bit arithmetic within the
//          block's part of the plane. Either way neighbours in a warp are neighbours in memory, and several taps are loaded at a time.
// Numerics float16 and bfloat16 are averaged in float; a gradient's terms are added in one fixed order, the last output first.
// Limits   contiguous or channels-last, all arrays alike; the planes below 2^31 elements. A window that is a whole plane has one thread.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_pool.py).
#include "kdl/dispatch.h"
#include "kdl/image.h"
#include "kdl/launch.h"
#include "kdl/pack.h"
#include "pool_axis.h"

namespace kdl::pool {

// --- device ---

constexpr int threads = 256;

// Several neighbours in one load where their address allows.
template <class T, int n> struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Few {
  T item[n];
};
template <class T, int n> KDL_FN Few<T, n> load_few(const T* address, int count) {
  if (count == n && reinterpret_cast<uintptr_t>(address) % alignof(Few<T, n>) == 0) return *reinterpret_cast<const Few<T, n>*>(address);
  Few<T, n> few = {};
#pragma unroll
  for (int i = 0; i < n; ++i)
    if (i < count) few.item[i] = address[i];
  return few;
}
template <class T, int n> KDL_FN void store_few(T* address, const Few<T, n>& few, int count) {
  if (count == n && reinterpret_cast<uintptr_t>(address) % alignof(Few<T, n>) == 0) {
    *reinterpret_cast<Few<T, n>*>(address) = few;
    return;
  }
#pragma unroll
  for (int i = 0; i < n; ++i)
    if (i < count) address[i] = few.item[i];
}

// Where the winners' codes are kept, laid out as y: in 1, 4 or 8 bytes each, which is no reason to compile everything three times.
struct Winners {
  void* codes;
  int bytes;

  template <int n> KDL_FN Few<int, n> load(int64_t at, int count) const {
    return bytes == 1 ? load_as<uint8_t, n>(at, count) : bytes == 4 ? load_as<int32_t, n>(at, count) : load_as<int64_t, n>(at, count);
  }
  template <int n> KDL_FN void store(int64_t at, const Few<int, n>& code, int count) const {
    if (bytes == 1) store_as<uint8_t>(at, code, count);
    else if (bytes == 4) store_as<int32_t>(at, code, count);
    else store_as<int64_t>(at, code, count);
  }

 private:
  template <class Stored, int n> KDL_FN Few<int, n> load_as(int64_t at, int count) const {
    const Few<Stored, n> stored = load_few<Stored, n>(static_cast<const Stored*>(codes) + at, count);
    Few<int, n> code;
#pragma unroll
    for (int i = 0; i < n; ++i) code.item[i] = static_cast<int>(stored.item[i]);
    return code;
  }
  template <class Stored, int n> KDL_FN void store_as(int64_t at, const Few<int, n>& code, int count) const {
    Few<Stored, n> stored;
#pragma unroll
    for (int i = 0; i < n; ++i) stored.item[i] = static_cast<Stored>(code.item[i]);
    store_few(static_cast<Stored*>(codes) + at, stored, count);
  }
};

// The places of one image array that the threads run over: `groups` of channels (channels-last) or planes (contiguous), rows, columns.
struct Pooling {
  Axis h, w;
  ImageStrides x, y;
  int64_t places;           // of all threads
  Divider groups, plane;    // groups of channels; places of a plane
  Divider32 within, width;  // places of a plane; of a row
  int C;
};

template <class T, bool last> struct Place {
  static constexpr int width = last ? pack_width<T> : 1;
  int64_t x, y;  // where its image or plane begins in x and in y, with its channel
  int row, column, count;

  KDL_FN explicit Place(const Pooling& p) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * threads;
    if constexpr (last) {
      const int64_t index = first + threadIdx.x, pixel = p.groups.quotient(index), n = p.plane.quotient(pixel);
      const int channel = static_cast<int>(index - pixel * p.groups.divisor) * width;
      count = index < p.places ? (p.C - channel < width ? p.C - channel : width) : 0;
      find(p, static_cast<uint32_t>(pixel - n * p.plane.divisor));
      x = n * p.x.n + channel, y = n * p.y.n + channel;
    } else {
      const int64_t block_plane = p.plane.quotient(first);
      const uint32_t offset = static_cast<uint32_t>(first - block_plane * p.plane.divisor) + threadIdx.x, further = p.within.quotient(offset);
      const int64_t plane = block_plane + further;
      count = first + threadIdx.x < p.places;
      find(p, offset - further * p.within.divisor);
      x = plane * p.h.size * p.w.size, y = plane * p.h.out * p.w.out;
    }
  }
  KDL_FN void find(const Pooling& p, uint32_t within) {
    row = static_cast<int>(p.width.quotient(within));
    column = static_cast<int>(within - row * p.width.divisor);
  }
};

// body(r, s, loaded) for the taps of a window, row by row, where loaded = load(row, column); several are loaded at a time.
template <int batch, class Load, class Body> KDL_FN void each_tap(const Span& rows, const Span& columns, Load load, Body body) {
  const int count = rows.count * columns.count;
  int r = 0, s = 0;
#pragma unroll 1
  for (int done = 0; done < count; done += batch) {
    decltype(load(0, 0)) loaded[batch];
    int row[batch], column[batch];
#pragma unroll
    for (int b = 0; b < batch; ++b)
      if (done + b < count) {
        row[b] = r, column[b] = s;
        loaded[b] = load(rows.first + r * rows.step, columns.first + s * columns.step);
        if (++s == columns.count) s = 0, ++r;
      }
#pragma unroll
    for (int b = 0; b < batch; ++b)
      if (done + b < count) body(row[b], column[b], loaded[b]);
  }
}
template <bool last> inline constexpr int taps_at_once = last ? 2 : 4;

template <class T, bool last>
__global__ void __launch_bounds__(threads) max_forward_kernel(const T* x, T* y, Winners winners, Pooling p, Code code) {
  using A = compute_t<T>;
  const Place<T, last> place(p);
  constexpr int width = Place<T, last>::width;
  if (place.count == 0) return;
  const Span rows = p.h.window(place.row), columns = p.w.window(place.column);
  A best[width];
  Few<int, width> which;
  bool none = true;
#pragma unroll
  for (int k = 0; k < width; ++k) best[k] = -INFINITY, which.item[k] = code.outside;
  each_tap<taps_at_once<last>>(rows, columns, [&](int h, int w) { return load_few<T, width>(x + place.x + h * p.x.h + w * p.x.w, place.count); },
                               [&](int r, int s, const Few<T, width>& v) {
    const int at = code.at(rows.first_tap + r, columns.first_tap + s, rows.first + r * rows.step, columns.first + s * columns.step);
#pragma unroll
    for (int k = 0; k < width; ++k)
      if (const A value = to_compute(v.item[k]); value > best[k] || value != value || none) best[k] = value, which.item[k] = at;
    none = false;
  });
  const int64_t to = place.y + place.row * p.y.h + place.column * p.y.w;
  Few<T, width> values;
#pragma unroll
  for (int k = 0; k < width; ++k) values.item[k] = from_compute<T>(best[k]);
  store_few(y + to, values, place.count);
  winners.store(to, which, place.count);
}

// So many blocks and no more: unasked, the compiler spills for the sake of eight.
template <class T, bool last>
__global__ void __launch_bounds__(threads, last ? 4 : 5) max_backward_kernel(const T* gy, Winners winners, T* gx, Pooling p, Code code) {
  const Place<T, last> place(p);
  constexpr int width = Place<T, last>::width;
  if (place.count == 0) return;
  const Outputs rows = p.h.outputs(place.row), columns = p.w.outputs(place.column);
  compute_t<T> sum[width] = {};
#pragma unroll 1
  for (int a = 0; a < rows.count; ++a) {
    const int i = rows.last - a, r = p.h.tap(place.row, i);
#pragma unroll 1
    for (int b = 0; b < columns.count && r >= 0; ++b) {
      const int j = columns.last - b, s = p.w.tap(place.column, j);
      if (s < 0) continue;
      const int64_t at = place.y + i * p.y.h + j * p.y.w;
      const Few<T, width> g = load_few<T, width>(gy + at, place.count);
      const Few<int, width> winner = winners.load<width>(at, place.count);
      const int mine = code.at(r, s, place.row, place.column);
#pragma unroll
      for (int k = 0; k < width; ++k)
        if (winner.item[k] == mine) sum[k] += to_compute(g.item[k]);
    }
  }
  Few<T, width> result;
#pragma unroll
  for (int k = 0; k < width; ++k) result.item[k] = from_compute<T>(sum[k]);
  store_few(gx + place.x + place.row * p.x.h + place.column * p.x.w, result, place.count);
}

template <class T, bool last>
__global__ void __launch_bounds__(threads) avg_forward_kernel(const T* x, T* y, Pooling p, bool count_padding, int divisor) {
  using A = compute_t<T>;
  const Place<T, last> place(p);
  constexpr int width = Place<T, last>::width;
  if (place.count == 0) return;
  A sum[width] = {};
  each_tap<taps_at_once<last>>(p.h.window(place.row), p.w.window(place.column),
                               [&](int h, int w) { return load_few<T, width>(x + place.x + h * p.x.h + w * p.x.w, place.count); },
                               [&](int, int, const Few<T, width>& v) {
#pragma unroll
    for (int k = 0; k < width; ++k) sum[k] += to_compute(v.item[k]);
  });
  const A share = A(1) / A(divisor ? divisor : p.h.area(place.row, count_padding) * p.w.area(place.column, count_padding));
  Few<T, width> result;
#pragma unroll
  for (int k = 0; k < width; ++k) result.item[k] = from_compute<T>(sum[k] * share);
  store_few(y + place.y + place.row * p.y.h + place.column * p.y.w, result, place.count);
}

template <class T, bool last>
__global__ void __launch_bounds__(threads) avg_backward_kernel(const T* gy, T* gx, Pooling p, bool count_padding, int divisor) {
  using A = compute_t<T>;
  const Place<T, last> place(p);
  constexpr int width = Place<T, last>::width;
  if (place.count == 0) return;
  const Outputs rows = p.h.outputs(place.row), columns = p.w.outputs(place.column);
  A sum[width] = {};
#pragma unroll 1
  for (int a = 0; a < rows.count; ++a) {
    const int i = rows.last - a, height = p.h.area(i, count_padding);
#pragma unroll 1
    for (int b = 0; b < columns.count; ++b) {
      const int j = columns.last - b;
      const Few<T, width> g = load_few<T, width>(gy + place.y + i * p.y.h + j * p.y.w, place.count);
      const A share = A(1) / A(divisor ? divisor : height * p.w.area(j, count_padding));
#pragma unroll
      for (int k = 0; k < width; ++k) sum[k] += to_compute(g.item[k]) * share;
    }
  }
  Few<T, width> result;
#pragma unroll
  for (int k = 0; k < width; ++k) result.item[k] = from_compute<T>(sum[k]);
  store_few(gx + place.x + place.row * p.x.h + place.column * p.x.w, result, place.count);
}

// The flat position in its plane of every maximum; -1 where the window lies outside the input.
__global__ void __launch_bounds__(threads)
    max_indices_kernel(Winners winners, int64_t* indices, ImageOrder order, Axis h, Axis w, Code code, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (index >= count) return;
  int n, c, i, j;
  order.place(index, &n, &c, &i, &j);
  const int tap = winners.load<1>(index, 1).item[0], r = tap / code.pitch, s = tap % code.pitch;
  const int64_t row = i * h.stride - h.padding + r * h.dilation, column = j * w.stride - w.padding + s * w.dilation;
  indices[index] = tap == code.outside ? -1 : row * w.size + column;
}

// --- launch ---

int narrow(int64_t n) {
  expect(n >= 0 && n < int64_t{1} << 31, "a dimension or parameter is outside [0, 2^31): ", n);
  return static_cast<int>(n);
}

Axis axis(int64_t size, int64_t out, int d, Integers kernel_size, Integers stride, Integers padding, const Integers* dilation) {
  expect(kernel_size.count == 2 && stride.count == 2 && padding.count == 2, "kernel_size, stride and padding must have 2 numbers each");
  return {narrow(size), narrow(out), narrow(kernel_size[d]), narrow(stride[d]), narrow(padding[d]), dilation ? narrow((*dilation)[d]) : 1, false,
          Divider(out), Divider(size), Divider32(stride[d]), Divider32(dilation ? (*dilation)[d] : 1)};
}

Axis adaptive_axis(int64_t size, int64_t out) {
  return {narrow(size), narrow(out), 0, 1, 0, 1, true, Divider(out), Divider(size), Divider32(1), Divider32(1)};
}

// The two axes between x and y.
struct Plan {
  Axis h, w;
  bool channels_last;

  Plan(const Array& x, const Array& y, Integers kernel_size, Integers stride, Integers padding, const Integers* dilation = nullptr)
      : h(axis(x.shape[2], y.shape[2], 0, kernel_size, stride, padding, dilation)),
        w(axis(x.shape[3], y.shape[3], 1, kernel_size, stride, padding, dilation)), channels_last(checked(x, y)) {}

  Plan(const Array& x, const Array& y)  // adaptive
      : h(adaptive_axis(x.shape[2], y.shape[2])), w(adaptive_axis(x.shape[3], y.shape[3])), channels_last(checked(x, y)) {}

  static bool checked(const Array& x, const Array& y) {
    expect(x.dtype == y.dtype && x.shape[0] == y.shape[0] && x.shape[1] == y.shape[1],
           "x and y must agree in dtype, images and channels, got ", x, ", ", y);
    return expect_images({&x, &y});
  }

  Pooling over(const Array& x, const Array& y, const Array& over, int pack) const {
    const int64_t C = over.shape[1], plane = over.shape[2] * over.shape[3], groups = channels_last ? (C + pack - 1) / pack : C;
    expect(plane < int64_t{1} << 31, "the planes must be below 2^31 elements, got ", over);
    return {h, w, ImageStrides(x), ImageStrides(y), over.shape[0] * groups * plane, Divider(groups), Divider(plane), Divider32(plane),
            Divider32(over.shape[3]), narrow(C)};
  }
};

// body(Type<T>{}, channels_last, pooling)
template <class Body> void dispatch_pooling(const Plan& plan, const Array& x, const Array& y, const Array& over, Body body) {
  if (over.size() == 0) return;
  dispatch_floating(over, "x", [&](auto type) {
    const Pooling p = plan.over(x, y, over, pack_width<typename decltype(type)::type>);
    if (plan.channels_last) body(type, std::true_type{}, p);
    else body(type, std::false_type{}, p);
  });
}

Winners winners_of(const Array& y, const Array& winner) {
  const bool is_known = winner.dtype == DType::u8 || winner.dtype == DType::i32 || winner.dtype == DType::i64;
  expect(is_known && winner.same_layout(y), "winner must be uint8, int32 or int64 with the outputs' shape and layout, got ", winner, ", ", y);
  return {winner.data, dtype_bytes[static_cast<int>(winner.dtype)]};
}

::kdl::Launch for_places(const Pooling& p, Stream stream) { return {blocks_for(p.places, threads), threads, stream}; }

void max_forward(const Array& x, const Array& y, const Array& winner, const Plan& plan, const Code& code, Stream stream) {
  const Winners winners = winners_of(y, winner);
  dispatch_pooling(plan, x, y, y, [&](auto type, auto last, const Pooling& p) {
    using T = typename decltype(type)::type;
    launch<max_forward_kernel<T, last>>(for_places(p, stream), x.as<const T>(), y.as<T>(), winners, p, code);
  });
}

void max_backward(const Array& gy, const Array& winner, const Array& gx, const Plan& plan, const Code& code, Stream stream) {
  const Winners winners = winners_of(gy, winner);
  dispatch_pooling(plan, gx, gy, gx, [&](auto type, auto last, const Pooling& p) {
    using T = typename decltype(type)::type;
    launch<max_backward_kernel<T, last>>(for_places(p, stream), gy.as<const T>(), winners, gx.as<T>(), p, code);
  });
}

void avg_forward(const Array& x, const Array& y, const Plan& plan, bool count_padding, int64_t divisor, Stream stream) {
  dispatch_pooling(plan, x, y, y, [&](auto type, auto last, const Pooling& p) {
    using T = typename decltype(type)::type;
    launch<avg_forward_kernel<T, last>>(for_places(p, stream), x.as<const T>(), y.as<T>(), p, count_padding, static_cast<int>(divisor));
  });
}

void avg_backward(const Array& gy, const Array& gx, const Plan& plan, bool count_padding, int64_t divisor, Stream stream) {
  dispatch_pooling(plan, gx, gy, gx, [&](auto type, auto last, const Pooling& p) {
    using T = typename decltype(type)::type;
    launch<avg_backward_kernel<T, last>>(for_places(p, stream), gy.as<const T>(), gx.as<T>(), p, count_padding, static_cast<int>(divisor));
  });
}

Code by_tap(Integers kernel_size) { return {narrow(kernel_size[1]), narrow(kernel_size[0] * kernel_size[1]), false}; }
Code by_position(const Array& x) { return {narrow(x.shape[3]), -1, true}; }

void max_pool2d_forward(const Array& x, const Array& y, const Array& winner, Integers kernel_size, Integers stride, Integers padding,
                        Integers dilation, Stream stream) {
  max_forward(x, y, winner, Plan(x, y, kernel_size, stride, padding, &dilation), by_tap(kernel_size), stream);
}

void max_pool2d_backward(const Array& gy, const Array& winner, const Array& gx, Integers kernel_size, Integers stride, Integers padding,
                         Integers dilation, Stream stream) {
  max_backward(gy, winner, gx, Plan(gx, gy, kernel_size, stride, padding, &dilation), by_tap(kernel_size), stream);
}

void max_pool2d_indices(const Array& winner, const Array& indices, Integers kernel_size, Integers stride, Integers padding, Integers dilation,
                        Integers input_size, Stream stream) {
  expect(input_size.count == 2 && indices.dtype == DType::i64 && indices.same_layout(winner), "indices must be int64 and laid out as winner, got ",
         indices, ", ", winner);
  if (indices.size() == 0) return;
  const Axis h = axis(input_size[0], 0, 0, kernel_size, stride, padding, &dilation);
  const Axis w = axis(input_size[1], 0, 1, kernel_size, stride, padding, &dilation);
  const ImageOrder order(indices, expect_images({&indices}));
  launch<max_indices_kernel>({blocks_for(indices.size(), threads), threads, stream}, winners_of(indices, winner), indices.as<int64_t>(), order, h, w,
                             by_tap(kernel_size), indices.size());
}

void avg_pool2d_forward(const Array& x, const Array& y, Integers kernel_size, Integers stride, Integers padding, bool count_include_pad,
                        int64_t divisor_override, Stream stream) {
  avg_forward(x, y, Plan(x, y, kernel_size, stride, padding), count_include_pad, divisor_override, stream);
}

void avg_pool2d_backward(const Array& gy, const Array& gx, Integers kernel_size, Integers stride, Integers padding, bool count_include_pad,
                         int64_t divisor_override, Stream stream) {
  avg_backward(gy, gx, Plan(gx, gy, kernel_size, stride, padding), count_include_pad, divisor_override, stream);
}

void adaptive_avg_pool2d_forward(const Array& x, const Array& y, Stream stream) { avg_forward(x, y, Plan(x, y), true, 0, stream); }

void adaptive_avg_pool2d_backward(const Array& gy, const Array& gx, Stream stream) { avg_backward(gy, gx, Plan(gx, gy), true, 0, stream); }

void adaptive_max_pool2d_forward(const Array& x, const Array& y, const Array& index, Stream stream) {
  max_forward(x, y, index, Plan(x, y), by_position(x), stream);
}

void adaptive_max_pool2d_backward(const Array& gy, const Array& index, const Array& gx, Stream stream) {
  max_backward(gy, index, gx, Plan(gx, gy), by_position(gx), stream);
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
