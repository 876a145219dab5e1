// Shared memory: one arena, since one block runs at a time. Every block finds it filled with 0xff (NaN, -1), so that a value that nobody wrote
// shows in the result.
#include <cstdlib>
#include <cstring>
#include <new>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/state.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define SIMT_POISON(address, bytes) __asan_poison_memory_region(address, bytes)
#define SIMT_UNPOISON(address, bytes) __asan_unpoison_memory_region(address, bytes)
#else
#define SIMT_POISON(address, bytes)
#define SIMT_UNPOISON(address, bytes)
#endif

namespace simt {
namespace {

constexpr size_t capacity = 320 << 10;        // dynamic and static memory with room between the parts
constexpr size_t dynamic_offset = 1024;       // as on the hardware, where the runtime keeps the first kilobyte
constexpr size_t static_limit = 48 << 10;
constexpr size_t gap = 32;                    // between variables: an index one past the end must not hit a neighbour

struct Part {
  const void* key;  // null for the dynamic part
  char* begin;
  size_t bytes;
};

char* allocate_arena() {
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, capacity)) throw std::bad_alloc();
  return static_cast<char*>(memory);
}

char* const arena = allocate_arena();
std::vector<Part> parts;
size_t used_static = 0;
char* next_static = nullptr;

}  // namespace

void reset_shared(size_t dynamic_bytes) {
  parts.clear();
  used_static = 0;
  SIMT_POISON(arena, capacity);
  char* dynamic = arena + dynamic_offset + options.shared_skew;
  SIMT_UNPOISON(dynamic, dynamic_bytes);
  std::memset(dynamic, 0xff, dynamic_bytes);
  parts.push_back({nullptr, dynamic, dynamic_bytes});
  next_static = dynamic + dynamic_bytes + gap;
  forget_shared_accesses();
}

void* dynamic_shared() { return parts.front().begin; }

void* static_shared(const void* key, size_t bytes, size_t alignment) {
  for (const Part& part : parts)
    if (part.key == key) return part.begin;
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(next_static) + alignment - 1) & ~(alignment - 1);
  char* begin = reinterpret_cast<char*>(aligned);
  used_static += bytes;
  if (used_static > static_limit) fail(kdl::join("the kernel declares more than ", static_limit, " bytes of static shared memory"));
  SIMT_UNPOISON(begin, bytes);
  std::memset(begin, 0xff, bytes);
  parts.push_back({key, begin, bytes});
  next_static = begin + bytes + gap;
  return begin;
}

SharedPlace find_shared(const void* address, size_t bytes) {
  const char* p = static_cast<const char*>(address);
  if (p < arena || p >= arena + capacity) return {false, false, 0};
  for (const Part& part : parts)
    if (p >= part.begin && p + bytes <= part.begin + part.bytes) return {true, true, static_cast<size_t>(p - arena)};
  return {true, false, static_cast<size_t>(p - arena)};
}

const char* shared_base() { return arena; }
size_t shared_capacity() { return capacity; }

}  // namespace simt
