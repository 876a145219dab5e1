#include "simt/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the callee-saved registers of the ABI on the old stack, leaves its top in *save, and continues on the stack `load`.
extern "C" void simt_switch_stack(void** save, void* load);

#if defined(__x86_64__)
constexpr int saved_registers = 6;
asm(R"(
.text
.globl simt_switch_stack
.hidden simt_switch_stack
.type simt_switch_stack,@function
simt_switch_stack:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size simt_switch_stack,.-simt_switch_stack
)");
#else
#error "simt: write simt_switch_stack for this processor (x86-64 is the only one so far)"
#endif

namespace simt {
namespace {

constexpr size_t guard_bytes = 4096;

// Stack tops that all share their low address bits would all fall into the same cache sets.
constexpr size_t colour_step = 192, colours = 64;

const void* caller_stack = nullptr;
size_t caller_stack_bytes = 0;
Fiber* running = nullptr;

}  // namespace

__attribute__((no_sanitize("address"))) void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool dying) {
  running = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(dying ? nullptr : &from.sanitizer_stack, to.stack ? to.stack : caller_stack,
                                 to.stack ? fiber_stack_bytes : caller_stack_bytes);
#endif
  simt_switch_stack(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(running->sanitizer_stack, nullptr, nullptr);
#endif
}

void on_fiber_entry() {
#if defined(__SANITIZE_ADDRESS__)
  const void* previous;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &previous, &bytes);
  if (!caller_stack) {  // the first fiber is entered from the caller
    caller_stack = previous;
    caller_stack_bytes = bytes;
  }
#endif
}

Fiber* FiberPool::take() {
  if (!free_.empty()) {
    Fiber* fiber = free_.back();
    free_.pop_back();
    return fiber;
  }
  void* memory = mmap(nullptr, guard_bytes + fiber_stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, guard_bytes, PROT_NONE);

  Fiber* fiber = new Fiber;
  fiber->stack = static_cast<char*>(memory) + guard_bytes;
  const uintptr_t colour = all_.size() % colours * colour_step;
  void** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(fiber->stack) + fiber_stack_bytes - colour) & ~uintptr_t{63});
  *--top = nullptr;  // a return address for the entry, which never returns; it also gives the stack the alignment of a call
  *--top = reinterpret_cast<void*>(entry_);
  for (int i = 0; i < saved_registers; ++i) *--top = nullptr;
  fiber->stack_pointer = top;
  all_.push_back(fiber);
  return fiber;
}

void FiberPool::abandon_all() {
  for (Fiber* fiber : all_) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, fiber_stack_bytes);
#endif
    munmap(fiber->stack - guard_bytes, guard_bytes + fiber_stack_bytes);
    delete fiber;
  }
  all_.clear();
  free_.clear();
}

bool FiberPool::owns(const void* address) const {
  for (const Fiber* fiber : all_)
    if (address >= fiber->stack && address < fiber->stack + fiber_stack_bytes) return true;
  return false;
}

}  // namespace simt
