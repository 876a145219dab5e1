// What     batch normalisation of (N, C, inner): training forward with running statistics, inference, and both backwards.
// Maths    training: y = (x - mean) rstd w + b with rstd = 1 / sqrt(var + eps), var biased; running = (1 - momentum) running + momentum new,
//          its variance unbiased. Backward: gb = sum gy, gw = sum gy xhat, gx = w rstd (gy - gb / M - xhat gw / M), M = N inner. With
//          statistics held constant gx = w rstd gy.
// Traffic  training forward 2R+1W, backward 4R+1W, inference 1R+1W elements: bound by device memory.
// Tiling   moments: a block takes a share of one channel (inner > 1) or of 32 channels (inner = 1, channels next to each other), writes its
//          partial moments, and a second kernel merges a channel's partials in order. Then one pass over the elements.
// Numerics every thread sums differences from its own first element, and moments are merged by Chan's formula: a mean far from 0 costs no
//          accuracy. float for half types, double for float64.
// Limits   contiguous (N, C, inner); statistics are float32, or float64 with float64; weight and bias have x's dtype or the statistics'.
// Measured not yet on hardware.
#include "kdl/divide.h"
#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/reduce.h"

namespace kdl::batchnorm {

// --- device ---

constexpr int threads = 256;

// Count, mean and sum of squared differences from the mean of some numbers.
template <class A> struct Moments {
  A count, mean, m2;

  // Chan, Golub and LeVeque 1983.
  KDL_FN Moments merged(const Moments& o) const {
    const A total = count + o.count;
    if (total == A(0)) return *this;
    const A apart = o.mean - mean, share = o.count / total;
    return {total, mean + apart * share, m2 + o.m2 + apart * apart * count * share};
  }
};

// Sums of differences from a shift, which is the first number seen.
template <class A> struct Shifted {
  A shift = 0, count = 0, sum = 0, squares = 0;

  KDL_FN void add(A v) {
    if (count == A(0)) shift = v;
    const A d = v - shift;
    count += A(1);
    sum += d;
    squares += d * d;
  }
  KDL_FN Moments<A> moments() const {
    if (count == A(0)) return {A(0), A(0), A(0)};
    return {count, shift + sum / count, squares - sum * sum / count};
  }
};

// Two sums that travel together.
template <class A> struct Pair {
  A first, second;

  KDL_FN Pair merged(const Pair& o) const { return {first + o.first, second + o.second}; }
};

template <class A> KDL_FN Moments<A> shuffled(const Moments<A>& m, int offset) {
  return {__shfl_down_sync(full_warp, m.count, offset), __shfl_down_sync(full_warp, m.mean, offset), __shfl_down_sync(full_warp, m.m2, offset)};
}
template <class A> KDL_FN Pair<A> shuffled(const Pair<A>& p, int offset) {
  return {__shfl_down_sync(full_warp, p.first, offset), __shfl_down_sync(full_warp, p.second, offset)};
}

// How a block's threads share its part of the array. Planes: one channel, all threads. Columns: 32 neighbouring channels, one lane each,
// the block's warps taking the rows in turn.
struct Shares {
  int64_t N, C, inner;
  int splits;
  bool columns;
};

// Merges what the threads of a block hold, per channel, and hands each channel's value to store(channel, value).
template <class Value, class Store> KDL_FN void merge_block(const Shares& s, Value mine, Store store) {
  using Partials = Value[threads / 32][32];
  KDL_SHARED(Partials, partial);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (!s.columns) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) mine = mine.merged(shuffled(mine, offset));
  }
  if (s.columns || lane == 0) partial[warp][lane] = mine;
  __syncthreads();
  const int64_t channel = s.columns ? static_cast<int64_t>(blockIdx.x) * 32 + lane : blockIdx.x;
  if (warp != 0 || (!s.columns && lane != 0) || channel >= s.C) return;
  for (int w = 1; w < threads / 32; ++w) mine = mine.merged(partial[w][lane]);
  store(channel, mine);
}

