// What     softmax and log_softmax along the middle axis of (outer, C, inner), and cross-entropy with class indices or probabilities: the
//          forward keeps each row's peak and sum, from which the backward makes the gradient in one pass over the logits.
// Maths    p = exp(x - peak) / total; softmax y = p, gx = y (gy - sum(y gy)); log_softmax y = log p, gx = gy - exp(y) sum(gy);
//          cross-entropy loss = -sum of q log p, gx = gy (p sum(q) - q), where q is the weighted, smoothed target.
// Traffic  softmax: x read once from memory and once from L1 or L2, y written once; backward 2R+1W; cross-entropy forward 1R, backward 1R+1W.
// Tiling   a row belongs to one thread (inner > 1: neighbouring threads have neighbouring rows), to a warp (C up to 1024) or to a block of 256.
// Numerics sums in float for half types, double for float64, in one fixed order; peaks and sums are merged, so no exponential overflows.
//          A row of nothing but -inf gives NaN, as it does in torch.
// Limits   contiguous arrays; labels were checked by the caller. peak, total and loss are float32, or float64 with float64.
// Measured not yet on hardware.
#include "kdl/divide.h"
#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/reduce.h"

namespace kdl::softmax {

// --- device ---

constexpr int threads = 256;

// The row that `group` threads share: element c lies at base + c * step, and this thread has c = lane, lane + group, ...
template <int group> struct Row {
  int64_t number, base, step;
  int lane;
  bool exists;

  KDL_FN Row(int64_t rows, int64_t C, const Divider& inner) {
    lane = threadIdx.x % group;
    number = static_cast<int64_t>(blockIdx.x) * (threads / group) + threadIdx.x / group;
    exists = number < rows;
    const int64_t outer = inner.quotient(exists ? number : 0), in = (exists ? number : 0) - outer * inner.divisor;
    base = outer * C * inner.divisor + in;
    step = inner.divisor;
  }

  // body(c, index) for every element of this thread.
  template <class Body> KDL_FN void each(int64_t C, Body body) const {
    if (exists)
      for (int64_t c = lane; c < C; c += group) body(c, base + c * step);
  }
};

// The largest of some numbers, and the sum of exp(number - largest).
template <class A> struct Peak {
  A max = -INFINITY, total = 0;

  KDL_FN void add(A v) {
    if (v > max || v != v) {
      total = max == -INFINITY ? A(1) : total * exp(max - v) + A(1);
      max = v;
    } else {
      total += exp(v - max);
    }
  }
  KDL_FN Peak merged(const Peak& other) const {
    if (other.total == A(0)) return *this;
    if (total == A(0)) return other;
    const A top = max > other.max || max != max ? max : other.max;
    return {top, total * exp(max - top) + other.total * exp(other.max - top)};
  }
};

template <class A> KDL_FN Peak<A> shuffled(const Peak<A>& p, int offset) {
  return {__shfl_xor_sync(full_warp, p.max, offset), __shfl_xor_sync(full_warp, p.total, offset)};
}

// Every thread of the group receives the merged peak; merged in a tree over the lanes.
template <int group, class A> KDL_FN Peak<A> group_peak(Peak<A> mine) {
  if constexpr (group >= 32) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const Peak<A> other = shuffled(mine, offset);
      mine = threadIdx.x & offset ? other.merged(mine) : mine.merged(other);  // the lower lane first, so that both agree to the bit
    }
  }
  if constexpr (group == threads) {
    using Partials = A[2][threads / 32];
    KDL_SHARED(Partials, partial);
    if (threadIdx.x % 32 == 0) {
      partial[0][threadIdx.x / 32] = mine.max;
      partial[1][threadIdx.x / 32] = mine.total;
    }
    __syncthreads();
    mine = {partial[0][0], partial[1][0]};
    for (int warp = 1; warp < threads / 32; ++warp) mine = mine.merged({partial[0][warp], partial[1][warp]});
    __syncthreads();
  }
  return mine;
}

template <int group, class A> KDL_FN A group_sum(A mine) {
  if constexpr (group == threads) return block_sum<threads>(mine);
  else if constexpr (group == 32) return warp_sum(mine);
  else return mine;
}

template <int group, class T> KDL_FN Peak<compute_t<T>> peak_of(const Row<group>& row, const T* x, int64_t C) {
  Peak<compute_t<T>> mine;
  row.each(C, [&](int64_t, int64_t at) { mine.add(to_compute(x[at])); });
  return group_peak<group>(mine);
}

