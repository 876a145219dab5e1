// Rows of C neighbouring elements (inner = 1), each shared by a warp or a block, or by the blocks of its splits. For softmax.cu.
//
// A group walks its part of a row in packs and keeps the first `kept` of them in shared memory, so that a row that fits is read once. What
// does not fit is read again from its end backwards, where L2 still has it.
#pragma once
#include "softmax_target.h"

namespace kdl::softmax {

constexpr int most_threads = 1024, most_tally_threads = 512;  // the latter where nothing is kept, and more registers are needed

struct Rows {
  int64_t rows;
  int C, group, splits, per_split;
  int kept;  // packs per group and array
};

// The part of a row that this thread's group works on.
template <class T> struct Part {
  int64_t row, at;
  int split, lane, group, kept;
  bool exists;
  Chunks<T> chunks;

  // Chunks are cut where the address of `x` is aligned.
  KDL_FN Part(const Rows& r, const T* x) : lane(threadIdx.x % r.group), group(r.group), kept(r.kept), chunks(x, 0) {
    const int64_t item = static_cast<int64_t>(blockIdx.x) * (blockDim.x / group) + threadIdx.x / group;
    exists = item < r.rows * r.splits;
    split = r.splits == 1 ? 0 : static_cast<int>(blockIdx.x % r.splits);  // a split row's group is the whole block
    row = !exists ? 0 : r.splits == 1 ? item : blockIdx.x / r.splits;
    const int first = split * r.per_split, left = r.C - first;
    at = row * r.C + first;
    chunks = Chunks<T>(x + at, exists ? (left < r.per_split ? left : r.per_split) : 0);
  }

  KDL_FN Chunk chunk(int i) const { return chunks[i]; }
  KDL_FN Pack<T> load(const T* x, int i, T fill = T(0)) const { return load_some(x + at + chunks[i].begin, chunks[i].count, fill); }

  // The shared memory of the group's `which`th array.
  KDL_FN Pack<T>* stage(unsigned char* shared, int which, int arrays) const {
    return reinterpret_cast<Pack<T>*>(shared) + (static_cast<int>(threadIdx.x) / group * arrays + which) * kept;
  }

  template <class Load, class Body> KDL_FN void each(Load load, Body body) const { for_loaded(lane, chunks.count, group, load, body); }

  // The same chunks, the last first.
  template <class Load, class Body> KDL_FN void each_backwards(Load load, Body body) const {
    const int mine = (chunks.count - lane + group - 1) / group, last = lane + (mine - 1) * group;
    for_loaded(0, mine, 1, [&](int k) { return load(last - k * group); }, [&](int k, const auto& loaded) { body(last - k * group, loaded); });
  }

  // This thread's share of what the row's splits found.
  template <class V> KDL_FN V merged(const V* partial, int splits) const {
    V mine;
    for (int i = lane; i < splits && exists; i += group) mine = mine.merged(partial[row * splits + i]);
    return mine;
  }
};

template <class T> KDL_FN T lowest() { return from_compute<T>(-INFINITY); }

// The tally of every part of a row: into `partial`, or, where a row has one part and `out` is wanted, finished.
template <class T, bool weighted>
__global__ void __launch_bounds__(most_tally_threads)
    tally_kernel(Rows r, const T* x, Target<T> target, Tally<compute_t<T>>* partial, PerRow<T> out) {
  using A = compute_t<T>;
  const Part<T> part(r, x);
  Tally<A> mine;
  if (!out.loss || (part.exists && target.used(part.row))) {
    const int label = weighted && target.label && part.exists ? static_cast<int>(target.label[part.row]) - part.split * r.per_split : -1;
    part.each([&](int i) { return part.load(x, i, lowest<T>()); }, [&](int i, const Pack<T>& v) {
      const A before = mine.peak.base();
      mine.peak.add(v);
      if constexpr (weighted) {
        mine.move_base(before, mine.peak.base());
        const Chunk chunk = part.chunk(i);
        const int first_class = part.split * r.per_split + chunk.begin;
        const Pack<T> t = target.probability ? load_some(target.probability + part.at + chunk.begin, chunk.count) : v;
        const Pack<T> w = target.weight ? load_some(target.weight + first_class, chunk.count) : v;
#pragma unroll
        for (int k = 0; k < pack_width<T>; ++k)
          if (k < chunk.count)
            mine.add_weighted(target.q(target.weight ? to_compute(w.item[k]) : A(1),
                                       target.probability ? to_compute(t.item[k]) : A(chunk.begin + k == label)),
                              to_compute(v.item[k]));
      }
    });
  }
  mine = group_reduce(mine, r.group);
  if (!part.exists || part.lane != 0) return;
  if (partial) partial[part.row * r.splits + part.split] = mine;
  else out.store(part.row, mine, target, x + part.row * r.C, 1);
}

// A warp per row merges its parts.
template <class T>
__global__ void __launch_bounds__(most_tally_threads)
    finish_kernel(Rows r, const T* x, Target<T> target, const Tally<compute_t<T>>* partial, PerRow<T> out) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / warp_threads;
  const int lane = threadIdx.x % warp_threads;
  Tally<compute_t<T>> mine;
  for (int i = lane; i < r.splits && row < r.rows; i += warp_threads) mine = mine.merged(partial[row * r.splits + i]);
  mine = warp_reduce(mine);
  if (row < r.rows && lane == 0) out.store(row, mine, target, x + row * r.C, 1);
}