// body(channel, index) for every element of this thread: split blockIdx.y of a channel's N * inner elements.
template <class Body> KDL_FN void each(const Shares& s, const Divider& inner, Body body) {
  const int64_t M = s.N * s.inner, per_split = (M + s.splits - 1) / s.splits, begin = blockIdx.y * per_split;
  const int64_t end = begin + per_split < M ? begin + per_split : M;
  if (s.columns) {
    const int64_t channel = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x % 32;
    if (channel < s.C)
      for (int64_t i = begin + threadIdx.x / 32; i < end; i += threads / 32) body(channel, i * s.C + channel);
  } else {
    const int64_t channel = blockIdx.x;
    for (int64_t i = begin + threadIdx.x; i < end; i += threads) {
      const int64_t n = inner.quotient(i);
      body(channel, (n * s.C + channel) * s.inner + (i - n * s.inner));
    }
  }
}

template <class T> __global__ void __launch_bounds__(threads) moments_kernel(const T* x, Moments<compute_t<T>>* partial, Shares s, Divider inner) {
  Shifted<compute_t<T>> mine;
  each(s, inner, [&](int64_t, int64_t at) { mine.add(to_compute(x[at])); });
  merge_block(s, mine.moments(), [&](int64_t channel, const Moments<compute_t<T>>& m) { partial[blockIdx.y * s.C + channel] = m; });
}

// One thread per channel: merges the splits in order, and updates the running statistics where there are any.
template <class A>
__global__ void __launch_bounds__(threads)
    statistics_kernel(const Moments<A>* partial, A* mean, A* rstd, A* running_mean, A* running_var, A momentum, A eps, int64_t C, int splits) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (c >= C) return;
  Moments<A> m = partial[c];
  for (int split = 1; split < splits; ++split) m = m.merged(partial[split * C + c]);
  mean[c] = m.mean;
  rstd[c] = A(1) / sqrt(m.m2 / m.count + eps);
  if (running_mean) running_mean[c] = (A(1) - momentum) * running_mean[c] + momentum * m.mean;
  if (running_var) running_var[c] = (A(1) - momentum) * running_var[c] + momentum * m.m2 / (m.count - A(1));
}

// 1 / sqrt(var + eps) from an array of rstd, or of variances.
template <class A> struct Scale {
  const A* values;
  bool are_variances;
  A eps;

  KDL_FN A operator[](int64_t c) const { return are_variances ? A(1) / sqrt(values[c] + eps) : values[c]; }
};

// y = (x - mean) rstd weight + bias, per channel; mean, weight and bias may be nullptr. With x = gy, no mean and no bias: inference's gx.
template <class T>
__global__ void __launch_bounds__(threads)
    normalize_kernel(const T* x, const compute_t<T>* mean, Scale<compute_t<T>> rstd, const compute_t<T>* weight, const compute_t<T>* bias, T* y,
                     Divider channels, Divider inner, int64_t count) {
  using A = compute_t<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= count) return;
  const int64_t row = inner.quotient(at), c = row - channels.quotient(row) * channels.divisor;
  const A scale = weight ? rstd[c] * weight[c] : rstd[c];
  y[at] = from_compute<T>((to_compute(x[at]) - (mean ? mean[c] : A(0))) * scale + (bias ? bias[c] : A(0)));
}

// Per channel and split: the sums of gy and of gy (x - mean).
template <class T>
__global__ void __launch_bounds__(threads)
    gradient_sums_kernel(const T* x, const T* gy, const compute_t<T>* mean, Pair<compute_t<T>>* partial, Shares s, Divider inner) {
  using A = compute_t<T>;
  Pair<A> mine = {0, 0};
  each(s, inner, [&](int64_t channel, int64_t at) {
    const A g = to_compute(gy[at]);
    mine.first += g;
    mine.second += g * (to_compute(x[at]) - mean[channel]);
  });
  merge_block(s, mine, [&](int64_t channel, const Pair<A>& sums) { partial[blockIdx.y * s.C + channel] = sums; });
}

// One thread per channel adds the splits in order, in partial[channel]: gw and gb, and what gx needs in their place, the mean of gy and the
// slope of xhat.
template <class A>
__global__ void __launch_bounds__(threads) gradient_totals_kernel(Pair<A>* partial, Scale<A> rstd, A* gw, A* gb, int64_t C, int splits, A count) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (c >= C) return;
  Pair<A> total = partial[c];
  for (int split = 1; split < splits; ++split) total = total.merged(partial[split * C + c]);
  const A scale = rstd[c];
  if (gw) gw[c] = total.second * scale;
  if (gb) gb[c] = total.first;
  partial[c] = {total.first / count, total.second * scale * scale / count};
}

