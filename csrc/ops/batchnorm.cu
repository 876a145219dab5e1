// What     batch normalisation of (N, C, inner): training forward with running statistics, inference, and both backwards.
// Maths    training: y = (x - mean) rstd w + b with rstd = 1 / sqrt(var + eps), var biased; running = (1 - momentum) running + momentum new,
//          its variance unbiased. Backward: gb = sum gy, gw = sum gy xhat, gx = w rstd (gy - gb / M - xhat gw / M), M = N inner. With
//          statistics held constant gx = w rstd gy.
// Traffic  elements: training forward 2R+1W, backward 4R+1W (its sums alone 2R), inference 1R+1W and backward 1R+1W, and 2R for its sums: bound
//          by device memory. The second pass goes backwards, so that what the first read last comes from L2.
// Tiling   blocks of 256 share the channels times `splits` parts of each. inner > 1: a part is a range of runs, a run (a piece of) one plane in
//          packs, with as many lanes to a run as it has packs. inner = 1: a thread keeps the channels of one pack and walks down the rows. Partial
//          results go to the workspace, and a warp per channel merges them.
// Numerics every thread sums differences from its own first element, and moments are merged by Chan's formula with means counted from the
//          channel's first element: a mean far from 0 costs no accuracy. float for half types, double for float64; all orders are fixed.
// Limits   contiguous (N, C, inner); statistics, weight and bias are float32, or float64 with float64; inner below 2^31.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_batchnorm.py).
#include "kdl/divide.h"
#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/pack.h"
#include "kdl/reduce.h"

