// y[i] = f(x0[i], x1[i], ...) over arrays that agree in shape and layout. Computed in compute_t<T>; y may be one of the inputs.
#pragma once
#include <utility>

#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/pack.h"

namespace kdl {

constexpr int map_threads = 256;

// 16-byte loads that one thread has in flight. Two of them at full occupancy keep 64 KB under way per SM, more than Hopper's latency
// times bandwidth asks for; every further one multiplies the code of f, which stands once per element.
constexpr int map_loads = 2;
template <class... In> inline constexpr int map_unroll = sizeof...(In) >= map_loads ? 1 : map_loads / static_cast<int>(sizeof...(In));
template <class T, class... In> inline constexpr int map_block_items = map_threads * map_unroll<In...> * pack_width<T>;

template <class T, class F, class... Packs> KDL_FN Pack<T> map_pack(const F& f, const Packs&... x) {
  Pack<T> y;
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) y.item[i] = from_compute<T>(f(to_compute(x.item[i])...));
  return y;
}

// `head` single elements up to the first aligned address, then `full_blocks` blocks of packs, then single elements again.
template <class T, class F, class... In>
__global__ void __launch_bounds__(map_threads) map_kernel(F f, int64_t n, int64_t head, int64_t full_blocks, T* y, const In*... x) {
  constexpr int unroll = map_unroll<In...>, block_items = map_block_items<T, In...>;
  if (blockIdx.x < full_blocks) {
    const int64_t first = head + static_cast<int64_t>(blockIdx.x) * block_items + threadIdx.x * pack_width<T>;
    Pack<T> result[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) result[u] = map_pack<T>(f, load_pack(x + first + u * (map_threads * pack_width<T>))...);
#pragma unroll
    for (int u = 0; u < unroll; ++u) store_pack(y + first + u * (map_threads * pack_width<T>), result[u]);
  }

  const int64_t body = full_blocks * block_items, singles = n - body, stride = static_cast<int64_t>(gridDim.x) * map_threads;
  for (int64_t single = static_cast<int64_t>(blockIdx.x) * map_threads + threadIdx.x; single < singles; single += stride) {
    const int64_t at = single < head ? single : single + body;
    y[at] = from_compute<T>(f(to_compute(x[at])...));
  }
}

// The addresses must be distinct arrays of n elements, or the very same one (in place).
template <class T, class F, class... In> void map(Stream stream, const F& f, int64_t n, T* y, const In*... x) {
  constexpr int block_items = map_block_items<T, In...>;
  const int64_t head = pack_head<T>(n, {y, x...}), full_blocks = (n - head) / block_items;
  const int64_t singles = n - full_blocks * block_items;
  const unsigned blocks = blocks_for(full_blocks, 1), for_singles = blocks_for(singles, map_threads * pack_width<T>);
  launch<map_kernel<T, F, In...>>({blocks > for_singles ? blocks : for_singles, map_threads, stream}, f, n, head, full_blocks, y, x...);
}

}  // namespace kdl
