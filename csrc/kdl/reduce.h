// Reductions over a warp and over a block, in one fixed order: the same input gives the same bits on every run.
//
// What is reduced is a struct with `KDL_FN V merged(const V& later) const`, whose default value merges without effect: a sum, the moments of
// some numbers (batchnorm.cu), their peak and the sum of exponentials below it (softmax.cu).
#pragma once
#include <cstring>

#include "kdl/device.h"

namespace kdl {

constexpr unsigned full_warp = 0xffffffffu;
constexpr int warp_threads = 32;

template <class A> struct Sum {
  A value = 0;

  KDL_FN Sum merged(const Sum& later) const { return {value + later.value}; }
};

template <class A> struct Sums2 {
  A first = 0, second = 0;

  KDL_FN Sums2 merged(const Sums2& later) const { return {first + later.first, second + later.second}; }
};

// The value of the lane `offset` further on, or of lane 0: any struct of whole words.
template <bool from_first, class V> KDL_FN V shuffled(const V& value, int offset) {
  static_assert(sizeof(V) % 4 == 0, "a shuffle moves words of 4 bytes");
  uint32_t words[sizeof(V) / 4];
  memcpy(words, &value, sizeof(V));
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(V) / 4); ++i)
    words[i] = from_first ? __shfl_sync(full_warp, words[i], 0) : __shfl_down_sync(full_warp, words[i], offset);
  V result;
  memcpy(&result, words, sizeof(V));
  return result;
}

// Lane 0 receives the merged value of its warp; with last_offset = n each of the lanes 0 to n - 1 receives that of the lanes a multiple of n
// after it. What the other lanes receive has no meaning.
template <class V> KDL_FN V warp_reduce(V value, int last_offset = 1) {
#pragma unroll 1
  for (int offset = warp_threads / 2; offset >= last_offset; offset /= 2) value = value.merged(shuffled<false>(value, offset));
  return value;
}

// Every thread of the group, a warp or the whole block, receives the merged value. All threads must call it; it may be called again at once.
template <class V> KDL_FN V group_reduce(V value, int group) {
  value = shuffled<true>(warp_reduce(value), 0);
  if (group <= warp_threads) return value;
  using Partials = V[warp_threads];
  KDL_SHARED(Partials, partial);
  const int lane = threadIdx.x % warp_threads, warps = group / warp_threads;
  if (lane == 0) partial[threadIdx.x / warp_threads] = value;
  __syncthreads();
  value = shuffled<true>(warp_reduce(lane < warps ? partial[lane] : V{}), 0);
  __syncthreads();  // the next call may overwrite the partials only after everyone has read them
  return value;
}

// Of `each` values per thread: value i of thread t < keep becomes that of the threads t, t + keep, t + 2 keep, ... merged. keep is a power of two.
// Returns the results in shared memory, `each` per thread. All threads must call it, once per kernel.
template <int threads, int each, class V> KDL_FN const V* fold_block(const V (&mine)[each], int keep) {
  using Values = V[threads * each];
  KDL_SHARED(Values, value);
#pragma unroll
  for (int i = 0; i < each; ++i) value[threadIdx.x * each + i] = mine[i];
  __syncthreads();
#pragma unroll 1
  for (int half = threads / 2; half >= keep; half /= 2) {
    for (int i = threadIdx.x; i < half * each; i += threads) value[i] = value[i].merged(value[i + half * each]);
    __syncthreads();
  }
  return value;
}

// Every thread of the block receives the sum.
template <int threads, class T> KDL_FN T block_sum(T value) {
  static_assert(threads % warp_threads == 0 && threads <= 1024, "one warp must be able to hold one partial sum per warp");
  return group_reduce(Sum<T>{value}, threads).value;
}

}  // namespace kdl