template <class T>
__global__ void __launch_bounds__(most_threads)
    forward_kernel(Rows r, const T* x, T* y, const Tally<compute_t<T>>* partial, bool log_form) {
  using A = compute_t<T>;
  KDL_DYN_SHARED(shared);
  const Part<T> part(r, x);
  Pack<T>* const stage = part.stage(shared, 0, 1);
  Peak<A> mine = partial ? part.merged(partial, r.splits).peak : Peak<A>{};
  if (!partial)
    part.each([&](int i) { return part.load(x, i, lowest<T>()); }, [&](int i, const Pack<T>& v) {
      if (i < r.kept) stage[i] = v;
      mine.add(v);
    });
  const Peak<A> peak = group_reduce(mine, r.group).of_row();
  const A log_total = log(peak.total), scale = A(1) / peak.total;
  part.each_backwards([&](int i) { return i < r.kept ? stage[i] : part.load(x, i); }, [&](int i, const Pack<T>& v) {
    Pack<T> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      const A z = to_compute(v.item[k]) - peak.max;
      result.item[k] = from_compute<T>(log_form ? z - log_total : exp(z) * scale);
    }
    store_some(y + part.at + part.chunk(i).begin, result, part.chunk(i).count);
  });
}

template <class T> struct YAndGradient {
  Pack<T> y, gy;

  KDL_FN Sum<compute_t<T>> sum(bool log_form) const {
    Sum<compute_t<T>> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) result.value += log_form ? to_compute(gy.item[k]) : to_compute(y.item[k]) * to_compute(gy.item[k]);
    return result;
  }
};

// The sum that the backward needs of every part of a row: of y gy, or of gy for the logarithm.
template <class T>
__global__ void __launch_bounds__(most_tally_threads)
    backward_sums_kernel(Rows r, const T* y, const T* gy, Sum<compute_t<T>>* partial, bool log_form) {
  const Part<T> part(r, y);
  Sum<compute_t<T>> mine;
  part.each([&](int i) { return YAndGradient<T>{log_form ? Pack<T>{} : part.load(y, i), part.load(gy, i)}; },
            [&](int, const YAndGradient<T>& v) { mine = mine.merged(v.sum(log_form)); });
  mine = group_reduce(mine, r.group);
  if (part.exists && part.lane == 0) partial[part.row * r.splits + part.split] = mine;
}

template <class T>
__global__ void __launch_bounds__(most_threads)
    backward_kernel(Rows r, const T* y, const T* gy, T* gx, const Sum<compute_t<T>>* partial, bool log_form) {
  using A = compute_t<T>;
  KDL_DYN_SHARED(shared);
  const Part<T> part(r, y);
  Pack<T>*const y_stage = part.stage(shared, 0, 2), *const gy_stage = part.stage(shared, 1, 2);
  const auto load = [&](int i) { return YAndGradient<T>{part.load(y, i), part.load(gy, i)}; };
  Sum<A> mine = partial ? part.merged(partial, r.splits) : Sum<A>{};
  if (!partial)
    part.each(load, [&](int i, const YAndGradient<T>& v) {
      if (i < r.kept) y_stage[i] = v.y, gy_stage[i] = v.gy;
      mine = mine.merged(v.sum(log_form));
    });
  const A sum = group_reduce(mine, r.group).value;
  part.each_backwards([&](int i) { return i < r.kept ? YAndGradient<T>{y_stage[i], gy_stage[i]} : load(i); }, [&](int i, const YAndGradient<T>& v) {
    Pack<T> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      const A value = to_compute(v.y.item[k]), g = to_compute(v.gy.item[k]);
      result.item[k] = from_compute<T>(log_form ? g - exp(value) * sum : value * (g - sum));
    }
    store_some(gx + part.at + part.chunk(i).begin, result, part.chunk(i).count);
  });
}

// gx = gy (p sum(q) - q); an unused row gets 0, and its logits are not read.
template <class T>
__global__ void __launch_bounds__(most_tally_threads)
    cross_entropy_backward_kernel(Rows r, const T* x, Target<T> target, PerRow<T> saved, const compute_t<T>* gy, T* gx) {
  using A = compute_t<T>;
  const Part<T> part(r, x);
  const bool is_used = part.exists && target.used(part.row);
  Sum<A> weights = {A(r.C)};
  if (target.label && target.weight && target.spread != A(0)) {
    weights = {};
    for (int c = part.lane; c < r.C; c += part.group) weights.value += target.w(c);
    weights = group_reduce(weights, part.group);
  }
  if (!part.exists) return;
  const int label = is_used && target.label ? static_cast<int>(target.label[part.row]) : -1;
  const A mass = saved.mass ? saved.mass[part.row] : is_used ? target.sure * target.w(label) + target.spread * weights.value : A(0);
  const A g = gy[part.row], peak = saved.peak[part.row], scale = g * mass / saved.total[part.row];
  part.each([&](int i) { return is_used ? part.load(x, i) : Pack<T>{}; }, [&](int i, const Pack<T>& v) {
    const Chunk chunk = part.chunk(i);
    const int first_class = part.split * r.per_split + chunk.begin;
    const Pack<T> t = target.probability ? load_some(target.probability + part.at + chunk.begin, chunk.count) : v;
    const Pack<T> w = target.weight ? load_some(target.weight + first_class, chunk.count) : v;
    Pack<T> result;
#pragma unroll
    for (int k = 0; k < pack_width<T>; ++k) {
      const A q = target.q(target.weight ? to_compute(w.item[k]) : A(1),
                           target.probability ? to_compute(t.item[k]) : A(first_class + k == label));
      result.item[k] = from_compute<T>(is_used ? exp(to_compute(v.item[k]) - peak) * scale - g * q : A(0));
    }
    store_some(gx + part.at + chunk.begin, result, chunk.count);
  });
}

}  // namespace kdl::softmax
