#include "simt/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "kdl/error.h"
#include "simt/access.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {
namespace {

constexpr size_t space_bytes = size_t{64} << 30;  // reserved, not used: pages come when they are touched
constexpr size_t margin = 4096;                   // before and behind every buffer

char* reserve_space() {
  void* memory = mmap(nullptr, space_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<char*>(memory);
}

char* const space = reserve_space();
char* next = space;
std::vector<Buffer> buffers;  // in the order of their addresses

void poison(char* begin, size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);
#endif
  std::memset(begin, 0xff, bytes);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(begin, bytes);
#endif
}

__attribute__((no_sanitize("address"))) bool is_untouched(const char* begin, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if (begin[i] != char(0xff)) return false;
  return true;
}

}  // namespace

Buffer allocate(const char* name, size_t bytes, size_t misalignment, bool starts_written) {
  char* begin = next + margin + misalignment;
  char* after = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(begin) + bytes + 255) & ~uintptr_t{255});
  if (after + margin > space + space_bytes) throw kdl::DeviceError("the arrays of one call exceed the emulated device's 64 GiB");
  poison(next, margin + misalignment);
  poison(begin + bytes, static_cast<size_t>(after - begin) - bytes + margin);
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);
#endif
  if (!starts_written) std::memset(begin, 0xff, bytes);
  next = after;  // the margin behind is the margin before the next one
  buffers.push_back({begin, bytes, name, static_cast<uint32_t>(buffers.size()), starts_written});
  forget_buffer_accesses(buffers.back().number, name);
  return buffers.back();
}

void free_all() {
  constexpr size_t kept = size_t{64} << 20;
  if (static_cast<size_t>(next - space) > kept) madvise(space, static_cast<size_t>(next - space) + margin, MADV_DONTNEED);
  next = space;
  buffers.clear();
}

void check_surroundings(const Buffer& buffer) {
  const char* where = nullptr;
  if (!is_untouched(buffer.begin - margin / 2, margin / 2)) where = "before the first byte of ";
  if (!is_untouched(buffer.begin + buffer.bytes, margin / 2)) where = "past the last byte of ";
  if (where) throw kdl::DeviceError(kdl::join("a kernel wrote ", where, buffer.name));
}

bool is_device_memory(const void* address) { return address >= space && address < space + space_bytes; }

const Buffer* find_buffer(const void* address) {
  const auto after = std::upper_bound(buffers.begin(), buffers.end(), address, [](const void* a, const Buffer& b) { return a < b.begin; });
  return after == buffers.begin() ? nullptr : &*(after - 1);
}

}  // namespace simt