namespace kdl::batchnorm {

// --- device ---

constexpr int threads = 256;

// Count, mean and sum of squared differences from the mean of some numbers.
template <class A> struct Moments {
  A count = 0, mean = 0, m2 = 0;

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
  A shift = 0, sum = 0, squares = 0;

  KDL_FN void add(A v) {
    const A d = v - shift;
    sum += d;
    squares += d * d;
  }
  // The mean as its distance from `origin`.
  KDL_FN Moments<A> moments(A count, A origin) const {
    if (count == A(0)) return {};
    return {count, shift - origin + sum / count, squares - sum * sum / count};
  }
};

// How the array is shared out. Planes (inner > 1): blockIdx.x is a channel, blockIdx.y a range of runs. Columns (inner = 1): blockIdx.x is a group
// of `lanes` packs of channels, blockIdx.y a range of rows.
struct Shares {
  int64_t runs;  // N * pieces, or rows
  int64_t per_split, C, inner;
  Divider pieces;
  int piece, lanes, splits;
};

// What this thread works on: `width` channels from `channel` on.
template <class T, bool columns> struct Share {
  static constexpr int width = columns ? pack_width<T> : 1;
  int64_t channel, begin, end, block;
  int lane, row;

  // Backwards, the last blocks get what the first ones had.
  KDL_FN Share(const Shares& s, bool backwards) {
    const int64_t group = backwards ? gridDim.x - 1 - blockIdx.x : blockIdx.x, split = backwards ? gridDim.y - 1 - blockIdx.y : blockIdx.y;
    lane = threadIdx.x % s.lanes, row = threadIdx.x / s.lanes;
    channel = columns ? (group * s.lanes + lane) * pack_width<T> : group;
    begin = split * s.per_split;
    end = begin + s.per_split < s.runs ? begin + s.per_split : s.runs;
    block = split;
  }

  KDL_FN int channels(const Shares& s) const {
    const int64_t left = s.C - channel;
    return static_cast<int>(left < width ? (left > 0 ? left : 0) : width);
  }

  // body(count, loaded, at) for every pack of this thread, where loaded = load(at, count) was requested one pack ahead. Packs are cut where the
  // address of x is aligned.
  template <class Load, class Body> KDL_FN void each(const Shares& s, const T* x, Load load, Body body) const {
    const int64_t rows = threads / s.lanes;
    if constexpr (columns) {
      const int count = channels(s);
      if (count > 0)
        for_loaded(begin + row, end, rows, [&](int64_t r) { return load(r * s.C + channel, count); },
                   [&](int64_t r, const auto& loaded) { body(count, loaded, r * s.C + channel); });
    } else {
#pragma unroll 1
      for (int64_t r = begin + row; r < end; r += rows) {
        const int64_t n = s.pieces.quotient(r), from = (r - n * s.pieces.divisor) * s.piece, at = (n * s.C + channel) * s.inner + from;
        const int64_t left = s.inner - from;
        const Chunks<T> chunks(x + at, static_cast<int>(left < s.piece ? left : s.piece));
        for_loaded(lane, chunks.count, s.lanes, [&](int i) { return load(at + chunks[i].begin, chunks[i].count); },
                   [&](int i, const auto& loaded) { body(chunks[i].count, loaded, at + chunks[i].begin); });
      }
    }
  }

  // partial[split * C + channel] = what the threads of the block hold of a channel, merged.
  template <class V> KDL_FN void store(const Shares& s, const V (&mine)[width], V* partial) const {
    const int keep = columns ? s.lanes : 1;
    const V* merged = fold_block<threads, width>(mine, keep);
    if (static_cast<int>(threadIdx.x) >= keep) return;
    for (int k = 0; k < channels(s); ++k) partial[block * s.C + channel + k] = merged[threadIdx.x * width + k];
  }
};

// What an element's place in its channel's line is made of.
template <class A> struct Line {
  A shift, scale, offset, slope;
};

// line[k] = make(channel + k) for the channels of this thread; each is made by one thread of the block. All threads must call it, once.
template <class T, bool columns, class Make>
KDL_FN void share_lines(const Shares& s, const Share<T, columns>& share, Line<compute_t<T>>* line, Make make) {
  constexpr int width = Share<T, columns>::width, most = columns ? warp_threads * width : 1;
  using Lines = Line<compute_t<T>>[most];
  KDL_SHARED(Lines, made);
  const int64_t first = share.channel - (columns ? share.lane * width : 0);
  if (const int i = threadIdx.x; i < (columns ? s.lanes * width : 1) && first + i < s.C) made[i] = make(first + i);
  __syncthreads();
#pragma unroll
  for (int k = 0; k < width; ++k)
    if (share.channel + k < s.C) line[k] = made[columns ? share.lane * width + k : 0];
}

// The channel's first element, from which means are counted, so that those of its parts differ by numbers as small as the spread of x.
template <class T> KDL_FN compute_t<T> origin(const T* x, int64_t channel, int64_t inner) { return to_compute(x[channel * inner]); }

template <class T, bool columns>
__global__ void __launch_bounds__(threads) moments_kernel(Shares s, const T* x, Moments<compute_t<T>>* partial) {
  using A = compute_t<T>;
  const Share<T, columns> share(s, false);
  constexpr int width = Share<T, columns>::width;
  Shifted<A> mine[width];
  int64_t seen = 0;
  share.each(s, x, [&](int64_t at, int count) { return load_some(x + at, count); }, [&](int count, const Pack<T>& v, int64_t) {
    if (seen == 0) {
#pragma unroll
      for (int k = 0; k < width; ++k) mine[k].shift = to_compute(v.item[k]);
    }
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k)
      if (k < count) mine[columns ? k : 0].add(to_compute(v.item[k]));
    seen += columns ? 1 : count;
  });
  Moments<A> moments[width];
#pragma unroll
  for (int k = 0; k < width; ++k)
    if (seen > 0 && k < share.channels(s)) moments[k] = mine[k].moments(static_cast<A>(seen), origin(x, share.channel + k, s.inner));
  share.store(s, moments, partial);
}

// What the splits of a channel found, merged by a warp; lane 0 has it.
template <class V> KDL_FN V merge_splits(const V* partial, int64_t channel, int64_t C, int splits) {
  V mine;
  for (int split = threadIdx.x % warp_threads; split < splits && channel < C; split += warp_threads) mine = mine.merged(partial[split * C + channel]);
  return warp_reduce(mine);
}
KDL_FN int64_t warp_number() { return (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) / warp_threads; }

