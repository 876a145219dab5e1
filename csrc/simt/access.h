// Every read and write of a kernel, as the race build reports them: checked for bounds, for order and for initialisation, and counted.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

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
void forget_buffer_accesses(size_t number, const char* name);

// The current thread's access.
void note_access(const void* address, size_t bytes, bool is_write, Site site);

// Reports an access beside the arrays and outside the shared memory that the kernel asked for.
void check_bounds(const void* address, size_t bytes, bool is_write, Site site);

// "pack.h:21 (map.h:40)": the line of the access, and the line that it was inlined into.
std::string source_line(Site site);

// The ASan build: reports what the sanitizer's library has found since. Called wherever a thread enters the engine.
#if defined(__SANITIZE_ADDRESS__)
void report_pending_finding();
#else
inline void report_pending_finding() {}
#endif

// Bytes of global memory so far: read and written as the threads asked, and fetched, which counts what a block reads again within a launch
// once, because it has that in its L1.
struct Traffic {
  int64_t read = 0, written = 0, fetched = 0;
};
Traffic traffic_of(const std::string& argument);  // of the arrays of that name; of all for ""

}  // namespace simt
