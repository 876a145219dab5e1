// Sums over a warp and over a block, in one fixed order: the same input gives the same bits on every run.
#pragma once
#include "kdl/device.h"

namespace kdl {

constexpr unsigned full_warp = 0xffffffffu;
constexpr int warp_threads = 32;

// Every lane receives the sum of its warp.
template <class T> KDL_FN T warp_sum(T value) {
#pragma unroll
  for (int offset = warp_threads / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(full_warp, value, offset);
  return value;
}

// Every thread of the block receives the sum. All threads must call it; it may be called again at once.
template <int threads, class T> KDL_FN T block_sum(T value) {
  constexpr int warps = threads / warp_threads;
  static_assert(threads % warp_threads == 0 && warps <= warp_threads, "one warp must be able to hold one partial sum per warp");
  using Partials = T[warps];
  KDL_SHARED(Partials, partial);
  const int lane = threadIdx.x % warp_threads, warp = threadIdx.x / warp_threads;
  value = warp_sum(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = warp_sum(lane < warps ? partial[lane] : T(0));
  __syncthreads();  // the next call may overwrite the partials only after everyone has read them
  return value;
}

}  // namespace kdl
