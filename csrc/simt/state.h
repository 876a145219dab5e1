// The engine's own state: the resident block, its threads, and the services its parts offer one another. No kernel sees this.
#pragma once
#include <atomic>
#include <vector>

#include "simt/clock.h"
#include "simt/engine.h"
#include "simt/fiber.h"

namespace simt {

// A cp.async between its issue and the wait for its group.
struct AsyncCopy {
  char* destination;
  const char* source;
  int bytes, source_bytes;
  uint32_t group;
  bool arrived;
  Where where;
};

struct Thread : ThreadView {
  Fiber* fiber = nullptr;  // null before the first step and after the last
  bool finished = false;
  const char* waiting_in = "";
  Where waiting_at{"", 0};
  int vote = 0;  // what the block barrier found, for this thread to pick up
  Clock clock;
  std::vector<AsyncCopy> copies;
  uint32_t copy_groups = 0;  // committed so far
};

// One warp-wide operation that some lanes have reached.
struct Collective {
  uint32_t mask, arrived;
  const char* what;
  Where where;
  void* operands[32];
};

struct BlockBarrier {
  std::vector<Thread*> waiting;
  Where where{"", 0};
  int trues = 0;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<std::vector<Collective>> collectives;  // per warp
  BlockBarrier barrier;
  uint32_t number = 0;  // counted over the grid
  int unfinished = 0, finished = 0;
};
extern Block block;
extern std::atomic<uint64_t> steps;  // how often a thread was chosen to run

inline Thread& self() { return *static_cast<Thread*>(current); }

// --- scheduler.cpp ---
uint32_t random_below(uint32_t n);
void resume(std::vector<Thread*>& threads);             // lets waiting threads continue, in the chosen order; empties the list
void wait(const char* what, Where where);               // the current thread is in some list that somebody will resume
bool is_on_fiber_stack(const void* address);

// --- sync.cpp ---
void check_nobody_waits_for(const Thread& leaving);

// --- async.cpp ---
bool is_in_flight(size_t offset, size_t bytes);  // whether a cp.async is still writing there in shared memory
void forget_copies();
void check_no_copy_is_under_way(const Thread& leaving);

// --- shared.cpp ---
void reset_shared(size_t dynamic_bytes);
struct SharedPlace {
  bool inside, allocated;  // in the block's shared memory at all; in a part of it that the kernel asked for
  size_t offset;
};
SharedPlace find_shared(const void* address, size_t bytes);
const char* shared_base();
size_t shared_capacity();

}  // namespace simt
