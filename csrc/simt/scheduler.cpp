// Who runs next: the launch loop over blocks, the queue of threads that can continue, and what happens when there is none.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/state.h"
#include "simt/watchdog.h"

namespace simt {

ThreadView* current = nullptr;
dim3 block_dim, grid_dim;
Options options;
Block block;
std::atomic<uint64_t> steps{0};

namespace {

[[noreturn]] void fiber_main();

std::mutex one_launch_at_a_time;
Fiber caller;
Fiber* running = &caller;
FiberPool& pool = *new FiberPool(fiber_main);
std::vector<Thread*> queue;  // can continue; from `head` on
size_t head = 0;
uint64_t random_state = 1;
const std::function<void()>* kernel_body = nullptr;
std::string kernel_name;
std::string failure;

void arrange(std::vector<Thread*>& threads) {
  if (options.order == Order::random) {
    for (size_t i = threads.size(); i > 1; --i) std::swap(threads[i - 1], threads[random_below(static_cast<uint32_t>(i))]);
    return;
  }
  const auto by_number = [](Thread* a, Thread* b) { return a->linear < b->linear; };
  if (!std::is_sorted(threads.begin(), threads.end(), by_number)) std::sort(threads.begin(), threads.end(), by_number);
  if (options.order == Order::reverse) std::reverse(threads.begin(), threads.end());
}

[[noreturn]] void report_deadlock() {
  std::map<std::pair<std::string, std::string>, int> groups;
  for (const Thread& thread : block.threads)
    if (!thread.finished) ++groups[{thread.waiting_in, describe(thread.waiting_at)}];
  std::string text;
  for (const auto& [place, count] : groups)
    text += kdl::join(text.empty() ? "" : "; ", count, " thread(s) wait in ", place.first, " at ", place.second);
  fail("deadlock: " + text);
}

// The next thread to run, or null when all have finished.
Thread* next_thread() {
  steps.fetch_add(1, std::memory_order_relaxed);
  if (head == queue.size()) {
    if (block.unfinished == 0) return nullptr;
    report_deadlock();
  }
  if (options.order == Order::random) std::swap(queue[head], queue[head + random_below(static_cast<uint32_t>(queue.size() - head))]);
  Thread* next = queue[head++];
  if (head == queue.size()) {
    queue.clear();
    head = 0;
  }
  return next;
}

void switch_to(Fiber& next, bool dying = false) {
  Fiber& previous = *running;
  running = &next;
  switch_fiber(previous, next, dying);
}

// Runs threads from start to end. A thread that ends is followed on the same fiber by one that has not started: a kernel without barriers is
// a plain loop.
[[noreturn]] void fiber_main() {
  on_fiber_entry();
  for (;;) {
    Fiber* own = running;
    Thread& thread = self();
    thread.fiber = own;
    (*kernel_body)();
    report_pending_finding();

    thread.fiber = nullptr;
    check_no_copy_is_under_way(thread);
    check_nobody_waits_for(thread);
    thread.finished = true;
    --block.unfinished;
    ++block.finished;

    Thread* next = next_thread();
    current = next;
    if (next && !next->fiber) continue;
    pool.put(own);
    switch_to(next ? *next->fiber : caller);  // continued only as a fresh fiber for another thread
  }
}

void start_block(uint32_t number, const Shape& shape) {
  const dim3 b = shape.threads, g = shape.blocks;
  block.number = number;
  forget_copies();
  block.threads.assign(static_cast<size_t>(b.x) * b.y * b.z, Thread{});
  block.collectives.assign((block.threads.size() + 31) / 32, {});
  block.barrier = {};
  block.unfinished = static_cast<int>(block.threads.size());
  block.finished = 0;
  queue.clear();
  head = 0;
  std::vector<Thread*> all;
  for (uint32_t i = 0; i < block.threads.size(); ++i) {
    Thread& thread = block.threads[i];
    thread.linear = i;
    thread.lane = i % 32;
    thread.warp = i / 32;
    thread.thread_index = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
    thread.block_index = {number % g.x, number / g.x % g.y, number / (g.x * g.y)};
    all.push_back(&thread);
  }
  reset_shared(shape.shared_bytes);
  resume(all);
}

void run_block() {
  Thread* first = next_thread();
  current = first;
  first->fiber = pool.take();
  switch_to(*first->fiber);
  current = nullptr;
  if (failure.empty()) return;
  pool.abandon_all();
  throw kdl::DeviceError(failure);
}

void check_shape(const Shape& shape) {
  const uint64_t threads = uint64_t{shape.threads.x} * shape.threads.y * shape.threads.z;
  const uint64_t blocks = uint64_t{shape.blocks.x} * shape.blocks.y * shape.blocks.z;
  if (threads == 0 || threads > 1024 || shape.threads.z > 64) fail(kdl::join("invalid configuration: ", threads, " threads per block"));
  if (blocks == 0 || shape.blocks.x > 0x7fffffffu || shape.blocks.y > 65535 || shape.blocks.z > 65535)
    fail(kdl::join("invalid configuration: grid (", shape.blocks.x, ", ", shape.blocks.y, ", ", shape.blocks.z, ")"));
  if (shape.shared_bytes > 227 * 1024) fail(kdl::join("invalid configuration: ", shape.shared_bytes, " bytes of dynamic shared memory"));
}

}  // namespace

uint32_t random_below(uint32_t n) {  // xorshift64
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>((random_state >> 16) % n);
}

bool is_on_fiber_stack(const void* address) {
  const Fiber* own = running;
  if (own->stack && address >= own->stack && address < own->stack + fiber_stack_bytes) return true;
  return pool.owns(address);
}

void resume(std::vector<Thread*>& threads) {
  arrange(threads);
  queue.insert(queue.end(), threads.begin(), threads.end());
  threads.clear();
}

void wait(const char* what, Where where) {
  Thread& thread = self();
  thread.waiting_in = what;
  thread.waiting_at = where;
  Thread* next = next_thread();
  current = next;
  if (next == &thread) return;
  if (!next->fiber) next->fiber = pool.take();
  switch_to(*next->fiber);
}

std::string describe(Where where) {
  const char* slash = std::strrchr(where.file, '/');
  return kdl::join(slash ? slash + 1 : where.file, ":", where.line);
}

void fail(const std::string& message) {
  failure = kernel_name + ": " + message;
  if (current) {
    const uint3 b = current->block_index, t = current->thread_index;
    failure += kdl::join(" [block (", b.x, ", ", b.y, ", ", b.z, "), thread (", t.x, ", ", t.y, ", ", t.z, ")]");
  }
  if (running == &caller) throw kdl::DeviceError(failure);
  switch_to(caller, true);  // nothing is unwound: kernels own no resources
  __builtin_unreachable();
}

void run(const std::string& kernel, const Shape& shape, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  kernel_name = kernel;
  failure.clear();
  kernel_body = &body;
  running = &caller;
  block_dim = shape.threads;
  grid_dim = shape.blocks;
  random_state = (options.seed + 1) * 0x9e3779b97f4a7c15ull;
  check_shape(shape);
  begin_launch();

  const Watchdog watchdog;
  const uint32_t blocks = shape.blocks.x * shape.blocks.y * shape.blocks.z;
  std::vector<uint32_t> order(options.last_block ? 1 : blocks);
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = options.last_block ? blocks - 1 : i;
  if (options.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (options.order == Order::random)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(static_cast<uint32_t>(i))]);
  for (const uint32_t number : order) {
    start_block(number, shape);
    run_block();
  }
}

}  // namespace simt