// A warp per channel merges the splits, and updates the running statistics where there are any.
template <class T>
__global__ void __launch_bounds__(threads)
    statistics_kernel(Shares s, const T* x, const Moments<compute_t<T>>* partial, compute_t<T>* mean, compute_t<T>* rstd, compute_t<T>* running_mean,
                      compute_t<T>* running_var, compute_t<T> momentum, compute_t<T> eps) {
  using A = compute_t<T>;
  const int64_t c = warp_number();
  Moments<A> m = merge_splits(partial, c, s.C, s.splits);
  if (c >= s.C || threadIdx.x % warp_threads != 0) return;
  m.mean += origin(x, c, s.inner);
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
template <class T, bool columns>
__global__ void __launch_bounds__(threads)
    normalize_kernel(Shares s, const T* x, const compute_t<T>* mean, Scale<compute_t<T>> rstd, const compute_t<T>* weight,
                     const compute_t<T>* bias, T* y) {
  using A = compute_t<T>;
  const Share<T, columns> share(s, true);
  constexpr int width = Share<T, columns>::width;
  Line<A> line[width] = {};
  share_lines(s, share, line, [&](int64_t c) {
    return Line<A>{mean ? mean[c] : A(0), weight ? rstd[c] * weight[c] : rstd[c], bias ? bias[c] : A(0), A(0)};
  });
  share.each(s, x, [&](int64_t at, int count) { return load_some(x + at, count); }, [&](int count, const Pack<T>& v, int64_t at) {
    Pack<T> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      const int c = columns ? k : 0;
      result.item[k] = from_compute<T>((to_compute(v.item[k]) - line[c].shift) * line[c].scale + line[c].offset);
    }
    store_some(y + at, result, count);
  });
}

template <class T> struct InputAndGradient {
  Pack<T> x, gy;
};

// Per channel and split: the sums of gy and of gy (x - mean).
template <class T, bool columns>
__global__ void __launch_bounds__(threads)
    gradient_sums_kernel(Shares s, const T* x, const T* gy, const compute_t<T>* mean, Sums2<compute_t<T>>* partial) {
  using A = compute_t<T>;
  const Share<T, columns> share(s, false);
  constexpr int width = Share<T, columns>::width;
  Sums2<A> mine[width];
  Line<A> line[width] = {};
  share_lines(s, share, line, [&](int64_t c) { return Line<A>{mean[c], A(0), A(0), A(0)}; });
  share.each(s, x, [&](int64_t at, int count) { return InputAndGradient<T>{load_some(x + at, count), load_some(gy + at, count)}; },
             [&](int count, const InputAndGradient<T>& v, int64_t) {
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k)
      if (k < count) {
        const int c = columns ? k : 0;
        const A g = to_compute(v.gy.item[k]);
        mine[c].first += g;
        mine[c].second += g * (to_compute(v.x.item[k]) - line[c].shift);
      }
  });
  share.store(s, mine, partial);
}

// A warp per channel merges the splits, into partial[channel]: gw and gb, and what gx needs in their place, the mean of gy and the slope of xhat.
template <class A>
__global__ void __launch_bounds__(threads) gradient_totals_kernel(Sums2<A>* partial, Scale<A> rstd, A* gw, A* gb, int64_t C, int splits, A count) {
  const int64_t c = warp_number();
  const Sums2<A> total = merge_splits(partial, c, C, splits);
  if (c >= C || threadIdx.x % warp_threads != 0) return;
  const A scale = rstd[c];
  if (gw) gw[c] = total.second * scale;
  if (gb) gb[c] = total.first;
  partial[c] = {total.first / count, total.second * scale * scale / count};
}

