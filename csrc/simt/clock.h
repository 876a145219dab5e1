// Logical time, for the question whether one access to memory is ordered before another.
//
// Two things order memory within a block: __syncthreads orders everything before it, in any thread, before everything after it; __syncwarp
// does so among the lanes of its mask. So a thread's time is a count of block barriers, and for every lane of its own warp the latest moment
// of that lane it has synchronised with.
#pragma once
#include <cstdint>

namespace simt {

struct Moment {
  uint32_t barriers, ticks;  // block barriers passed; warp synchronisations of that thread
};

struct Clock {
  uint32_t barriers = 0;
  uint32_t seen[32] = {};  // seen[own lane] is the thread's own tick

  Moment now(uint32_t lane) const { return {barriers, seen[lane]}; }

  // Whether something that thread (warp, lane) did at `then` is ordered before what the owner of this clock, of `own_warp`, does now.
  bool is_after(Moment then, uint32_t warp, uint32_t lane, uint32_t own_warp) const {
    return then.barriers < barriers || (warp == own_warp && then.ticks < seen[lane]);
  }
};

}  // namespace simt
