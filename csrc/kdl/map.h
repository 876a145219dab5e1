// y[i] = f(x0[i], x1[i], ...) over arrays that agree in shape and layout. Computed in compute_t<T>; y may be one of the inputs.
#pragma once
#include <utility>

#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/pack.h"

namespace kdl {

constexpr int map_threads = 256;

// 16-byte loads that one thread has in flight. Two of them at full occupancy keep 64 KB under way per SM, more than Hopper's latency
// times bandwidth asks for.
constexpr int map_loads = 2;
template <class... In> inline constexpr int map_unroll = sizeof...(In) >= map_loads ? 1 : map_loads / static_cast<int>(sizeof...(In));
template <class T, class... In> inline constexpr int map_block_items = map_threads * map_unroll<In...> * pack_width<T>;

// Half a pack at a time, in a loop: f's code stands once for every element of a half, and what the loop costs is hidden behind memory.
template <class T, class F, size_t... I> KDL_FN Pack<T> map_pack(const F& f, const Pack<T>* x, std::index_sequence<I...>) {
  Halves<T> in[] = {x[I]...}, y = x[0];
#pragma unroll 1
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < pack_width<T> / 2; ++i) y.low.item[i] = from_compute<T>(f(to_compute(in[I].low.item[i])...));
    (in[I].swap(), ...);
    y.swap();
  }
  return y.pack();
}

// `head` single elements up to the first aligned address, then `full_blocks` blocks of packs, then single elements again.
template <class T, class F, class... In>
__global__ void __launch_bounds__(map_threads) map_kernel(F f, int64_t n, int64_t head, int64_t full_blocks, T* y, const In*... x) {
  constexpr int unroll = map_unroll<In...>, block_items = map_block_items<T, In...>;
  if (blockIdx.x < full_blocks) {
    const int64_t first = head + static_cast<int64_t>(blockIdx.x) * block_items + threadIdx.x * pack_width<T>;
    Pack<T> loaded[unroll][sizeof...(In)];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      int input = 0;
      ((loaded[u][input++] = load_pack(x + first + u * (map_threads * pack_width<T>))), ...);
    }
#pragma unroll 1
    for (int u = 0; u < unroll; ++u) {
      store_pack(y + first + u * (map_threads * pack_width<T>), map_pack<T>(f, loaded[0], std::index_sequence_for<In...>{}));
      if (unroll > 1) loaded[0][0] = loaded[unroll - 1][0];
    }
  }

  const int64_t body = full_blocks * block_items, singles = n - body, stride = static_cast<int64_t>(gridDim.x) * map_threads;
#pragma unroll 1
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
