// What     Every activation, forward and backward: one functor each (f, df, and which array df needs: its argument is x, or y where the
//          derivative is cheaper from the output). prelu and glu, which are not maps of one array, have kernels of their own.
// Maths    forward y = f(x); backward gx = df(x or y, gy). Formulas stand beside the functors; values at kinks and for NaN are torch's.
// Traffic  forward 1R+1W, backward 2R+1W elements (glu: 2R+1W and 3R+2W of y's size; prelu_backward_w: 2R): bound by device memory.
// Tiling   256 threads, two 16-byte loads in flight per thread; unaligned heads and tails element by element (map.h). prelu and glu: one
//          pack per thread. prelu_backward_w: one block of 512 threads per channel.
// Numerics float16 and bfloat16 are computed in float and rounded once, at the store; float64 in double. prelu's weight gradient adds in one
//          fixed order, in compute_t.
// Limits   Elementwise arrays are dense and share one layout (a flat index is the same element in all). prelu and glu take contiguous
//          (outer, C, inner) and (outer, 2, inner). prelu_backward_w uses C blocks only: slow for a single shared weight.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_activation.py).
#include "kdl/divide.h"
#include "kdl/map.h"
#include "kdl/reduce.h"

namespace kdl::activation {

// --- device ---

template <class A> KDL_FN A sigmoid(A x) { return A(1) / (A(1) + exp(-x)); }

template <class A> struct Relu {  // max(x, 0); saves y
  KDL_FN A f(A x) const { return x <= A(0) ? A(0) : x; }
  KDL_FN A df(A y, A gy) const { return y <= A(0) ? A(0) : gy; }
};

template <class A> struct LeakyRelu {  // x > 0 ? x : s x; saves x
  A slope;
  KDL_FN A f(A x) const { return x > A(0) ? x : slope * x; }
  KDL_FN A df(A x, A gy) const { return x > A(0) ? gy : slope * gy; }
};

template <class A> struct Elu {  // scale (x > 0 ? x : alpha (exp(k x) - 1)); saves x. elu, selu and celu
  A alpha, scale, input_scale;
  KDL_FN A f(A x) const { return x > A(0) ? scale * x : scale * alpha * expm1(x * input_scale); }
  KDL_FN A df(A x, A gy) const { return x <= A(0) ? gy * input_scale * scale * alpha * exp(x * input_scale) : gy * scale; }
};

template <class A> struct Gelu {  // x Phi(x); derivative Phi(x) + x phi(x); saves x
  KDL_FN A f(A x) const { return x * cdf(x); }
  KDL_FN A df(A x, A gy) const {
    const A pdf = exp(A(-0.5) * x * x) * A(0.39894228040143267794);  // 1 / sqrt(2 pi)
    return gy * (cdf(x) + x * pdf);
  }
  KDL_FN A cdf(A x) const { return A(0.5) * (A(1) + erf(x * A(0.70710678118654752440))); }  // 1 / sqrt(2)
};

template <class A> struct GeluTanh {  // x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3); saves x
  KDL_FN A f(A x) const { return A(0.5) * x * (A(1) + tanh(inner(x))); }
  KDL_FN A df(A x, A gy) const {
    const A t = tanh(inner(x)), du = root_two_over_pi * (A(1) + A(3) * cubic * x * x);
    return gy * (A(0.5) * (A(1) + t) + A(0.5) * x * (A(1) - t * t) * du);
  }
  KDL_FN A inner(A x) const { return root_two_over_pi * (x + cubic * x * x * x); }
  static constexpr A root_two_over_pi = A(0.79788456080286535588), cubic = A(0.044715);
};

template <class A> struct Silu {  // x sigmoid(x); saves x
  KDL_FN A f(A x) const { return x / (A(1) + exp(-x)); }
  KDL_FN A df(A x, A gy) const {
    const A s = sigmoid(x);
    return gy * s * (A(1) + x * (A(1) - s));
  }
};

template <class A> struct Mish {  // x tanh(softplus(x)); saves x
  KDL_FN A f(A x) const { return x * tanh(log1p(exp(x))); }
  KDL_FN A df(A x, A gy) const {
    const A t = tanh(log1p(exp(x)));
    return gy * (t + x * sigmoid(x) * (A(1) - t * t));
  }
};

template <class A> struct Sigmoid {  // saves y
  KDL_FN A f(A x) const { return sigmoid(x); }
  KDL_FN A df(A y, A gy) const { return gy * (A(1) - y) * y; }
};

template <class A> struct LogSigmoid {  // min(x, 0) - log(1 + exp(-|x|)); derivative sigmoid(-x); saves x
  KDL_FN A f(A x) const { return (x < A(0) ? x : A(0)) - log1p(exp(-fabs(x))); }
  KDL_FN A df(A x, A gy) const {
    const A z = exp(-fabs(x));  // never overflows
    return gy * (x < A(0) ? A(1) / (A(1) + z) : z / (A(1) + z));
  }
};

template <class A> struct Tanh {  // saves y
  KDL_FN A f(A x) const { return tanh(x); }
  KDL_FN A df(A y, A gy) const { return gy * (A(1) - y * y); }
};

template <class A> struct Softplus {  // log(1 + exp(beta x)) / beta, x itself past the threshold; saves x
  A beta, threshold;
  KDL_FN A f(A x) const { return x * beta > threshold ? x : log1p(exp(x * beta)) / beta; }
  KDL_FN A df(A x, A gy) const { return x * beta > threshold ? gy : gy * sigmoid(x * beta); }
};

template <class A> struct Softsign {  // x / (1 + |x|); saves x
  KDL_FN A f(A x) const { return x / (A(1) + fabs(x)); }
  KDL_FN A df(A x, A gy) const {
    const A d = A(1) + fabs(x);
    return gy / (d * d);
  }
};

template <class A> struct Hardtanh {  // clamp(x, min, max); saves x. relu6 too
  A min_val, max_val;
  KDL_FN A f(A x) const { return x < min_val ? min_val : x > max_val ? max_val : x; }
  KDL_FN A df(A x, A gy) const { return x <= min_val || x >= max_val ? A(0) : gy; }
};

template <class A> KDL_FN A relu6(A x) { return x < A(0) ? A(0) : x > A(6) ? A(6) : x; }

template <class A> struct Hardsigmoid {  // relu6(x + 3) / 6; saves x
  KDL_FN A f(A x) const { return relu6(x + A(3)) / A(6); }
  KDL_FN A df(A x, A gy) const { return x > A(-3) && x < A(3) ? gy / A(6) : A(0); }
};

template <class A> struct Hardswish {  // x relu6(x + 3) / 6; saves x
  KDL_FN A f(A x) const { return x * relu6(x + A(3)) / A(6); }
  KDL_FN A df(A x, A gy) const { return x <= A(-3) ? A(0) : x < A(3) ? gy * (x / A(3) + A(0.5)) : gy; }
};

template <class A> struct Threshold {  // x > threshold ? x : value; saves x
  A threshold, value;
  KDL_FN A f(A x) const { return x <= threshold ? value : x; }
  KDL_FN A df(A x, A gy) const { return x <= threshold ? A(0) : gy; }
};

template <class A> struct Softshrink {  // x moved towards 0 by lambd, 0 inside; saves x
  A lambd;
  KDL_FN A f(A x) const { return x > lambd ? x - lambd : x < -lambd ? x + lambd : x * A(0); }  // x * 0 keeps NaN
  KDL_FN A df(A x, A gy) const { return x >= -lambd && x <= lambd ? A(0) : gy; }
};

template <class A> struct Hardshrink {  // x outside [-lambd, lambd], 0 inside; saves x
  A lambd;
  KDL_FN A f(A x) const { return x >= -lambd && x <= lambd ? A(0) : x; }
  KDL_FN A df(A x, A gy) const { return x >= -lambd && x <= lambd ? A(0) : gy; }
};

template <class A> struct Tanhshrink {  // x - tanh(x); derivative tanh(x)^2; saves x
  KDL_FN A f(A x) const { return x - tanh(x); }
  KDL_FN A df(A x, A gy) const {
    const A t = tanh(x);
    return gy * t * t;
  }
};

// map() calls a functor as a function; these choose which of the two it means.
template <class F> struct Forward : F {
  template <class A> KDL_FN A operator()(A x) const { return this->f(x); }
};
template <class F> struct Backward : F {
  template <class A> KDL_FN A operator()(A saved, A gy) const { return this->df(saved, gy); }
};

// The `width` elements that this thread owns, cut at `end`.
struct Span {
  int64_t begin;
  int count;
};
KDL_FN Span thread_span(int64_t end, int width) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * width, left = end - begin;
  return {begin, static_cast<int>(left < width ? (left > 0 ? left : 0) : width)};
}

