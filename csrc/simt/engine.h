// The engine that runs CUDA kernels on the CPU, as kernels and launchers see it (through kdl/device.h and kdl/launch.h).
//
// One OS thread. Every CUDA thread is a fiber that runs until it must wait for others, so each gets as far ahead as it legally can: that is
// what makes a missing barrier show. Blocks run one after the other. A state in which everybody waits is reported, never hung.
#pragma once
#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

// Code that must not be instrumented in the race build: the engine's own templates that kernels instantiate.
#define SIMT_FN __attribute__((no_sanitize("thread"))) inline

namespace simt {

// Where in the kernel's source a call stands. As a default argument it is the caller's line.
struct Where {
  const char* file;
  int line;
  static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

struct ThreadView {
  uint3 thread_index, block_index;
  uint32_t linear, lane, warp;
};
extern ThreadView* current;
extern dim3 block_dim, grid_dim;

// --- launching ---
struct Shape {
  dim3 blocks, threads;
  size_t shared_bytes;
};
void run(const std::string& kernel, const Shape& shape, const std::function<void()>& body);  // throws kdl::DeviceError

enum class Order : int64_t { forward, reverse, random };
struct Options {
  Order order = Order::forward;  // in which waiting threads continue and blocks start
  uint64_t seed = 0;             // of the random order
  int64_t capability = 80;       // compute capability of the emulated device: 80 is 8.0
  uint32_t shared_skew = 0;      // shifts dynamic shared memory, to show a kernel that relies on more alignment than it has
  uint32_t offset = 0;           // elements by which every array lies past its place in host memory: unaligned bases
  int patience = 10;             // seconds of processor time that a thread may run without waiting
  bool last_block = false;       // runs the last block of each launch alone, on the arrays where they lie: for arrays too large to copy
};
extern Options options;

// Reports a bug of the running kernel, with its name, block and thread, and abandons the launch.
[[noreturn]] void fail(const std::string& message);
std::string describe(Where where);  // "pool.cu:31"

// --- within a block ---
enum class Vote { none, any, all, count };
int block_barrier(Vote vote, bool predicate, Where where);

// Meets the other lanes of the mask; the last to arrive lets `exchange` turn all operands into results.
using Exchange = void (*)(void** operands, uint32_t mask);
void warp_collective(uint32_t mask, const char* what, bool orders_memory, void* operand, Exchange exchange, Where where);
uint32_t active_mask();

void* dynamic_shared();
void* static_shared(const void* key, size_t bytes, size_t alignment);

}  // namespace simt