// gx = (gy - mean(gy) - (x - mean) slope) rstd weight.
template <class T>
__global__ void __launch_bounds__(threads)
    gradient_kernel(const T* x, const T* gy, const compute_t<T>* mean, const compute_t<T>* rstd, const compute_t<T>* weight,
                    const Pair<compute_t<T>>* sums, T* gx, Divider channels, Divider inner, int64_t count) {
  using A = compute_t<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= count) return;
  const int64_t row = inner.quotient(at), c = row - channels.quotient(row) * channels.divisor;
  const A scale = weight ? rstd[c] * weight[c] : rstd[c];
  gx[at] = from_compute<T>((to_compute(gy[at]) - sums[c].first - (to_compute(x[at]) - mean[c]) * sums[c].second) * scale);
}

// --- launch ---

void expect_rows(const Array& x, const Array& other, const char* name) {
  expect(x.ndim == 3 && x.is_contiguous() && other.same_layout(x) && other.dtype == x.dtype, "x and ", name,
         " must be contiguous (N, C, inner) of one dtype, got x ", x, ", ", name, " ", other);
}

// The data of a per-channel array in the dtype that statistics have, or nullptr where there is none.
template <class A> A* per_channel(const Array& x, OptionalArray a, const char* name) {
  if (!a) return nullptr;
  const DType wanted = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  expect(a->ndim == 1 && a->shape[0] == x.shape[1] && a->dtype == wanted && a->is_contiguous(), name, " must be contiguous ",
         dtype_name[static_cast<int>(wanted)], " with one element per channel, got ", *a, " for x ", x);
  return a->as<A>();
}

// Enough blocks for the device, each with at least 4096 elements to sum.
Shares shares_of(const Array& x) {
  const int64_t N = x.shape[0], C = x.shape[1], inner = x.shape[2];
  const bool columns = inner == 1;
  const int64_t channel_blocks = columns ? (C + 31) / 32 : C, per_channel = N * inner * (columns ? 32 : 1);
  const int64_t wanted = 4 * multiprocessors() / (channel_blocks > 0 ? channel_blocks : 1), most = per_channel / 4096;
  const int64_t splits = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
  return {N, C, inner, static_cast<int>(splits < 65535 ? splits : 65535), columns};
}

template <class Value> int64_t partial_bytes(const Array& x) {
  const Shares s = shares_of(x);
  return s.splits * s.C * static_cast<int64_t>(sizeof(Value));
}

::kdl::Launch for_shares(const Shares& s, Stream stream) {
  return {dim3(blocks_for(s.columns ? (s.C + 31) / 32 : s.C, 1), s.splits), threads, stream};
}
::kdl::Launch for_items(int64_t n, Stream stream) { return {blocks_for(n, threads), threads, stream}; }

int64_t training_workspace(const Array& x, OptionalArray, OptionalArray, const Array&, const Array&, const Array&, OptionalArray, OptionalArray, double,
                           double) {
  return x.dtype == DType::f64 ? partial_bytes<Moments<double>>(x) : partial_bytes<Moments<float>>(x);
}

void batch_norm_forward_training(const Array& x, OptionalArray weight, OptionalArray bias, const Array& y, const Array& mean, const Array& rstd,
                                 OptionalArray running_mean, OptionalArray running_var, double momentum, double eps, Workspace workspace,
                                 Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Shares s = shares_of(x);
    const Divider inner(s.inner), channels(s.C);
    auto* partial = static_cast<Moments<A>*>(workspace.data);
    A *m = per_channel<A>(x, &mean, "mean"), *r = per_channel<A>(x, &rstd, "rstd");
    launch<moments_kernel<T>>(for_shares(s, stream), x.as<const T>(), partial, s, inner);
    launch<statistics_kernel<A>>(for_items(s.C, stream), partial, m, r, per_channel<A>(x, running_mean, "running_mean"),
                                 per_channel<A>(x, running_var, "running_var"), static_cast<A>(momentum), static_cast<A>(eps), s.C, s.splits);
    launch<normalize_kernel<T>>(for_items(x.size(), stream), x.as<const T>(), m, Scale<A>{r, false, A(0)}, per_channel<A>(x, weight, "weight"),
                                per_channel<A>(x, bias, "bias"), y.as<T>(), channels, inner, x.size());
  });
}