// gx = (gy - mean(gy) - (x - mean) slope) rstd weight.
template <class T, bool columns>
__global__ void __launch_bounds__(threads)
    gradient_kernel(Shares s, const T* x, const T* gy, const compute_t<T>* mean, const compute_t<T>* rstd, const compute_t<T>* weight,
                    const Sums2<compute_t<T>>* sums, T* gx) {
  using A = compute_t<T>;
  const Share<T, columns> share(s, true);
  constexpr int width = Share<T, columns>::width;
  Line<A> line[width] = {};
  share_lines(s, share, line, [&](int64_t c) {
    return Line<A>{mean[c], weight ? rstd[c] * weight[c] : rstd[c], sums[c].first, sums[c].second};
  });
  share.each(s, x, [&](int64_t at, int count) { return InputAndGradient<T>{load_some(x + at, count), load_some(gy + at, count)}; },
             [&](int count, const InputAndGradient<T>& v, int64_t at) {
    Pack<T> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      const Line<A>& at_channel = line[columns ? k : 0];
      const A along = (to_compute(v.x.item[k]) - at_channel.shift) * at_channel.slope;
      result.item[k] = from_compute<T>((to_compute(v.gy.item[k]) - at_channel.offset - along) * at_channel.scale);
    }
    store_some(gx + at, result, count);
  });
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

// The smallest power of two that is at least n, at most `most`.
int power_of_two(int64_t n, int most) {
  int power = 1;
  while (power < n && power < most) power *= 2;
  return power;
}

// Blocks for several rounds of the device, each with at least 8192 elements.
Shares shares_of(const Array& x) {
  const int64_t N = x.shape[0], C = x.shape[1], inner = x.shape[2], width = 16 / dtype_bytes[static_cast<int>(x.dtype)];
  expect(inner < int64_t{1} << 31, "the planes must be below 2^31 elements, got x ", x);
  const int64_t packs = (C + width - 1) / width;
  const int lanes = inner == 1 ? power_of_two(packs, warp_threads) : power_of_two(inner / width, threads);
  const int64_t groups = inner == 1 ? (packs + lanes - 1) / lanes : C, per_group = inner == 1 ? N * lanes * width : N * inner;
  const int64_t wanted = 16 * multiprocessors() / (groups > 0 ? groups : 1), most = per_group / 8192;
  int64_t splits = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
  if (splits > 65535) splits = 65535;

  // Planes are cut into pieces where there are fewer of them than splits.
  const int64_t pieces = inner > 1 && N > 0 && N < splits ? (splits + N - 1) / N : 1;
  const int64_t piece = ((inner + pieces - 1) / pieces + width - 1) / width * width, per_plane = inner > 0 ? (inner + piece - 1) / piece : 0;
  const int64_t runs = inner == 1 ? N : N * per_plane, per_split = (runs + splits - 1) / splits;
  splits = per_split > 0 ? (runs + per_split - 1) / per_split : 1;
  return {runs, per_split, C, inner, Divider(per_plane), static_cast<int>(piece), lanes, static_cast<int>(splits)};
}

template <class Value> int64_t partial_bytes(const Array& x) {
  const Shares s = shares_of(x);
  return s.splits * s.C * static_cast<int64_t>(sizeof(Value));
}

::kdl::Launch for_shares(const Array& x, const Shares& s, Stream stream) {
  const int64_t width = 16 / dtype_bytes[static_cast<int>(x.dtype)];
  return {dim3(blocks_for(s.C, s.inner == 1 ? s.lanes * width : 1), s.splits), threads, stream};
}
::kdl::Launch for_channels(const Shares& s, Stream stream) { return {blocks_for(s.C, threads / warp_threads), threads, stream}; }

// body(Type<T>{}, columns)
template <class Body> void dispatch_shares(const Array& x, Body body) {
  dispatch_floating(x, "x", [&](auto type) {
    if (x.shape[2] == 1) body(type, std::true_type{});
    else body(type, std::false_type{});
  });
}

int64_t training_workspace(const Array& x, OptionalArray, OptionalArray, const Array&, const Array&, const Array&, OptionalArray, OptionalArray,
                           double, double) {
  return x.dtype == DType::f64 ? partial_bytes<Moments<double>>(x) : partial_bytes<Moments<float>>(x);
}