// y = x > 0 ? x : w[channel] x over (outer, channels, inner); gy != nullptr makes it the gradient: the factor applies to gy instead of x.
template <class T>
__global__ void __launch_bounds__(256)
    prelu_kernel(const T* x, const T* weight, const T* gy, T* y, int64_t n, int width, Divider channels, Divider inner) {
  const Span span = thread_span(n, width);
  if (span.count == 0) return;
  const Pack<T> px = load_some(x + span.begin, span.count), pg = gy ? load_some(gy + span.begin, span.count) : px;
  Pack<T> py;
  const int64_t row = inner.quotient(span.begin);
  int64_t channel = row - channels.quotient(row) * channels.divisor, left_in_row = (row + 1) * inner.divisor - span.begin;
  compute_t<T> w = to_compute(weight[channel]);
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) {
    if (left_in_row == 0) {
      channel = channel + 1 == channels.divisor ? 0 : channel + 1;
      left_in_row = inner.divisor;
      w = to_compute(weight[channel]);
    }
    --left_in_row;
    const compute_t<T> g = to_compute(pg.item[i]);
    py.item[i] = from_compute<T>(to_compute(px.item[i]) > 0 ? g : w * g);
  }
  store_some(y + span.begin, py, span.count);
}

// gw[channel] = sum over outer and inner of x > 0 ? 0 : x gy. One block per channel, so that the order of the sum is fixed.
template <class T, int threads>
__global__ void __launch_bounds__(threads) prelu_backward_w_kernel(const T* x, const T* gy, T* gw, int64_t outer, Divider inner) {
  const int64_t channel = blockIdx.x, channels = gridDim.x, per_channel = outer * inner.divisor;
  compute_t<T> sum = 0;
  for (int64_t i = threadIdx.x; i < per_channel; i += threads) {
    const int64_t row = inner.quotient(i), at = (row * channels + channel) * inner.divisor + (i - row * inner.divisor);
    const compute_t<T> v = to_compute(x[at]);
    sum += v > 0 ? compute_t<T>(0) : v * to_compute(gy[at]);
  }
  sum = block_sum<threads>(sum);
  if (threadIdx.x == 0) gw[channel] = from_compute<T>(sum);
}