void batch_norm_forward_inference(const Array& x, OptionalArray weight, OptionalArray bias, const Array& running_mean, const Array& running_var,
                                  const Array& y, double eps, Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Scale<A> rstd{per_channel<A>(x, &running_var, "running_var"), true, static_cast<A>(eps)};
    launch<normalize_kernel<T>>(for_items(x.size(), stream), x.as<const T>(), per_channel<A>(x, &running_mean, "running_mean"), rstd,
                                per_channel<A>(x, weight, "weight"), per_channel<A>(x, bias, "bias"), y.as<T>(), Divider(x.shape[1]),
                                Divider(x.shape[2]), x.size());
  });
}

// rstd is given, or, with constant statistics, made from the running variance and eps.
template <bool constant_statistics>
void backward(const Array& x, const Array& gy, OptionalArray weight, const Array& mean, const Array& rstd_or_var, OptionalArray gx,
              OptionalArray gw, OptionalArray gb, double eps, Workspace workspace, Stream stream) {
  expect_rows(x, gy, "gy");
  if (gx) expect_rows(x, *gx, "gx");
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Shares s = shares_of(x);
    const Divider inner(s.inner), channels(s.C);
    auto* partial = static_cast<Pair<A>*>(workspace.data);
    const A *m = per_channel<A>(x, &mean, "mean"), *w = per_channel<A>(x, weight, "weight");
    const Scale<A> rstd{per_channel<A>(x, &rstd_or_var, "rstd or variance"), constant_statistics, static_cast<A>(eps)};
    if (gw || gb || !constant_statistics) {
      launch<gradient_sums_kernel<T>>(for_shares(s, stream), x.as<const T>(), gy.as<const T>(), m, partial, s, inner);
      launch<gradient_totals_kernel<A>>(for_items(s.C, stream), partial, rstd, per_channel<A>(x, gw, "gw"), per_channel<A>(x, gb, "gb"), s.C,
                                        s.splits, static_cast<A>(s.N * s.inner));
    }
    if (!gx) return;
    if constexpr (constant_statistics)
      launch<normalize_kernel<T>>(for_items(x.size(), stream), gy.as<const T>(), nullptr, rstd, w, nullptr, gx->as<T>(), channels, inner, x.size());
    else
      launch<gradient_kernel<T>>(for_items(x.size(), stream), x.as<const T>(), gy.as<const T>(), m, rstd.values, w, partial, gx->as<T>(), channels,
                                 inner, x.size());
  });
}

int64_t backward_workspace(const Array& x, const Array&, OptionalArray, const Array&, const Array&, OptionalArray, OptionalArray, OptionalArray) {
  return x.dtype == DType::f64 ? partial_bytes<Pair<double>>(x) : partial_bytes<Pair<float>>(x);
}

void batch_norm_backward(const Array& x, const Array& gy, OptionalArray weight, const Array& mean, const Array& rstd, OptionalArray gx,
                         OptionalArray gw, OptionalArray gb, Workspace workspace, Stream stream) {
  backward<false>(x, gy, weight, mean, rstd, gx, gw, gb, 0, workspace, stream);
}

int64_t backward_inference_workspace(const Array& x, const Array& gy, OptionalArray weight, const Array& mean, const Array& var, OptionalArray gx,
                                     OptionalArray gw, OptionalArray gb, double) {
  return backward_workspace(x, gy, weight, mean, var, gx, gw, gb);
}

void batch_norm_backward_inference(const Array& x, const Array& gy, OptionalArray weight, const Array& running_mean, const Array& running_var,
                                   OptionalArray gx, OptionalArray gw, OptionalArray gb, double eps, Workspace workspace, Stream stream) {
  backward<true>(x, gy, weight, running_mean, running_var, gx, gw, gb, eps, workspace, stream);
}

KDL_EXPORT_WITH_WORKSPACE(batch_norm_forward_training, training_workspace, "x", "weight", "bias", "y", "mean", "rstd", "running_mean",
                          "running_var", "momentum", "eps")
KDL_EXPORT(batch_norm_forward_inference, "x", "weight", "bias", "running_mean", "running_var", "y", "eps")
KDL_EXPORT_WITH_WORKSPACE(batch_norm_backward, backward_workspace, "x", "gy", "weight", "mean", "rstd", "gx", "gw", "gb")
KDL_EXPORT_WITH_WORKSPACE(batch_norm_backward_inference, backward_inference_workspace, "x", "gy", "weight", "running_mean", "running_var", "gx",
                          "gw", "gb", "eps")

}  // namespace kdl::batchnorm
