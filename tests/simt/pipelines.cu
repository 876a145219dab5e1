// Planted bugs of pipelines: a small product through a ring of shared tiles, as kdl/tile_mma.h has it, with one mistake at a time.
// planted_pipeline(a, b, y, bug): y = a b' for a (30, 72) and b (16, 72) in float16, y in float32; bug 0 is the sound kernel.
#include "kdl/launch.h"
#include "kdl/ptx.cuh"

namespace kdl::planted {

enum Pipeline { sound_pipeline, wait_one_stage_short, no_barrier_after_wait, missing_commit, fills_stage_being_read, misaligned_row, wrong_lane_map,
                swapped_halves, guard_dropped, mma_in_one_branch, copy_never_awaited, misaligned_copy, store_under_copy };

constexpr int M = 30, BM = 32, N = 16, K = 72, BK = 16, STAGES = 3, pitch = BK + 8, stage_size = (BM + N) * pitch, steps = (K + BK - 1) / BK;
constexpr int pipeline_threads = 64;  // two warps, 16 rows of y each

template <int bug> KDL_FN void load_stage(__half* ring, int stage, const __half* a, const __half* b, int step) {
  const int t = threadIdx.x;
  for (int chunk = t; chunk < (BM + N) * 2; chunk += pipeline_threads) {
    const int row = chunk % (BM + N), part = chunk / (BM + N) * 8, k = step * BK + part;  // each warp needs what the other copies
    const bool inside = k < K && (row >= BM || row < M || bug == guard_dropped);
    const __half* matrix = row < BM ? a + row * K : b + (row - BM) * K;
    ptx::cp_async<16>(ring + stage * stage_size + row * pitch + part, inside ? matrix + k + (bug == misaligned_copy && row == 3 ? 1 : 0) : a,
                      inside ? 16 : 0);
  }
}

template <int bug> __global__ void __launch_bounds__(pipeline_threads) pipeline_kernel(const __half* a, const __half* b, float* y) {
  KDL_DYN_SHARED(memory);
  __half* const ring = reinterpret_cast<__half*>(memory);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float sum[2][4] = {};
  for (int step = 1 - STAGES; step < steps; ++step) {
    if (step >= 0) {
      ptx::cp_async_wait_group<bug == wait_one_stage_short ? STAGES - 1 : STAGES - 2>();
      if (bug != no_barrier_after_wait) __syncthreads();
    }
    const int ahead = step + STAGES - 1;
    if (ahead < steps || (bug == copy_never_awaited && ahead == steps)) load_stage<bug>(ring, (bug == fills_stage_being_read && step >= 0 ? step : ahead) % STAGES, a, b, ahead);
    if (bug == store_under_copy && step == 0) ring[ahead % STAGES * stage_size + threadIdx.x % BM * pitch] = __half(0.0f);
    if (bug != missing_commit || step < 0) ptx::cp_async_commit_group();
    if (step < 0) continue;

    const __half *tile_a = ring + step % STAGES * stage_size + warp * 16 * pitch, *tile_b = ring + step % STAGES * stage_size + BM * pitch;
    uint32_t ra[4], rb[4];
    const int row = bug == wrong_lane_map ? lane / 2 : lane % 16, half = bug == wrong_lane_map ? lane % 2 : lane / 16;
    ptx::ldmatrix_x4(ra, tile_a + row * pitch + half * 8 + (bug == misaligned_row && lane == 9 ? 4 : 0));
    ptx::ldmatrix_x4(rb, tile_b + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8);
    for (int j = 0; j < 2; ++j) {
      const uint32_t pair[2] = {rb[2 * j + (bug == swapped_halves)], rb[2 * j + (bug != swapped_halves)]};
      if (bug == mma_in_one_branch && lane >= 16) continue;
      ptx::mma_m16n8k16_f16(sum[j], ra, pair);
    }
  }
  for (int j = 0; j < 2; ++j)
    for (int i = 0; i < 4; ++i) {
      const int m = warp * 16 + lane / 4 + i / 2 * 8, n = j * 8 + lane % 4 * 2 + i % 2;
      if (m < M) y[m * N + n] = sum[j][i];
    }
}

template <int... bugs> void start_one(int64_t bug, const Array& a, const Array& b, const Array& y, Stream stream, std::integer_sequence<int, bugs...>) {
  const Launch shape(1, pipeline_threads, stream, STAGES * stage_size * sizeof(__half));
  ((bug == bugs ? launch<pipeline_kernel<bugs>>(shape, a.as<const __half>(), b.as<const __half>(), y.as<float>()) : void()), ...);
}

void planted_pipeline(const Array& a, const Array& b, const Array& y, int64_t bug, Stream stream) {
  expect(a.size() == M * K && b.size() == N * K && y.size() == M * N, "a must be (30, 72), b (16, 72) and y (30, 16)");
  start_one(bug, a, b, y, stream, std::make_integer_sequence<int, store_under_copy + 1>{});
}

KDL_EXPORT(planted_pipeline, "a", "b", "y", "bug")

}  // namespace kdl::planted