// y = a sigmoid(b) with a = x[:, 0], b = x[:, 1]. `width` divides inner or is 1, so a thread's elements lie in one row.
template <class T>
__global__ void __launch_bounds__(256) glu_forward_kernel(const T* x, T* y, int64_t n, int width, Divider inner) {
  const Span span = thread_span(n, width);
  if (span.count == 0) return;
  const int64_t a_at = span.begin + inner.quotient(span.begin) * inner.divisor;
  const Pack<T> a = load_some(x + a_at, span.count), b = load_some(x + a_at + inner.divisor, span.count);
  Pack<T> y_pack;
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) y_pack.item[i] = from_compute<T>(to_compute(a.item[i]) * sigmoid(to_compute(b.item[i])));
  store_some(y + span.begin, y_pack, span.count);
}

// ga = gy s, gb = gy a s (1 - s) with s = sigmoid(b).
template <class T>
__global__ void __launch_bounds__(256) glu_backward_kernel(const T* x, const T* gy, T* gx, int64_t n, int width, Divider inner) {
  const Span span = thread_span(n, width);
  if (span.count == 0) return;
  const int64_t a_at = span.begin + inner.quotient(span.begin) * inner.divisor, b_at = a_at + inner.divisor;
  const Pack<T> a = load_some(x + a_at, span.count), b = load_some(x + b_at, span.count), g = load_some(gy + span.begin, span.count);
  Pack<T> ga, gb;
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) {
    const compute_t<T> s = sigmoid(to_compute(b.item[i])), gate = to_compute(g.item[i]) * s;
    ga.item[i] = from_compute<T>(gate);
    gb.item[i] = from_compute<T>((compute_t<T>(1) - s) * gate * to_compute(a.item[i]));
  }
  store_some(gx + a_at, ga, span.count);
  store_some(gx + b_at, gb, span.count);
}

// --- launch ---

void expect_same_layout(const char* a_name, const Array& a, const char* b_name, const Array& b) {
  expect(a.dtype == b.dtype && a.same_shape(b), a_name, " and ", b_name, " must share dtype and shape, got ", a_name, " ", a, ", ", b_name, " ", b);
  expect(a.is_dense() && a.same_layout(b), a_name, " and ", b_name, " must be dense and laid out alike in memory, got ", a_name, " ", a,
         ", ", b_name, " ", b);
}

template <template <class> class F, class... Params>
void forward(const Array& x, const Array& y, Params... params, Stream stream) {
  expect_same_layout("x", x, "y", y);
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    map(stream, Forward<F<A>>{{static_cast<A>(params)...}}, x.size(), y.as<T>(), x.as<const T>());
  });
}

