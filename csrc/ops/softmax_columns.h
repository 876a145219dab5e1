// Rows that interleave (inner > 1): class c of a row lies c * inner further on, so that a thread takes the same class of neighbouring rows in
// one load of 8 bytes, and a warp's loads are neighbours. Where there are few rows, eight warps share the classes. For softmax.cu.
#pragma once
#include "kdl/divide.h"
#include "softmax_target.h"

namespace kdl::softmax {

constexpr int column_threads = 256;

// The same class of neighbouring rows.
template <class T> inline constexpr int column_width = 8 / sizeof(T);
template <class T> struct alignas(8) Neighbours {
  T item[column_width<T>];
};

struct Columns {
  int64_t columns;  // groups of `width` rows: outer * inner / width
  Divider per_outer;  // inner / width
  int C;
  int64_t inner;
  int width;   // column_width, or 1 where that does not divide inner or an address is not aligned to 8 bytes
  int slices;  // threads that share the classes of a column: 1, or 8
};

// The rows of this thread and its share of the classes.
template <class T> struct Column {
  int64_t row, at, step;
  int C, slice, slices, width;
  bool exists;

  KDL_FN explicit Column(const Columns& s) : step(s.inner), C(s.C), slices(s.slices), width(s.width) {
    const int per_block = column_threads / slices;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * per_block + threadIdx.x % per_block;
    slice = threadIdx.x / per_block;
    exists = column < s.columns;
    const int64_t outer = s.per_outer.quotient(exists ? column : 0), within = (exists ? column : 0) - outer * s.per_outer.divisor;
    row = outer * s.inner + within * width;
    at = outer * C * s.inner + within * width;
  }

  KDL_FN Neighbours<T> load(const T* x, int c) const {
    Neighbours<T> value = {};
    if (width == column_width<T>) {
      const uint2 bits = *reinterpret_cast<const uint2*>(x + place(c));
      memcpy(&value, &bits, sizeof(bits));
    } else {
      value.item[0] = x[place(c)];
    }
    return value;
  }
  KDL_FN void store(T* y, int c, const Neighbours<T>& value) const {
    if (width == column_width<T>) {
      uint2 bits;
      memcpy(&bits, &value, sizeof(bits));
      *reinterpret_cast<uint2*>(y + place(c)) = bits;
    } else {
      y[place(c)] = value.item[0];
    }
  }
  KDL_FN int64_t place(int c) const { return at + c * step; }

  // body(c, loaded) for this thread's classes, the next one's elements loaded ahead.
  template <class Load, class Body> KDL_FN void each(Load load, Body body) const {
    if (exists) for_loaded(slice, C, slices, load, body);
  }

  // Every thread receives what the threads of its column hold, merged in the order of the slices. All threads of the block must call it.
  template <class V> KDL_FN V reduce(V value) const {
    if (slices == 1) return value;
    using Partials = V[column_threads];
    KDL_SHARED(Partials, partial);
    const int per_block = column_threads / slices, column = threadIdx.x % per_block;
    partial[threadIdx.x] = value;
    __syncthreads();
    value = partial[column];
#pragma unroll 1
    for (int other = 1; other < slices; ++other) value = value.merged(partial[other * per_block + column]);
    __syncthreads();
    return value;
  }
};

template <class T>
__global__ void __launch_bounds__(column_threads) forward_columns_kernel(Columns s, const T* x, T* y, bool log_form) {
  using A = compute_t<T>;
  const Column<T> column(s);
  const auto load = [&](int c) { return column.load(x, c); };
  Peak<A> peak[column_width<T>];
  column.each(load, [&](int, const Neighbours<T>& v) {
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k)
      if (k < s.width) peak[k].add(to_compute(v.item[k]));
  });
  A log_total[column_width<T>];
#pragma unroll
  for (int k = 0; k < column_width<T>; ++k)
    if (k < s.width) {
      peak[k] = column.reduce(peak[k]).of_row();
      log_total[k] = log_form ? log(peak[k].total) : A(1) / peak[k].total;
    }
  column.each(load, [&](int c, const Neighbours<T>& v) {
    Neighbours<T> result = v;
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k)
      if (k < s.width) {
        const A z = to_compute(v.item[k]) - peak[k].max;
        result.item[k] = from_compute<T>(log_form ? z - log_total[k] : exp(z) * log_total[k]);
      }
    column.store(y, c, result);
  });
}

