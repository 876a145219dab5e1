// A stackful fiber: a stack and a place to continue. Switching costs about ten nanoseconds.
#pragma once
#include <cstddef>
#include <vector>

namespace simt {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t fiber_stack_bytes = 256 << 10;
#else
constexpr size_t fiber_stack_bytes = 64 << 10;
#endif

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;           // lowest address; null for the fiber of the caller
  void* sanitizer_stack = nullptr;
};

// Switches from the running fiber to another. A dying fiber is never continued.
void switch_fiber(Fiber& from, Fiber& to, bool dying);

// A pool of fibers that all start in `entry`, which must never return. A fiber that is put back has run to its last switch.
class FiberPool {
 public:
  explicit FiberPool(void (*entry)()) : entry_(entry) {}
  Fiber* take();
  void put(Fiber* fiber) { free_.push_back(fiber); }
  void abandon_all();  // after a failure: whatever was suspended is dropped without being unwound
  bool owns(const void* address) const;

 private:
  void (*entry_)();
  std::vector<Fiber*> all_, free_;
};

// To be called first in a fiber's entry.
void on_fiber_entry();

}  // namespace simt