template <class T, int group, bool log_form>
__global__ void __launch_bounds__(threads) forward_kernel(const T* x, T* y, int64_t rows, int64_t C, Divider inner) {
  using A = compute_t<T>;
  const Row<group> row(rows, C, inner);
  const Peak<A> peak = peak_of(row, x, C);
  const A log_total = log(peak.total), scale = A(1) / peak.total;
  row.each(C, [&](int64_t, int64_t at) {
    const A z = to_compute(x[at]) - peak.max;
    y[at] = from_compute<T>(log_form ? z - log_total : exp(z) * scale);
  });
}

template <class T, int group, bool log_form>
__global__ void __launch_bounds__(threads) backward_kernel(const T* y, const T* gy, T* gx, int64_t rows, int64_t C, Divider inner) {
  using A = compute_t<T>;
  const Row<group> row(rows, C, inner);
  A mine = 0;
  row.each(C, [&](int64_t, int64_t at) { mine += log_form ? to_compute(gy[at]) : to_compute(y[at]) * to_compute(gy[at]); });
  const A sum = group_sum<group>(mine);
  row.each(C, [&](int64_t, int64_t at) {
    const A v = to_compute(y[at]), g = to_compute(gy[at]);
    gx[at] = from_compute<T>(log_form ? g - exp(v) * sum : v * (g - sum));
  });
}

// q[c] = w[c] ((1 - smoothing) [c == label] + smoothing / C) for class indices.
template <class T> struct Labels {
  const int64_t* target;
  const T* weight;  // or nullptr
  int64_t C, ignore_index;
  compute_t<T> smoothing;

  KDL_FN bool used(int64_t row) const { return target[row] != ignore_index; }
  KDL_FN compute_t<T> w(int64_t c) const { return weight ? to_compute(weight[c]) : compute_t<T>(1); }
  KDL_FN compute_t<T> q(int64_t row, int64_t c, int64_t) const {
    const compute_t<T> hit = target[row] == c ? compute_t<T>(1) - smoothing : compute_t<T>(0);
    return w(c) * (hit + smoothing / static_cast<compute_t<T>>(C));
  }

  // body(index, q) for every class of this thread whose q may differ from 0: without smoothing that is the label alone.
  template <int group, class Body> KDL_FN void each(const Row<group>& row, Body body) const {
    if (smoothing != compute_t<T>(0)) {
      row.each(C, [&](int64_t c, int64_t at) { body(at, q(row.number, c, at)); });
    } else {
      const int64_t label = target[row.number];
      if (label % group == row.lane) body(row.base + label * row.step, w(label));
    }
  }
};

// q[c] = w[c] ((1 - smoothing) target[c] + smoothing / C) for class probabilities, laid out as x.
template <class T> struct Probabilities {
  const T* target;
  const T* weight;  // or nullptr
  int64_t C;
  compute_t<T> smoothing;

  KDL_FN bool used(int64_t) const { return true; }
  KDL_FN compute_t<T> q(int64_t, int64_t c, int64_t at) const {
    const compute_t<T> w = weight ? to_compute(weight[c]) : compute_t<T>(1);
    return w * ((compute_t<T>(1) - smoothing) * to_compute(target[at]) + smoothing / static_cast<compute_t<T>>(C));
  }
  template <int group, class Body> KDL_FN void each(const Row<group>& row, Body body) const {
    row.each(C, [&](int64_t c, int64_t at) { body(at, q(row.number, c, at)); });
  }
};

// loss = -sum of q log p; an unused row gets loss 0, peak 0 and total 1. `mass`, where wanted, is the sum of q.
template <class T, int group, class Target>
__global__ void __launch_bounds__(threads)
    cross_entropy_forward_kernel(const T* x, Target target, compute_t<T>* loss, compute_t<T>* peaks, compute_t<T>* totals, compute_t<T>* mass,
                                 int64_t rows, int64_t C, Divider inner) {
  using A = compute_t<T>;
  const Row<group> row(rows, C, inner);
  const Peak<A> peak = peak_of(row, x, C);
  const bool used = row.exists && target.used(row.number);
  const A log_total = log(peak.total);
  A mine = 0, my_mass = 0;
  if (used)
    target.each(row, [&](int64_t at, A q) {
      mine -= q * (to_compute(x[at]) - peak.max - log_total);
      my_mass += q;
    });
  const A sum = group_sum<group>(mine), total_mass = group_sum<group>(my_mass);
  if (!row.exists || row.lane != 0) return;
  loss[row.number] = used ? sum : A(0);
  peaks[row.number] = used ? peak.max : A(0);
  totals[row.number] = used ? peak.total : A(1);
  if (mass) mass[row.number] = total_mass;
}

