// The test of the tester: small kernels, each with one bug of a kind that kernels really have, which the engine must find.
// planted(x, y, bug): x and y are (128,) float32, two blocks of 64 threads; bug 0 of every kernel is the sound one.
#include "kdl/launch.h"
#include "kdl/pack.h"
#include "kdl/reduce.h"

namespace kdl::planted {

constexpr int threads = 64, blocks = 2;

// Every block writes three times its 64 elements in reverse order: through shared memory, in two rounds over the same tile.
enum Reverse { sound, no_barrier_after_store, no_barrier_before_next, half_reaches_barrier, two_barriers, early_return, read_out_of_bounds,
               write_out_of_bounds, shared_out_of_bounds, uninitialised, uninitialised_unused, unwritten_output, same_slot_written_by_all,
               foreign_block_written, foreign_block_read };

template <int bug> __global__ void __launch_bounds__(threads) reverse_kernel(const float* x, float* y, int n) {
  using Tile = float[threads];
  KDL_SHARED(Tile, tile);
  KDL_SHARED(float, last);
  const int t = threadIdx.x, base = blockIdx.x * threads;
  if (bug == early_return && t == 5) return;
  float sum = 0;
  for (int round = 1; round <= 2; ++round) {
    int from = base + t;
    if (bug == read_out_of_bounds && from == n - 1) ++from;
    const int slot = bug == shared_out_of_bounds && t == threads - 1 ? t + 1 : t;
    const bool skips = (bug == uninitialised || bug == uninitialised_unused) && t == 7;
    if (!skips) tile[slot] = round * x[from];
    if (bug == same_slot_written_by_all) last = 1;
    if (bug == half_reaches_barrier) {
      if (t < 32) __syncthreads();
    } else if (bug == two_barriers) {
      if (t < 32) __syncthreads();
      else
        __syncthreads();
    } else if (bug != no_barrier_after_store) {
      __syncthreads();
    }
    float value = tile[threads - 1 - t];
    if (bug == uninitialised_unused && threads - 1 - t == 7 && !(value > 0)) value = round * x[base + 7];
    sum += value;
    if (bug != no_barrier_before_next) __syncthreads();
  }
  int to = base + t;
  if (bug == write_out_of_bounds && to == n - 1) ++to;
  if (bug == foreign_block_written && t == 0) to = 0;
  if (!(bug == unwritten_output && t == 9)) y[to] = sum;
  if (bug == foreign_block_read && blockIdx.x == 1 && t == 0) y[to] = sum + 0 * y[0];
}

// Every warp's sum, written by each of its lanes.
enum Warp { warp_sound = 20, half_mask, divergent_shuffle, lane_left, no_syncwarp, source_outside_mask, crossed_wait };

template <int bug> __global__ void __launch_bounds__(threads) warp_kernel(const float* x, float* y) {
  using Tile = float[threads];
  KDL_SHARED(Tile, tile);
  const int t = threadIdx.x, lane = t % warp_threads, at = blockIdx.x * threads + t;
  if (bug == lane_left && lane == 3) return;
  tile[t] = x[at];
  if (bug != no_syncwarp) __syncwarp();
  float sum = tile[t ^ 1];
  for (int offset = 16; offset > 0; offset /= 2) {
    const unsigned mask = bug == half_mask ? 0x0000ffffu : full_warp;
    if (bug == divergent_shuffle && lane >= 16) continue;
    if (bug == crossed_wait && lane == 4 && offset == 4) __syncthreads();
    if (bug == source_outside_mask) {
      if (lane < 16) sum += __shfl_sync(0x0000ffffu, sum, (lane + 1) % 32);
    } else {
      sum += __shfl_xor_sync(mask, sum, offset);
    }
  }
  y[at] = sum;
}

enum Single { misaligned_pack = 40, integer_overflow, dimension_overrun, shift_too_far };

template <int bug> __global__ void __launch_bounds__(threads) single_kernel(const float* x, float* y, int n) {
  const int at = blockIdx.x * threads + threadIdx.x;
  float value = x[at];
  if (bug == misaligned_pack && at < 4) value = load_pack(x + 1 + 4 * at).item[0];
  if (bug == integer_overflow) value += (at + 1) * (n << 20) == 12345 ? 1.0f : 0.0f;
  if (bug == dimension_overrun) {
    float local[4] = {value, value, value, value};
    value = local[at % (n / 25)];
  }
  if (bug == shift_too_far) value += (1 << (at % (n / 3))) == 12345 ? 1.0f : 0.0f;
  y[at] = value;
}

template <int bug> void start(const Array& x, const Array& y, Stream stream) {
  const Launch shape(blocks, threads, stream);
  if constexpr (bug < warp_sound) launch<reverse_kernel<bug>>(shape, x.as<const float>(), y.as<float>(), blocks * threads);
  else if constexpr (bug < misaligned_pack) launch<warp_kernel<bug>>(shape, x.as<const float>(), y.as<float>());
  else launch<single_kernel<bug>>(shape, x.as<const float>(), y.as<float>(), blocks * threads);
}

template <int... bugs> void start_one(int64_t bug, const Array& x, const Array& y, Stream stream, std::integer_sequence<int, bugs...>) {
  ((bug == bugs ? start<bugs>(x, y, stream) : void()), ...);
}

void planted(const Array& x, const Array& y, int64_t bug, Stream stream) {
  expect(x.size() == blocks * threads && y.size() == x.size(), "x and y must have 128 elements");
  start_one(bug, x, y, stream, std::make_integer_sequence<int, shift_too_far + 1>{});
}

KDL_EXPORT(planted, "x", "y", "bug")

}  // namespace kdl::planted
