// Every read and write of a kernel, as the race build reports them: checked for bounds, for order and for initialisation, and counted.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simt/engine.h"

namespace simt {

// Whether this build reports accesses at all: hooks.cpp, which only the race build has, says so.
extern bool watches_accesses;

// Where an access stands in the kernel's source: an instruction, whose line is looked up when it is needed, or a line that is known.
struct Site {
  const void* instruction;
  Where where;

  Site(const void* instruction) : instruction(instruction), where{"", 0} {}
  Site(Where where) : instruction(nullptr), where(where) {}
};

void begin_launch();            // what one launch does is ordered before the next
void forget_shared_accesses();  // a new block has its own shared memory
void forget_buffer_accesses(size_t number, size_t bytes);

// The current thread's access.
void note_access(const void* address, size_t bytes, bool is_write, Site site);

struct Traffic {
  int64_t bytes_read, bytes_written;  // of global memory, as requested by the threads
};
extern Traffic traffic;

}  // namespace simt