// gx = gy (p sum(q) - q).
template <class T, int group, class Target>
__global__ void __launch_bounds__(threads)
    cross_entropy_backward_kernel(const T* x, Target target, const compute_t<T>* peaks, const compute_t<T>* totals, const compute_t<T>* mass,
                                  const compute_t<T>* gy, T* gx, int64_t rows, int64_t C, Divider inner) {
  using A = compute_t<T>;
  const Row<group> row(rows, C, inner);
  const bool used = row.exists && target.used(row.number);
  A mine = 0;
  if (!mass && used) target.each(row, [&](int64_t, A q) { mine += q; });
  const A computed = group_sum<group>(mine), sum = mass && row.exists ? mass[row.number] : computed;
  if (!row.exists) return;
  const A peak = peaks[row.number], scale = A(1) / totals[row.number], g = gy[row.number];
  row.each(C, [&](int64_t c, int64_t at) {
    const A p = exp(to_compute(x[at]) - peak) * scale;
    gx[at] = from_compute<T>(used ? g * (p * sum - target.q(row.number, c, at)) : A(0));
  });
}

// --- launch ---

void expect_rows(const Array& x, const Array& other, const char* name) {
  expect(x.ndim == 3 && x.is_contiguous() && other.same_layout(x) && other.dtype == x.dtype, "x and ", name,
         " must be contiguous (outer, C, inner) of one dtype, got x ", x, ", ", name, " ", other);
}

// One number per row, (outer, inner), in the dtype that sums have.
void expect_per_row(const Array& x, const Array& a, const char* name) {
  const DType wanted = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  expect(a.ndim == 2 && a.is_contiguous() && a.dtype == wanted && a.shape[0] == x.shape[0] && a.shape[1] == x.shape[2], name,
         " must be contiguous (outer, inner) ", dtype_name[static_cast<int>(wanted)], ", got ", a, " for x ", x);
}

int64_t rows_of(const Array& x) { return x.shape[0] * x.shape[2]; }

// body(Type<T>{}, group): one thread for each row where rows are interleaved, a warp for a short row, a block for a long one.
template <class Body> void dispatch_rows(const Array& x, Body body) {
  dispatch_floating(x, "x", [&](auto type) {
    if (x.shape[2] > 1) return body(type, std::integral_constant<int, 1>{});
    if (x.shape[1] <= 1024) return body(type, std::integral_constant<int, 32>{});
    return body(type, std::integral_constant<int, threads>{});
  });
}

::kdl::Launch shape_for(const Array& x, int group, Stream stream) { return {blocks_for(rows_of(x), threads / group), threads, stream}; }

template <bool log_form> void forward(const Array& x, const Array& y, Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_rows(x, [&](auto type, auto group) {
    using T = typename decltype(type)::type;
    launch<forward_kernel<T, group, log_form>>(shape_for(x, group, stream), x.as<const T>(), y.as<T>(), rows_of(x), x.shape[1], Divider(x.shape[2]));
  });
}

template <bool log_form> void backward(const Array& y, const Array& gy, const Array& gx, Stream stream) {
  expect_rows(gx, y, "y");
  expect_rows(gx, gy, "gy");
  if (gx.size() == 0) return;
  dispatch_rows(gx, [&](auto type, auto group) {
    using T = typename decltype(type)::type;
    launch<backward_kernel<T, group, log_form>>(shape_for(gx, group, stream), y.as<const T>(), gy.as<const T>(), gx.as<T>(), rows_of(gx),
                                                gx.shape[1], Divider(gx.shape[2]));
  });
}

template <class T> const T* checked_weight(const Array& x, OptionalArray weight) {
  expect(!weight || (weight->dtype == x.dtype && weight->ndim == 1 && weight->shape[0] == x.shape[1] && weight->is_contiguous()),
         "weight must have x's dtype and one element per class, x ", x);
  return weight ? weight->as<const T>() : nullptr;
}

template <class T> Labels<T> labels(const Array& x, const Array& target, OptionalArray weight, int64_t ignore_index, double smoothing) {
  expect(target.dtype == DType::i64 && target.ndim == 2 && target.is_contiguous() && target.shape[0] == x.shape[0] && target.shape[1] == x.shape[2],
         "target must be contiguous int64 (outer, inner), got ", target, " for x ", x);
  return {target.as<const int64_t>(), checked_weight<T>(x, weight), x.shape[1], ignore_index, static_cast<compute_t<T>>(smoothing)};
}

template <class T> Probabilities<T> probabilities(const Array& x, const Array& target, OptionalArray weight, double smoothing) {
  expect_rows(x, target, "target");
  return {target.as<const T>(), checked_weight<T>(x, weight), x.shape[1], static_cast<compute_t<T>>(smoothing)};
}

