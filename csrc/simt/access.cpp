#include "simt/access.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "kdl/error.h"
#include "simt/memory.h"
#include "simt/state.h"

namespace simt {

Traffic traffic;
bool watches_accesses = false;

namespace {

// One remembered access. Those of an earlier launch are ordered before everything that follows.
struct Access {
  uint32_t launch = 0, block = 0;
  Moment moment{};
  uint16_t thread = 0;
};

// What is remembered about a few bytes: the last write, and the last reads by two different threads.
struct Cell {
  Access write, reads[2];
  bool written = false;
};

// The cells of one stretch of memory; it starts with four bytes per cell and is refined when something smaller is accessed.
class Cells {
 public:
  void reset(size_t bytes) {
    bytes_ = bytes;
    width_ = 4;
    cells_.clear();
  }
  template <class Visit> void visit(size_t offset, size_t bytes, Visit visit_cell) {
    if (cells_.empty()) cells_.resize(bytes_ / width_ + 1);
    while (width_ > 1 && (offset | bytes) % width_) refine();
    for (size_t at = offset; at < offset + bytes; at += width_) visit_cell(cells_[at / width_], at, width_);
  }

 private:
  void refine() {
    std::vector<Cell> finer(2 * cells_.size());
    for (size_t i = 0; i < finer.size(); ++i) finer[i] = cells_[i / 2];
    cells_.swap(finer);
    width_ /= 2;
  }
  size_t bytes_ = 0, width_ = 4;
  std::vector<Cell> cells_;
};

uint32_t launch_number = 0;
Cells shared_cells;
std::vector<Cells> buffer_cells;  // by the buffer's number

// "pack.h:21 (map.h:40)": the line of the access, and the line that it was inlined into.
std::string source_line(Site site) {
  Dl_info info;
  if (!site.instruction) return describe(site.where);
  if (!dladdr(site.instruction, &info) || !info.dli_fname) return "unknown line";
  const size_t offset = static_cast<const char*>(site.instruction) - 1 - static_cast<const char*>(info.dli_fbase);
  char command[1024], line[256];
  std::snprintf(command, sizeof(command), "addr2line -i -s -e '%s' 0x%zx 2>/dev/null", info.dli_fname, offset);
  std::string text;
  if (FILE* lines = popen(command, "r")) {
    for (int i = 0; i < 2 && std::fgets(line, sizeof(line), lines); ++i) {
      std::string place(line);
      place.resize(place.find_first_of(" \n"));
      text += i ? " (" + place + ")" : place;
    }
    pclose(lines);
  }
  return text.empty() || text[0] == '?' ? kdl::join("offset ", offset, " of ", info.dli_fname) : text;
}

bool is_ordered_before_now(const Access& past) {
  if (past.launch != launch_number) return true;
  const Thread& thread = self();
  if (past.block != block.number) return false;
  return past.thread == thread.linear || thread.clock.is_after(past.moment, past.thread / 32, past.thread % 32, thread.warp);
}

std::string author(const Access& access) {
  if (access.block != block.number) return kdl::join("thread ", access.thread, " of block ", access.block);
  return kdl::join("thread ", access.thread);
}

template <class Place> [[noreturn]] void report(const char* finding, const Place& place, const char* relation, const Access* other, Site site) {
  fail(kdl::join(finding, " at ", source_line(site), ": ", place(), other ? relation : "", other ? author(*other) : ""));
}

template <class Place>
void check(Cells& cells, size_t offset, size_t bytes, bool is_write, bool starts_written, const char* memory, Place place, Site site) {
  Thread& thread = self();
  const Access now{launch_number, block.number, thread.clock.now(thread.lane), static_cast<uint16_t>(thread.linear)};
  cells.visit(offset, bytes, [&](Cell& cell, size_t at, size_t width) {
    if (!is_ordered_before_now(cell.write))
      report(is_write ? "race: write" : "race: read", place, ", not ordered after the write by ", &cell.write, site);
    if (is_write) {
      for (const Access& read : cell.reads)
        if (!is_ordered_before_now(read)) report("race: write", place, ", not ordered after the read by ", &read, site);
      cell = {now, {}, true};
      return;
    }
    if (!starts_written && !cell.written) {
      // The instrumentation misses some stores of class types: bytes that changed were written.
      if (std::all_of(memory + at, memory + at + width, [](char c) { return c == char(0xff); }))
        report("read of memory that nobody wrote", place, "", nullptr, site);
      cell.written = true;
    }
    if (cell.reads[0].thread != now.thread || cell.reads[0].block != now.block) cell.reads[1] = cell.reads[0];
    cell.reads[0] = now;
  });
}

}  // namespace

void begin_launch() { ++launch_number; }

void forget_shared_accesses() { shared_cells.reset(shared_capacity()); }

void note_access(const void* address, size_t bytes, bool is_write, Site site) {
  const char* what = is_write ? "write" : "read";
  const SharedPlace shared = find_shared(address, bytes);
  if (shared.inside) {
    const auto place = [&] { return kdl::join("shared memory at offset ", shared.offset); };
    if (!shared.allocated)
      fail(kdl::join("out of bounds: ", what, " of ", bytes, " bytes at ", source_line(site), ": ", place(), ", outside what the kernel asked for"));
    if (is_in_flight(shared.offset, bytes))
      fail(kdl::join("race: ", what, " at ", source_line(site), ": ", place(), ", which a cp.async is still writing"));
    return check(shared_cells, shared.offset, bytes, is_write, false, shared_base(), place, site);
  }
  if (!is_device_memory(address)) return;  // a local variable, a parameter or a constant
  const Buffer* buffer = find_buffer(address);
  const char* p = static_cast<const char*>(address);
  if (!buffer || p + bytes > buffer->begin + buffer->bytes) {
    std::string where = "before the first array";
    if (buffer) where = kdl::join("byte ", p - buffer->begin, " of ", buffer->name, ", which has ", buffer->bytes);
    fail(kdl::join("out of bounds: ", what, " of ", bytes, " bytes at ", source_line(site), ": ", where));
  }
  (is_write ? traffic.bytes_written : traffic.bytes_read) += static_cast<int64_t>(bytes);
  if (buffer_cells.size() <= buffer->number) buffer_cells.resize(buffer->number + 1);
  const size_t offset = static_cast<size_t>(p - buffer->begin);
  const auto place = [&] { return kdl::join("byte ", offset, " of ", buffer->name); };
  check(buffer_cells[buffer->number], offset, bytes, is_write, true, buffer->begin, place, site);
}

void forget_buffer_accesses(size_t number, size_t bytes) {
  if (buffer_cells.size() <= number) buffer_cells.resize(number + 1);
  buffer_cells[number].reset(bytes);
}

}  // namespace simt
