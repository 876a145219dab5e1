#include "simt/access.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <map>
#include <vector>

#include "kdl/error.h"
#include "simt/memory.h"
#include "simt/state.h"

namespace simt {

bool watches_accesses = false;

namespace {

// One remembered access of the present launch.
struct Access {
  static constexpr uint16_t nobody = 0xffff;
  uint32_t block = 0;
  Moment moment{};
  uint16_t thread = nobody;
};

// What is remembered about a few bytes: the last write, and the last reads by two different threads.
struct Cell {
  Access write, reads[2];
  uint32_t age = 0;
  bool written = false;
};

// The cells of one stretch of memory; it starts with four bytes per cell and is refined when something smaller is accessed. Forgetting costs
// nothing: a cell from before is cleared when it is next visited.
class Cells {
 public:
  void forget_order() { ++age_; }  // keeps what was written
  void forget() { oldest_ = ++age_; }
  void coarsen() {
    if (width_ < 4) cells_.clear();
    width_ = 4;
    forget();
  }
  template <class Visit> void visit(size_t offset, size_t bytes, Visit visit_cell) {
    while (width_ > 1 && (offset | bytes) % width_) refine();
    if ((offset + bytes - 1) / width_ >= cells_.size()) cells_.resize((offset + bytes - 1) / width_ + 1);
    for (size_t at = offset; at < offset + bytes; at += width_) {
      Cell& cell = cells_[at / width_];
      if (cell.age != age_) {
        const bool written = cell.written && cell.age >= oldest_;
        cell = {};
        cell.written = written;
        cell.age = age_;
      }
      visit_cell(cell, at, width_);
    }
  }