void batch_norm_forward_training(const Array& x, OptionalArray weight, OptionalArray bias, const Array& y, const Array& mean, const Array& rstd,
                                 OptionalArray running_mean, OptionalArray running_var, double momentum, double eps, Workspace workspace,
                                 Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_shares(x, [&](auto type, auto columns) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Shares s = shares_of(x);
    auto* partial = static_cast<Moments<A>*>(workspace.data);
    A *m = per_channel<A>(x, &mean, "mean"), *r = per_channel<A>(x, &rstd, "rstd");
    launch<moments_kernel<T, columns>>(for_shares(x, s, stream), s, x.as<const T>(), partial);
    launch<statistics_kernel<T>>(for_channels(s, stream), s, x.as<const T>(), partial, m, r, per_channel<A>(x, running_mean, "running_mean"),
                                 per_channel<A>(x, running_var, "running_var"), static_cast<A>(momentum), static_cast<A>(eps));
    launch<normalize_kernel<T, columns>>(for_shares(x, s, stream), s, x.as<const T>(), m, Scale<A>{r, false, A(0)},
                                         per_channel<A>(x, weight, "weight"), per_channel<A>(x, bias, "bias"), y.as<T>());
  });
}

void batch_norm_forward_inference(const Array& x, OptionalArray weight, OptionalArray bias, const Array& running_mean, const Array& running_var,
                                  const Array& y, double eps, Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_shares(x, [&](auto type, auto columns) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Scale<A> rstd{per_channel<A>(x, &running_var, "running_var"), true, static_cast<A>(eps)};
    const Shares s = shares_of(x);
    launch<normalize_kernel<T, columns>>(for_shares(x, s, stream), s, x.as<const T>(), per_channel<A>(x, &running_mean, "running_mean"), rstd,
                                         per_channel<A>(x, weight, "weight"), per_channel<A>(x, bias, "bias"), y.as<T>());
  });
}

// rstd is given, or, with constant statistics, made from the running variance and eps.
template <bool constant_statistics>
void backward(const Array& x, const Array& gy, OptionalArray weight, const Array& mean, const Array& rstd_or_var, OptionalArray gx,
              OptionalArray gw, OptionalArray gb, double eps, Workspace workspace, Stream stream) {
  expect_rows(x, gy, "gy");
  if (gx) expect_rows(x, *gx, "gx");
  if (x.size() == 0) return;
  dispatch_shares(x, [&](auto type, auto columns) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Shares s = shares_of(x);
    auto* partial = static_cast<Sums2<A>*>(workspace.data);
    const A *m = per_channel<A>(x, &mean, "mean"), *w = per_channel<A>(x, weight, "weight");
    const Scale<A> rstd{per_channel<A>(x, &rstd_or_var, "rstd or variance"), constant_statistics, static_cast<A>(eps)};
    if (gw || gb || !constant_statistics) {
      launch<gradient_sums_kernel<T, columns>>(for_shares(x, s, stream), s, x.as<const T>(), gy.as<const T>(), m, partial);
      launch<gradient_totals_kernel<A>>(for_channels(s, stream), partial, rstd, per_channel<A>(x, gw, "gw"), per_channel<A>(x, gb, "gb"), s.C,
                                        s.splits, static_cast<A>(x.shape[0] * x.shape[2]));
    }
    if (!gx) return;
    if constexpr (constant_statistics)
      launch<normalize_kernel<T, columns>>(for_shares(x, s, stream), s, gy.as<const T>(), nullptr, rstd, w, nullptr, gx->as<T>());
    else
      launch<gradient_kernel<T, columns>>(for_shares(x, s, stream), s, x.as<const T>(), gy.as<const T>(), m, rstd.values, w, partial, gx->as<T>());
  });
}

int64_t backward_workspace(const Array& x, const Array&, OptionalArray, const Array&, const Array&, OptionalArray, OptionalArray, OptionalArray) {
  return x.dtype == DType::f64 ? partial_bytes<Sums2<double>>(x) : partial_bytes<Sums2<float>>(x);
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
