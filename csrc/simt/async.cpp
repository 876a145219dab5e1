// cp.async: copies that are issued now and arrive later. How much later the scheduling option decides: at the last moment in the forward
// order, at once in the reverse order, at one of the two in the random one. A kernel must be right with all of them.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/memory.h"
#include "simt/ptx.h"
#include "simt/state.h"

namespace simt {
namespace {

std::vector<bool> in_flight;  // by shared memory's groups of four bytes
bool any_in_flight = false;

void set_in_flight(const AsyncCopy& copy, bool state) {
  const auto first = in_flight.begin() + (copy.destination - shared_base()) / 4;
  std::fill(first, first + copy.bytes / 4, state);
}

bool arrives_at_once() {
  return options.order == Order::reverse || (options.order == Order::random && random_below(2) == 0);
}

void arrive(const AsyncCopy& copy) {
  std::memcpy(copy.destination, copy.source, static_cast<size_t>(copy.source_bytes));
  std::memset(copy.destination + copy.source_bytes, 0, static_cast<size_t>(copy.bytes - copy.source_bytes));
}

void check_copy(const AsyncCopy& copy, Where where) {
  const auto misaligned = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(copy.bytes) != 0; };
  const auto refuse = [&](const auto&... why) { fail(kdl::join("cp.async of ", copy.bytes, " bytes at ", describe(where), ": ", why...)); };
  if (misaligned(copy.destination) || misaligned(copy.source)) refuse("misaligned ", misaligned(copy.destination) ? "destination" : "source");
  if (copy.source_bytes < 0 || copy.source_bytes > copy.bytes) refuse(copy.source_bytes, " source bytes");
  const SharedPlace place = find_shared(copy.destination, static_cast<size_t>(copy.bytes));
  if (!place.allocated) refuse("the destination lies outside the shared memory that the kernel asked for");
  if (is_in_flight(place.offset, static_cast<size_t>(copy.bytes)))
    refuse("race: another one is still writing shared memory at offset ", place.offset);
  if (copy.source_bytes == 0 || !is_device_memory(copy.source)) return;
  const Buffer* buffer = find_buffer(copy.source);
  if (!buffer || copy.source + copy.source_bytes > buffer->begin + buffer->bytes)
    refuse("out of bounds: reads past ", buffer ? buffer->name : "every array");
}

}  // namespace

bool is_in_flight(size_t offset, size_t bytes) {
  if (!any_in_flight) return false;
  const auto first = in_flight.begin() + static_cast<ptrdiff_t>(offset / 4), last = in_flight.begin() + static_cast<ptrdiff_t>((offset + bytes + 3) / 4);
  return std::find(first, last, true) != last;
}

void forget_copies() {
  if (any_in_flight) in_flight.assign(in_flight.size(), false);
  any_in_flight = false;
}

void cp_async(void* destination, const void* source, int bytes, int source_bytes, Where where) {
  Thread& thread = self();
  const AsyncCopy copy{static_cast<char*>(destination), static_cast<const char*>(source), bytes, source_bytes, thread.copy_groups, false, where};
  check_copy(copy, where);
  if (watches_accesses) {
    if (source_bytes > 0) note_access(source, static_cast<size_t>(source_bytes), false, where);
    note_access(destination, static_cast<size_t>(bytes), true, where);
  }
  if (!any_in_flight) in_flight.resize(shared_capacity() / 4);
  any_in_flight = true;
  set_in_flight(copy, true);
  thread.copies.push_back(copy);
  thread.copies.back().arrived = arrives_at_once();
  if (thread.copies.back().arrived) arrive(copy);
  else std::memset(destination, 0xff, static_cast<size_t>(bytes));
}

void cp_async_commit_group() { ++self().copy_groups; }

void cp_async_wait_group(int pending) {
  Thread& thread = self();
  const auto is_waited_for = [&](const AsyncCopy& copy) { return copy.group + static_cast<uint32_t>(pending) < thread.copy_groups; };
  for (const AsyncCopy& copy : thread.copies) {
    if (!is_waited_for(copy)) continue;
    if (!copy.arrived) arrive(copy);
    set_in_flight(copy, false);
    if (watches_accesses) note_access(copy.destination, static_cast<size_t>(copy.bytes), true, copy.where);
  }
  thread.copies.erase(std::remove_if(thread.copies.begin(), thread.copies.end(), is_waited_for), thread.copies.end());
}

void check_no_copy_is_under_way(const Thread& leaving) {
  if (leaving.copies.empty()) return;
  fail(kdl::join("a thread returns with ", leaving.copies.size(), " cp.async under way, the first from ", describe(leaving.copies[0].where)));
}

}  // namespace simt