template <template <class> class F, class... Params>
void backward(const Array& saved, const Array& gy, const Array& gx, Params... params, Stream stream) {
  expect_same_layout("gy", gy, "gx", gx);
  expect_same_layout("gy", gy, "the saved array", saved);
  if (gy.size() == 0) return;
  dispatch_floating(gy, "gy", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    map(stream, Backward<F<A>>{{static_cast<A>(params)...}}, gy.size(), gx.as<T>(), saved.as<const T>(), gy.as<const T>());
  });
}

void expect_contiguous(const char* name, const Array& a, int ndim) {
  expect(a.ndim == ndim && a.is_contiguous(), name, " must be contiguous with ", ndim, " dimensions, got ", a);
}

void prelu(const Array& x, const Array& weight, const Array* gy, const Array& y, Stream stream) {
  expect_contiguous("x", x, 3);
  expect_same_layout("x", x, gy ? "gx" : "y", y);
  if (gy) expect_same_layout("x", x, "gy", *gy);
  expect_contiguous("weight", weight, 1);
  expect(weight.dtype == x.dtype && weight.shape[0] == x.shape[1], "weight must have x's dtype and x.shape[1] elements, got weight ", weight,
         ", x ", x);
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const int width = is_pack_aligned({x.data, y.data, gy ? gy->data : x.data}) ? pack_width<T> : 1;
    const T* gradient = gy ? gy->as<const T>() : nullptr;
    launch<prelu_kernel<T>>({blocks_for(x.size(), 256 * width), 256, stream}, x.as<const T>(), weight.as<const T>(), gradient, y.as<T>(),
                            x.size(), width, Divider(x.shape[1]), Divider(x.shape[2]));
  });
}

void prelu_forward(const Array& x, const Array& weight, const Array& y, Stream stream) { prelu(x, weight, nullptr, y, stream); }

void prelu_backward_x(const Array& x, const Array& weight, const Array& gy, const Array& gx, Stream stream) { prelu(x, weight, &gy, gx, stream); }

void prelu_backward_w(const Array& x, const Array& gy, const Array& gw, Stream stream) {
  expect_contiguous("x", x, 3);
  expect_same_layout("x", x, "gy", gy);
  expect_contiguous("gw", gw, 1);
  expect(gw.dtype == x.dtype && gw.shape[0] == x.shape[1], "gw must have x's dtype and x.shape[1] elements, got gw ", gw, ", x ", x);
  if (gw.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const int64_t inner = x.shape[2] > 0 ? x.shape[2] : 1;
    launch<prelu_backward_w_kernel<T, 512>>({blocks_for(gw.size(), 1), 512, stream}, x.as<const T>(), gy.as<const T>(), gw.as<T>(),
                                            x.size() ? x.shape[0] : 0, Divider(inner));
  });
}

// x is (outer, 2, inner), half is (outer, inner).
void expect_halves(const Array& x, const char* name, const Array& half) {
  expect_contiguous("x", x, 3);
  expect_contiguous(name, half, 2);
  expect(half.dtype == x.dtype && x.shape[1] == 2 && half.shape[0] == x.shape[0] && half.shape[1] == x.shape[2],
         "x must be (outer, 2, inner) and ", name, " (outer, inner) of one dtype, got x ", x, ", ", name, " ", half);
}

template <class T> int glu_width(const Array& x, std::initializer_list<const void*> addresses) {
  return is_pack_aligned(addresses) && x.shape[2] % pack_width<T> == 0 ? pack_width<T> : 1;
}

void glu_forward(const Array& x, const Array& y, Stream stream) {
  expect_halves(x, "y", y);
  if (y.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const int width = glu_width<T>(x, {x.data, y.data});
    launch<glu_forward_kernel<T>>({blocks_for(y.size(), 256 * width), 256, stream}, x.as<const T>(), y.as<T>(), y.size(), width,
                                  Divider(x.shape[2]));
  });
}

void glu_backward(const Array& x, const Array& gy, const Array& gx, Stream stream) {
  expect_halves(x, "gy", gy);
  expect_same_layout("x", x, "gx", gx);
  if (gy.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const int width = glu_width<T>(x, {x.data, gy.data, gx.data});
    launch<glu_backward_kernel<T>>({blocks_for(gy.size(), 256 * width), 256, stream}, x.as<const T>(), gy.as<const T>(), gx.as<T>(),
                                   gy.size(), width, Divider(x.shape[2]));
  });
}

