// The emulated device's global memory. Each argument of a call gets a buffer of its exact size here; the space around buffers is filled with
// 0xff, belongs to nobody and is checked after the call.
#pragma once
#include <cstddef>
#include <cstdint>

namespace simt {

struct Buffer {
  char* begin;
  size_t bytes;
  const char* name;  // of the argument
  uint32_t number;
  bool starts_written;  // false for a workspace, whose contents no kernel may rely on
};

Buffer allocate(const char* name, size_t bytes, size_t misalignment, bool starts_written);  // begins at `misalignment` modulo 256
void free_all();
void check_surroundings(const Buffer& buffer);  // throws kdl::DeviceError when something wrote beside it

bool is_device_memory(const void* address);
const Buffer* find_buffer(const void* address);  // that holds the address, or the nearest before it; null if there is none

}  // namespace simt