// `make_target(Type<T>{})` is what the rows are compared with.
template <class MakeTarget>
void cross_entropy(const Array& x, const Array& loss, const Array& peak, const Array& total, OptionalArray mass, MakeTarget make_target, Stream stream) {
  expect(x.ndim == 3 && x.is_contiguous(), "x must be contiguous (outer, C, inner), got ", x);
  expect_per_row(x, loss, "loss");
  expect_per_row(x, peak, "peak");
  expect_per_row(x, total, "total");
  if (mass) expect_per_row(x, *mass, "mass");
  if (rows_of(x) == 0) return;
  dispatch_rows(x, [&](auto type, auto group) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const auto target = make_target(type);
    launch<cross_entropy_forward_kernel<T, group, std::decay_t<decltype(target)>>>(
        shape_for(x, group, stream), x.as<const T>(), target, loss.as<A>(), peak.as<A>(), total.as<A>(), mass ? mass->as<A>() : nullptr, rows_of(x),
        x.shape[1], Divider(x.shape[2]));
  });
}

template <class MakeTarget>
void cross_entropy_gradient(const Array& x, const Array& peak, const Array& total, OptionalArray mass, const Array& gy, const Array& gx,
                            MakeTarget make_target, Stream stream) {
  expect_rows(x, gx, "gx");
  expect_per_row(x, peak, "peak");
  expect_per_row(x, total, "total");
  expect_per_row(x, gy, "gy");
  if (mass) expect_per_row(x, *mass, "mass");
  if (x.size() == 0) return;
  dispatch_rows(x, [&](auto type, auto group) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const auto target = make_target(type);
    launch<cross_entropy_backward_kernel<T, group, std::decay_t<decltype(target)>>>(
        shape_for(x, group, stream), x.as<const T>(), target, peak.as<const A>(), total.as<const A>(), mass ? mass->as<const A>() : nullptr,
        gy.as<const A>(), gx.as<T>(), rows_of(x), x.shape[1], Divider(x.shape[2]));
  });
}

void cross_entropy_forward(const Array& x, const Array& target, OptionalArray weight, const Array& loss, const Array& peak, const Array& total,
                           int64_t ignore_index, double label_smoothing, Stream stream) {
  cross_entropy(x, loss, peak, total, nullptr, [&](auto type) {
    return labels<typename decltype(type)::type>(x, target, weight, ignore_index, label_smoothing);
  }, stream);
}

void cross_entropy_backward(const Array& x, const Array& target, OptionalArray weight, const Array& peak, const Array& total, const Array& gy,
                            const Array& gx, int64_t ignore_index, double label_smoothing, Stream stream) {
  cross_entropy_gradient(x, peak, total, nullptr, gy, gx, [&](auto type) {
    return labels<typename decltype(type)::type>(x, target, weight, ignore_index, label_smoothing);
  }, stream);
}

void soft_cross_entropy_forward(const Array& x, const Array& target, OptionalArray weight, const Array& loss, const Array& peak,
                                const Array& total, const Array& mass, double label_smoothing, Stream stream) {
  cross_entropy(x, loss, peak, total, &mass, [&](auto type) {
    return probabilities<typename decltype(type)::type>(x, target, weight, label_smoothing);
  }, stream);
}

void soft_cross_entropy_backward(const Array& x, const Array& target, OptionalArray weight, const Array& peak, const Array& total,
                                 const Array& mass, const Array& gy, const Array& gx, double label_smoothing, Stream stream) {
  cross_entropy_gradient(x, peak, total, &mass, gy, gx, [&](auto type) {
    return probabilities<typename decltype(type)::type>(x, target, weight, label_smoothing);
  }, stream);
}

KDL_EXPORT_AS("softmax_forward", forward<false>, "x", "y")
KDL_EXPORT_AS("softmax_backward", backward<false>, "y", "gy", "gx")
KDL_EXPORT_AS("log_softmax_forward", forward<true>, "x", "y")
KDL_EXPORT_AS("log_softmax_backward", backward<true>, "y", "gy", "gx")
KDL_EXPORT(cross_entropy_forward, "x", "target", "weight", "loss", "peak", "total", "ignore_index", "label_smoothing")
KDL_EXPORT(cross_entropy_backward, "x", "target", "weight", "peak", "total", "gy", "gx", "ignore_index", "label_smoothing")
KDL_EXPORT(soft_cross_entropy_forward, "x", "target", "weight", "loss", "peak", "total", "mass", "label_smoothing")
KDL_EXPORT(soft_cross_entropy_backward, "x", "target", "weight", "peak", "total", "mass", "gy", "gx", "label_smoothing")

}  // namespace kdl::softmax
