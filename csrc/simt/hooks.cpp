// What code compiled with -fsanitize=thread calls before each access: instead of that sanitizer's library, the engine's own checks.
#include "simt/access.h"
#include "simt/engine.h"

namespace {
[[maybe_unused]] const bool watching = simt::watches_accesses = true;
}

#define NOTE(address, bytes, is_write) \
  if (simt::current) simt::note_access(address, bytes, is_write, __builtin_return_address(0))

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define SIMT_HOOKS(bytes)                                                             \
  void __tsan_read##bytes(void* address) { NOTE(address, bytes, false); }             \
  void __tsan_write##bytes(void* address) { NOTE(address, bytes, true); }             \
  void __tsan_unaligned_read##bytes(void* address) { NOTE(address, bytes, false); }   \
  void __tsan_unaligned_write##bytes(void* address) { NOTE(address, bytes, true); }   \
  void __tsan_volatile_read##bytes(void* address) { NOTE(address, bytes, false); }    \
  void __tsan_volatile_write##bytes(void* address) { NOTE(address, bytes, true); }
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

// The guard of a function's static variable, in launchers; kernels have no atomics.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int order) { return __atomic_load_n(address, order); }

void __tsan_read_range(void* address, long bytes) { NOTE(address, static_cast<size_t>(bytes), false); }
void __tsan_write_range(void* address, long bytes) { NOTE(address, static_cast<size_t>(bytes), true); }
}