KDL_EXPORT_AS("relu_forward", (forward<Relu>), "x", "y")
KDL_EXPORT_AS("relu_backward", (backward<Relu>), "y", "gy", "gx")
KDL_EXPORT_AS("leaky_relu_forward", (forward<LeakyRelu, double>), "x", "y", "negative_slope")
KDL_EXPORT_AS("leaky_relu_backward", (backward<LeakyRelu, double>), "x", "gy", "gx", "negative_slope")
KDL_EXPORT_AS("elu_forward", (forward<Elu, double, double, double>), "x", "y", "alpha", "scale", "input_scale")
KDL_EXPORT_AS("elu_backward", (backward<Elu, double, double, double>), "x", "gy", "gx", "alpha", "scale", "input_scale")
KDL_EXPORT_AS("gelu_forward", (forward<Gelu>), "x", "y")
KDL_EXPORT_AS("gelu_backward", (backward<Gelu>), "x", "gy", "gx")
KDL_EXPORT_AS("gelu_tanh_forward", (forward<GeluTanh>), "x", "y")
KDL_EXPORT_AS("gelu_tanh_backward", (backward<GeluTanh>), "x", "gy", "gx")
KDL_EXPORT_AS("silu_forward", (forward<Silu>), "x", "y")
KDL_EXPORT_AS("silu_backward", (backward<Silu>), "x", "gy", "gx")
KDL_EXPORT_AS("mish_forward", (forward<Mish>), "x", "y")
KDL_EXPORT_AS("mish_backward", (backward<Mish>), "x", "gy", "gx")
KDL_EXPORT_AS("sigmoid_forward", (forward<Sigmoid>), "x", "y")
KDL_EXPORT_AS("sigmoid_backward", (backward<Sigmoid>), "y", "gy", "gx")
KDL_EXPORT_AS("logsigmoid_forward", (forward<LogSigmoid>), "x", "y")
KDL_EXPORT_AS("logsigmoid_backward", (backward<LogSigmoid>), "x", "gy", "gx")
KDL_EXPORT_AS("tanh_forward", (forward<Tanh>), "x", "y")
KDL_EXPORT_AS("tanh_backward", (backward<Tanh>), "y", "gy", "gx")
KDL_EXPORT_AS("softplus_forward", (forward<Softplus, double, double>), "x", "y", "beta", "threshold")
KDL_EXPORT_AS("softplus_backward", (backward<Softplus, double, double>), "x", "gy", "gx", "beta", "threshold")
KDL_EXPORT_AS("softsign_forward", (forward<Softsign>), "x", "y")
KDL_EXPORT_AS("softsign_backward", (backward<Softsign>), "x", "gy", "gx")
KDL_EXPORT_AS("hardtanh_forward", (forward<Hardtanh, double, double>), "x", "y", "min_val", "max_val")
KDL_EXPORT_AS("hardtanh_backward", (backward<Hardtanh, double, double>), "x", "gy", "gx", "min_val", "max_val")
KDL_EXPORT_AS("hardsigmoid_forward", (forward<Hardsigmoid>), "x", "y")
KDL_EXPORT_AS("hardsigmoid_backward", (backward<Hardsigmoid>), "x", "gy", "gx")
KDL_EXPORT_AS("hardswish_forward", (forward<Hardswish>), "x", "y")
KDL_EXPORT_AS("hardswish_backward", (backward<Hardswish>), "x", "gy", "gx")
KDL_EXPORT_AS("threshold_forward", (forward<Threshold, double, double>), "x", "y", "threshold", "value")
KDL_EXPORT_AS("threshold_backward", (backward<Threshold, double>), "x", "gy", "gx", "threshold")
KDL_EXPORT_AS("softshrink_forward", (forward<Softshrink, double>), "x", "y", "lambd")
KDL_EXPORT_AS("softshrink_backward", (backward<Softshrink, double>), "x", "gy", "gx", "lambd")
KDL_EXPORT_AS("hardshrink_forward", (forward<Hardshrink, double>), "x", "y", "lambd")
KDL_EXPORT_AS("hardshrink_backward", (backward<Hardshrink, double>), "x", "gy", "gx", "lambd")
KDL_EXPORT_AS("tanhshrink_forward", (forward<Tanhshrink>), "x", "y")
KDL_EXPORT_AS("tanhshrink_backward", (backward<Tanhshrink>), "x", "gy", "gx")
KDL_EXPORT(prelu_forward, "x", "weight", "y")
KDL_EXPORT(prelu_backward_x, "x", "weight", "gy", "gx")
KDL_EXPORT(prelu_backward_w, "x", "gy", "gw")
KDL_EXPORT(glu_forward, "x", "y")
KDL_EXPORT(glu_backward, "x", "gy", "gx")

}  // namespace kdl::activation
