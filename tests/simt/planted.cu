// The test of the tester: small kernels, each with one bug of a kind that kernels really have, which the engine must find.
// planted(x, y, bug): x and y are (128,) float32, two blocks of 64 threads; the first number of every kernel is the sound one. planted.py says
// what each number is, and who must find it.
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
enum Warp { warp_sound = 20, half_mask, divergent_shuffle, lane_left, no_syncwarp, source_outside_mask, crossed_wait, shuffle_too_far };

template <int bug> __global__ void __launch_bounds__(threads) warp_kernel(const float* x, float* y) {
  using Tile = float[threads];
  KDL_SHARED(Tile, tile);
  const int t = threadIdx.x, lane = t % warp_threads, at = blockIdx.x * threads + t;
  if (bug == lane_left && lane == 3) return;
  tile[t] = x[at];
  if (bug != no_syncwarp) __syncwarp();
  float sum = tile[t ^ 1];
  for (int offset = bug == shuffle_too_far ? 32 : 16; offset > (bug == shuffle_too_far ? 1 : 0); offset /= 2) {
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

// Every element copied.
enum Single { misaligned_pack = 40, integer_overflow, dimension_overrun, shift_too_far, pointer_overrun, endless_wait, unequal_barriers,
              last_block_wins, workspace_unwritten, workspace_overrun };

template <int bug> __global__ void __launch_bounds__(threads) single_kernel(const float* x, float* y, int n, float* workspace) {
  const int at = blockIdx.x * threads + threadIdx.x;
  float value = x[at];
  if (bug == misaligned_pack && at < 4) value = load_pack(x + 1 + 4 * at).item[0];
  if (bug == integer_overflow) value += (at + 1) * (n << 20) == 12345 ? 1.0f : 0.0f;
  if (bug == dimension_overrun) {
    float local[4] = {value, value, value, value};
    value = local[at % (n / 25)];
  }
  if (bug == shift_too_far) value += (1 << (at % (n / 3))) == 12345 ? 1.0f : 0.0f;
  if (bug == pointer_overrun) {
    float local[4] = {value, value, value, value};
    const float* end = local + n / 32;
    value = *(end - at % 2);
  }
  if (bug == endless_wait && at == 70)
    while (y[0] != -1) __asm__ volatile("" ::: "memory");
  if (bug == unequal_barriers)
    for (int i = 0; i < 1 + (threadIdx.x >= 32); ++i) __syncthreads();
  if (bug == workspace_unwritten) value += 0 * workspace[at];
  if (bug == workspace_overrun) workspace[at + 1] = value;
  y[at] = value;
  if (bug == last_block_wins && threadIdx.x == 0) y[0] = x[0] * blockIdx.x;
}

// Every element copied through dynamic shared memory.
enum Dynamic { dynamic_sound = 60, asks_too_little, asks_too_much, relies_on_alignment, tail_not_filled };

template <int bug> __global__ void __launch_bounds__(threads) dynamic_kernel(const float* x, float* y) {
  KDL_DYN_SHARED(raw);
  const int t = threadIdx.x, at = blockIdx.x * threads + t;
  float* slot = reinterpret_cast<float*>(raw) + t;
  if (bug == relies_on_alignment) slot = reinterpret_cast<float*>(reinterpret_cast<uintptr_t>(raw) | static_cast<uintptr_t>(4 * t));
  if (!(bug == tail_not_filled && t >= 60)) *slot = x[at];
  __syncthreads();
  y[at] = *slot;
}

template <int bug> void start(const Array& x, const Array& y, float* workspace, Stream stream) {
  constexpr size_t tile_bytes = threads * sizeof(float);
  constexpr size_t asked = bug == asks_too_little ? tile_bytes - 4 : bug == asks_too_much ? 300 << 10 : tile_bytes;
  const Launch shape(blocks, threads, stream, bug >= dynamic_sound ? asked : 0);
  if constexpr (bug < warp_sound) launch<reverse_kernel<bug>>(shape, x.as<const float>(), y.as<float>(), blocks * threads);
  else if constexpr (bug < misaligned_pack) launch<warp_kernel<bug>>(shape, x.as<const float>(), y.as<float>());
  else if constexpr (bug < dynamic_sound) launch<single_kernel<bug>>(shape, x.as<const float>(), y.as<float>(), blocks * threads, workspace);
  else launch<dynamic_kernel<bug>>(shape, x.as<const float>(), y.as<float>());
}

template <int... bugs>
void start_one(int64_t bug, const Array& x, const Array& y, float* workspace, Stream stream, std::integer_sequence<int, bugs...>) {
  ((bug == bugs ? start<bugs>(x, y, workspace, stream) : void()), ...);
}

int64_t planted_bytes(const Array& x, const Array&, int64_t) { return x.size() * static_cast<int64_t>(sizeof(float)); }

void planted(const Array& x, const Array& y, int64_t bug, Workspace workspace, Stream stream) {
  expect(x.size() == blocks * threads && y.size() == x.size(), "x and y must have 128 elements");
  start_one(bug, x, y, static_cast<float*>(workspace.data), stream, std::make_integer_sequence<int, tail_not_filled + 1>{});
}

// y = x of any size, bytes; the second with an index of 32 bits.
template <class Index> __global__ void __launch_bounds__(threads) wide_kernel(const uint8_t* x, uint8_t* y, int64_t n) {
  const Index at = static_cast<Index>(blockIdx.x) * threads + threadIdx.x;
  if (at < static_cast<uint64_t>(n)) y[at] = x[at];
}

template <class Index> void wide(const Array& x, const Array& y, Stream stream) {
  launch<wide_kernel<Index>>({blocks_for(x.size(), threads), threads, stream}, x.as<const uint8_t>(), y.as<uint8_t>(), x.size());
}

KDL_EXPORT_WITH_WORKSPACE(planted, planted_bytes, "x", "y", "bug")
KDL_EXPORT_AS("wide_index", wide<uint64_t>, "x", "y")
KDL_EXPORT_AS("narrow_index", wide<uint32_t>, "x", "y")

}  // namespace kdl::planted
