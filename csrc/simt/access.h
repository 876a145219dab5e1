// Every read and write of a kernel, as the race build reports them: checked for bounds, for order and for initialisation, and counted.
#pragma once
#include <cstddef>
#include <cstdint>

namespace simt {

void begin_launch();            // what one launch does is ordered before the next
void forget_shared_accesses();  // a new block has its own shared memory
void forget_buffer_accesses(size_t number, size_t bytes);

// The current thread's access; `site` is the instruction, for its source line.
void note_access(const void* address, size_t bytes, bool is_write, const void* site);

struct Traffic {
  int64_t bytes_read, bytes_written;  // of global memory, as requested by the threads
};
extern Traffic traffic;

}  // namespace simt
