// CUDA's device names for a host compiler. Included by kdl/device.h after CUDA's own headers, which work there as they are but for a few macros.
#pragma once
#include <math.h>  // the global overloads for float and double, which a kernel uses unqualified
#include <vector_functions.h>

#include <algorithm>
#include <cstring>

#include "simt/engine.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static_assert(false, "use KDL_SHARED or KDL_DYN_SHARED")

#define threadIdx (::simt::current->thread_index)
#define blockIdx (::simt::current->block_index)
#define blockDim (::simt::block_dim)
#define gridDim (::simt::grid_dim)

#define KDL_FN inline __attribute__((always_inline))
#define KDL_SHARED(T, name)   \
  static char name##_key;     \
  T& name = *static_cast<T*>(::simt::static_shared(&name##_key, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)))
#define KDL_DYN_SHARED(name) unsigned char* const name = static_cast<unsigned char*>(::simt::dynamic_shared())

using std::max;
using std::min;

// --- barriers ---

SIMT_FN void __syncthreads(simt::Where where = simt::Where::here()) { simt::block_barrier(simt::Vote::none, false, where); }
SIMT_FN int __syncthreads_or(int p, simt::Where where = simt::Where::here()) { return simt::block_barrier(simt::Vote::any, p, where); }
SIMT_FN int __syncthreads_and(int p, simt::Where where = simt::Where::here()) { return simt::block_barrier(simt::Vote::all, p, where); }
SIMT_FN int __syncthreads_count(int p, simt::Where where = simt::Where::here()) { return simt::block_barrier(simt::Vote::count, p, where); }
SIMT_FN void __syncwarp(unsigned mask = 0xffffffffu, simt::Where where = simt::Where::here()) {
  simt::warp_collective(mask, "__syncwarp", true, nullptr, nullptr, where);
}
SIMT_FN unsigned __activemask() { return simt::active_mask(); }

// --- shuffles: the operands lie on the lanes' stacks until the last lane arrives and serves all ---

namespace simt {

enum class Shuffle { from_lane, up, down, exclusive_or };

template <class T> struct ShuffleOperand {
  T in, out;
  int distance, width;
  Shuffle kind;

  // The lane that `lane` reads, by the rules of the PTX instruction shfl.sync.
  int source(int lane) const {
    const int base = lane & ~(width - 1), in_group = lane - base;
    switch (kind) {
      case Shuffle::from_lane: return base + (distance & (width - 1));
      case Shuffle::up: return in_group < distance ? lane : lane - distance;
      case Shuffle::down: return in_group + distance >= width ? lane : lane + distance;
      default: return (in_group ^ distance) >= width ? lane : base + (in_group ^ distance);
    }
  }
};

template <class T> SIMT_FN void exchange_shuffle(void** operands, uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    auto* own = static_cast<ShuffleOperand<T>*>(operands[lane]);
    const int source = own->source(lane);
    if (!(mask >> source & 1))
      fail("__shfl_sync: lane " + std::to_string(lane) + " reads lane " + std::to_string(source) + ", which is not in the mask");
    own->out = static_cast<ShuffleOperand<T>*>(operands[source])->in;
  }
}

template <class T> SIMT_FN T shuffle(uint32_t mask, T value, int distance, int width, Shuffle kind, Where where) {
  ShuffleOperand<T> operand{value, value, distance, width, kind};
  warp_collective(mask, "__shfl_sync", false, &operand, exchange_shuffle<T>, where);
  return operand.out;
}

struct BallotOperand {
  bool in;
  uint32_t out;
};

SIMT_FN void exchange_ballot(void** operands, uint32_t mask) {
  uint32_t ballot = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) ballot |= uint32_t{static_cast<BallotOperand*>(operands[lane])->in} << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) static_cast<BallotOperand*>(operands[lane])->out = ballot;
}

}  // namespace simt

template <class T> SIMT_FN T __shfl_sync(unsigned mask, T value, int lane, int width = 32, simt::Where where = simt::Where::here()) {
  return simt::shuffle(mask, value, lane, width, simt::Shuffle::from_lane, where);
}
template <class T> SIMT_FN T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32, simt::Where where = simt::Where::here()) {
  return simt::shuffle(mask, value, delta, width, simt::Shuffle::up, where);
}
template <class T> SIMT_FN T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32, simt::Where where = simt::Where::here()) {
  return simt::shuffle(mask, value, delta, width, simt::Shuffle::down, where);
}
template <class T> SIMT_FN T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, simt::Where where = simt::Where::here()) {
  return simt::shuffle(mask, value, lane_mask, width, simt::Shuffle::exclusive_or, where);
}
SIMT_FN unsigned __ballot_sync(unsigned mask, int predicate, simt::Where where = simt::Where::here()) {
  simt::BallotOperand operand{predicate != 0, 0};
  simt::warp_collective(mask, "__ballot_sync", false, &operand, simt::exchange_ballot, where);
  return operand.out;
}
SIMT_FN int __any_sync(unsigned mask, int predicate, simt::Where where = simt::Where::here()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
SIMT_FN int __all_sync(unsigned mask, int predicate, simt::Where where = simt::Where::here()) {
  return __ballot_sync(mask, predicate, where) == mask;
}

// --- arithmetic ---

KDL_FN uint64_t __umul64hi(uint64_t a, uint64_t b) { return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64); }
KDL_FN float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
KDL_FN int __popc(unsigned x) { return __builtin_popcount(x); }
KDL_FN int __ffs(int x) { return __builtin_ffs(x); }
KDL_FN int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
template <class T> KDL_FN T __ldg(const T* address) { return *address; }