 private:
  void refine() {
    std::vector<Cell> finer(2 * cells_.size());
    for (size_t i = 0; i < finer.size(); ++i) finer[i] = cells_[i / 2];
    cells_.swap(finer);
    width_ /= 2;
  }
  size_t width_ = 4;
  uint32_t age_ = 1, oldest_ = 1;
  std::vector<Cell> cells_;
};

Cells shared_cells;

// What is known of a buffer, by its number.
struct Record {
  Cells cells;
  Traffic* traffic;
};
std::deque<Record> records;
std::map<std::string, Traffic> traffic;  // by the argument's name

bool is_ordered_before_now(const Access& past) {
  if (past.thread == Access::nobody) return true;
  if (past.block != block.number) return false;
  const Thread& thread = self();
  return past.thread == thread.linear || thread.clock.is_after(past.moment, past.thread / 32, past.thread % 32, thread.warp);
}

std::string author(const Access& access) {
  if (access.block != block.number) return kdl::join("thread ", access.thread, " of block ", access.block);
  return kdl::join("thread ", access.thread);
}

template <class Place> [[noreturn]] void report(const char* finding, const Place& place, const char* relation, const Access* other, Site site) {
  fail(kdl::join(finding, " at ", source_line(site), ": ", place(), other ? relation : "", other ? author(*other) : ""));
}

// Returns how many of the bytes the block had not read before.
template <class Place>
size_t check(Cells& cells, size_t offset, size_t bytes, bool is_write, bool starts_written, const char* memory, Place place, Site site) {
  Thread& thread = self();
  const Access now{block.number, thread.clock.now(thread.lane), static_cast<uint16_t>(thread.linear)};
  size_t fresh = 0;
  cells.visit(offset, bytes, [&](Cell& cell, size_t at, size_t width) {
    if (!is_ordered_before_now(cell.write))
      report(is_write ? "race: write" : "race: read", place, ", not ordered after the write by ", &cell.write, site);
    if (is_write) {
      for (const Access& read : cell.reads)
        if (!is_ordered_before_now(read)) report("race: write", place, ", not ordered after the read by ", &read, site);
      cell.write = now;
      cell.reads[0] = cell.reads[1] = {};
      cell.written = true;
      return;
    }
    if (!starts_written && !cell.written) {
      // The instrumentation misses some stores of class types: bytes that changed were written.
      if (std::all_of(memory + at, memory + at + width, [](char c) { return c == char(0xff); }))
        report("read of memory that nobody wrote", place, "", nullptr, site);
      cell.written = true;
    }
    if (cell.reads[0].thread == Access::nobody || cell.reads[0].block != now.block) fresh += width;
    if (cell.reads[0].thread != now.thread || cell.reads[0].block != now.block) cell.reads[1] = cell.reads[0];
    cell.reads[0] = now;
  });
  return fresh;
}

[[noreturn]] void report_outside(const char* p, size_t bytes, bool is_write, Site site) {
  std::string place = "before the first array";
  if (find_shared(p, bytes).inside) place = kdl::join("shared memory at offset ", find_shared(p, bytes).offset, ", outside what the kernel asked for");
  else if (const Buffer* buffer = find_buffer(p)) place = kdl::join("byte ", p - buffer->begin, " of ", buffer->name, ", which has ", buffer->bytes);
  fail(kdl::join("out of bounds: ", is_write ? "write" : "read", " of ", bytes, " bytes at ", source_line(site), ": ", place));
}

bool is_inside(const Buffer* buffer, const char* p, size_t bytes) { return buffer && p + bytes <= buffer->begin + buffer->bytes; }

}  // namespace

std::string source_line(Site site) {
  Dl_info info;
  if (!site.instruction) return describe(site.where);
  if (!dladdr(site.instruction, &info) || !info.dli_fname) return "unknown line";
  const size_t offset = static_cast<const char*>(site.instruction) - 1 - static_cast<const char*>(info.dli_fbase);
  char command[1024], line[256];
  std::snprintf(command, sizeof(command), "LD_PRELOAD= addr2line -i -s -e '%s' 0x%zx 2>/dev/null", info.dli_fname, offset);
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

void begin_launch() {
  for (Record& record : records) record.cells.forget_order();
  shared_cells.coarsen();
}

void forget_shared_accesses() { shared_cells.forget(); }

void forget_buffer_accesses(size_t number, const char* name) {
  if (records.size() <= number) records.resize(number + 1);
  records[number].cells.coarsen();
  records[number].traffic = &traffic[name];
}

Traffic traffic_of(const std::string& argument) {
  Traffic sum;
  for (const auto& [name, moved] : traffic) {
    if (!argument.empty() && argument != name) continue;
    sum.read += moved.read;
    sum.written += moved.written;
    sum.fetched += moved.fetched;
  }
  return sum;
}

void check_bounds(const void* address, size_t bytes, bool is_write, Site site) {
  const char* p = static_cast<const char*>(address);
  const SharedPlace shared = find_shared(p, bytes);
  if (shared.inside ? !shared.allocated : is_device_memory(p) && !is_inside(find_buffer(p), p, bytes)) report_outside(p, bytes, is_write, site);
}

void note_access(const void* address, size_t bytes, bool is_write, Site site) {
  const char* p = static_cast<const char*>(address);
  const SharedPlace shared = find_shared(p, bytes);
  if (shared.inside) {
    if (!shared.allocated) report_outside(p, bytes, is_write, site);
    const auto place = [&] { return kdl::join("shared memory at offset ", shared.offset); };
    if (is_in_flight(shared.offset, bytes))
      fail(kdl::join("race: ", is_write ? "write" : "read", " at ", source_line(site), ": ", place(), ", which a cp.async is still writing"));
    check(shared_cells, shared.offset, bytes, is_write, false, shared_base(), place, site);
    return;
  }
  if (!is_device_memory(p)) return;  // a local variable, a parameter or a constant
  const Buffer* buffer = find_buffer(p);
  if (!is_inside(buffer, p, bytes)) report_outside(p, bytes, is_write, site);
  const size_t offset = static_cast<size_t>(p - buffer->begin);
  const auto place = [&] { return kdl::join("byte ", offset, " of ", buffer->name); };
  Record& record = records[buffer->number];
  const size_t fresh = check(record.cells, offset, bytes, is_write, buffer->starts_written, buffer->begin, place, site);
  (is_write ? record.traffic->written : record.traffic->read) += static_cast<int64_t>(bytes);
  record.traffic->fetched += static_cast<int64_t>(fresh);
}

}  // namespace simt