template <class T>
__global__ void __launch_bounds__(column_threads) backward_columns_kernel(Columns s, const T* y, const T* gy, T* gx, bool log_form) {
  using A = compute_t<T>;
  const Column<T> column(s);
  Sum<A> sum[column_width<T>];
  struct Loaded {
    Neighbours<T> y, gy;
  };
  const auto load = [&](int c) { return Loaded{column.load(y, c), column.load(gy, c)}; };
  column.each(load, [&](int, const Loaded& v) {
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k)
      sum[k].value += log_form ? to_compute(v.gy.item[k]) : to_compute(v.y.item[k]) * to_compute(v.gy.item[k]);
  });
#pragma unroll
  for (int k = 0; k < column_width<T>; ++k)
    if (k < s.width) sum[k] = column.reduce(sum[k]);
  column.each(load, [&](int c, const Loaded& v) {
    Neighbours<T> result;
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k) {
      const A value = to_compute(v.y.item[k]), g = to_compute(v.gy.item[k]);
      result.item[k] = from_compute<T>(log_form ? g - exp(value) * sum[k].value : value * (g - sum[k].value));
    }
    column.store(gx, c, result);
  });
}

template <class T>
__global__ void __launch_bounds__(column_threads) cross_entropy_columns_kernel(Columns s, const T* x, Target<T> target, PerRow<T> out) {
  using A = compute_t<T>;
  const Column<T> column(s);
  Tally<A> tally[column_width<T>];
  int label[column_width<T>];
#pragma unroll
  for (int k = 0; k < column_width<T>; ++k)
    label[k] = target.label && column.exists && k < s.width ? static_cast<int>(target.label[column.row + k]) : -1;
  const bool weighted = !target.is_label_alone();
  column.each([&](int c) { return column.load(x, c); }, [&](int c, const Neighbours<T>& v) {
    const Neighbours<T> t = target.probability ? column.load(target.probability, c) : v;
    const A w = weighted ? target.w(c) : A(0);
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k)
      if (k < s.width) {
        const A before = tally[k].peak.base(), value = to_compute(v.item[k]);
        tally[k].peak.add(value);
        if (weighted) {
          tally[k].move_base(before, tally[k].peak.base());
          tally[k].add_weighted(target.q(w, target.probability ? to_compute(t.item[k]) : A(label[k] == c)), value);
        }
      }
  });
#pragma unroll
  for (int k = 0; k < column_width<T>; ++k)
    if (k < s.width) {
      tally[k] = column.reduce(tally[k]);
      if (column.exists && column.slice == 0) out.store(column.row + k, tally[k], target, x + column.at + k, column.step);
    }
}

template <class T>
__global__ void __launch_bounds__(column_threads)
    cross_entropy_backward_columns_kernel(Columns s, const T* x, Target<T> target, PerRow<T> saved, const compute_t<T>* gy, T* gx) {
  using A = compute_t<T>;
  const Column<T> column(s);
  if (!column.exists) return;
  A weights = A(s.C);
  if (target.label && target.weight && target.spread != A(0)) {
    weights = 0;
#pragma unroll 1
    for (int c = 0; c < s.C; ++c) weights += target.w(c);
  }
  int label[column_width<T>];
  A g[column_width<T>], peak[column_width<T>], scale[column_width<T>];
#pragma unroll
  for (int k = 0; k < column_width<T>; ++k) {
    const int64_t row = column.row + (k < s.width ? k : 0);
    const bool is_used = target.used(row);
    label[k] = is_used && target.label ? static_cast<int>(target.label[row]) : -1;
    const A mass = saved.mass ? saved.mass[row] : is_used ? target.sure * target.w(label[k]) + target.spread * weights : A(0);
    g[k] = gy[row], peak[k] = saved.peak[row], scale[k] = g[k] * mass / saved.total[row];
  }
  column.each([&](int c) { return column.load(x, c); }, [&](int c, const Neighbours<T>& v) {
    const Neighbours<T> t = target.probability ? column.load(target.probability, c) : v;
    const A w = target.w(c);
    Neighbours<T> result;
#pragma unroll
    for (int k = 0; k < column_width<T>; ++k) {
      const A q = target.q(w, target.probability ? to_compute(t.item[k]) : A(label[k] == c));
      const bool is_used = !target.label || label[k] >= 0;
      result.item[k] = from_compute<T>(is_used ? exp(to_compute(v.item[k]) - peak[k]) * scale[k] - g[k] * q : A(0));
    }
    column.store(gx, c, result);
  });
}

}  // namespace kdl::softmax
