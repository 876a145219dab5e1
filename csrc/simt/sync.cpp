// Where threads meet: the block barrier and the operations of a warp.
#include <cstdio>
#include <cstring>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/state.h"

namespace simt {
namespace {

bool same(Where a, Where b) { return a.line == b.line && (a.file == b.file || !std::strcmp(a.file, b.file)); }

// Everything before the barrier is ordered before everything after it.
void pass_barrier(Thread& thread) { ++thread.clock.barriers; }

void release_barrier(Vote vote) {
  BlockBarrier& barrier = block.barrier;
  const int arrived = static_cast<int>(barrier.waiting.size());
  for (Thread* thread : barrier.waiting) {
    thread->vote = vote == Vote::any ? barrier.trues > 0 : vote == Vote::all ? barrier.trues == arrived : barrier.trues;
    pass_barrier(*thread);
  }
  barrier.trues = 0;
}

std::string mask_text(uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

// After it, every lane of the mask has seen what every other lane did before it.
void order_lanes(uint32_t mask, uint32_t warp) {
  Clock joined;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    Clock& clock = block.threads[warp * 32 + lane].clock;
    ++clock.seen[lane];
    for (uint32_t other = 0; other < 32; ++other)
      if (clock.seen[other] > joined.seen[other]) joined.seen[other] = clock.seen[other];
  }
  for (uint32_t lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) std::memcpy(block.threads[warp * 32 + lane].clock.seen, joined.seen, sizeof(joined.seen));
}

Collective& open_collective(uint32_t mask, const char* what, Where where) {
  const Thread& thread = self();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const size_t linear = thread.warp * 32 + lane;
    if ((mask >> lane & 1) && (linear >= block.threads.size() || block.threads[linear].finished))
      fail(kdl::join(what, " at ", describe(where), ": mask ", mask_text(mask), " names lane ", lane, ", which has returned or does not exist"));
  }
  auto& open = block.collectives[thread.warp];
  open.push_back({mask, 0, what, where, {}});
  return open.back();
}

}  // namespace

int block_barrier(Vote vote, bool predicate, Where where) {
  report_pending_finding();
  Thread& thread = self();
  BlockBarrier& barrier = block.barrier;
  if (block.finished > 0)
    fail(kdl::join("__syncthreads at ", describe(where), ": ", block.finished, " thread(s) of the block have already returned"));
  if (barrier.waiting.empty()) barrier.where = where;
  if (!same(barrier.where, where))
    fail(kdl::join("divergent barrier: __syncthreads at ", describe(where), " while ", barrier.waiting.size(), " thread(s) wait in the one at ",
                   describe(barrier.where)));
  barrier.trues += predicate;
  barrier.waiting.push_back(&thread);
  if (barrier.waiting.size() < static_cast<size_t>(block.unfinished)) {
    wait("__syncthreads", where);
    return thread.vote;
  }
  release_barrier(vote);
  if (options.order != Order::random) barrier.waiting.pop_back();  // the last to arrive simply goes on
  resume(barrier.waiting);
  if (options.order == Order::random) wait("__syncthreads", where);
  return thread.vote;
}

void warp_collective(uint32_t mask, const char* what, bool orders_memory, void* operand, Exchange exchange, Where where) {
  report_pending_finding();
  Thread& thread = self();
  const uint32_t own = uint32_t{1} << thread.lane;
  if (!(mask & own))
    fail(kdl::join(what, " at ", describe(where), ": lane ", thread.lane, " calls it, but is not in its mask ", mask_text(mask)));

  auto& open = block.collectives[thread.warp];
  Collective* meeting = nullptr;
  for (Collective& candidate : open)
    if (candidate.mask == mask && !(candidate.arrived & own)) meeting = &candidate;
  if (!meeting) meeting = &open_collective(mask, what, where);
  if (std::strcmp(meeting->what, what) || !same(meeting->where, where))
    fail(kdl::join("divergent warp: ", what, " at ", describe(where), " meets ", meeting->what, " at ", describe(meeting->where)));
  meeting->operands[thread.lane] = operand;
  meeting->arrived |= own;
  if (meeting->arrived != mask) return wait(what, where);

  if (exchange) exchange(meeting->operands, mask);
  if (orders_memory) order_lanes(mask, thread.warp);
  std::vector<Thread*> others;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) && lane != thread.lane) others.push_back(&block.threads[thread.warp * 32 + lane]);
  open.erase(open.begin() + (meeting - open.data()));
  if (options.order == Order::random) others.push_back(&thread);
  resume(others);
  if (options.order == Order::random) wait(what, where);
}

uint32_t active_mask() {
  const Thread& thread = self();
  uint32_t mask = 0;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const size_t linear = thread.warp * 32 + lane;
    if (linear < block.threads.size() && !block.threads[linear].finished) mask |= uint32_t{1} << lane;
  }
  return mask;
}

void check_nobody_waits_for(const Thread& leaving) {
  for (const Collective& meeting : block.collectives[leaving.warp])
    if (meeting.mask >> leaving.lane & 1)
      fail(kdl::join("a thread returns while its warp waits for it in ", meeting.what, " at ", describe(meeting.where)));
  if (!block.barrier.waiting.empty())
    fail(kdl::join("a thread returns while ", block.barrier.waiting.size(), " thread(s) wait in __syncthreads at ",
                   describe(block.barrier.where)));
}

}  // namespace simt
