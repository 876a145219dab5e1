// The ASan build: what the sanitizer's library finds becomes a report of the engine. Its callback runs inside the library and must return, so
// the finding waits for the next moment at which the engine has control; until then the thread goes on, as if the access had been allowed.
#include <sanitizer/asan_interface.h>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/engine.h"

namespace simt {
namespace {

struct Finding {
  bool is_pending;
  const char* description;  // "stack-buffer-overflow"
  const void *address, *site;
  size_t bytes;
  bool is_write;
};

Finding found{};

void remember(const char*) {
  if (!current || found.is_pending) return;
  found = {true, __asan_get_report_description(), __asan_get_report_address(), __asan_get_report_pc(), __asan_get_report_access_size(),
           __asan_get_report_access_type() != 0};
}

const bool is_installed = (__asan_set_error_report_callback(remember), true);

}  // namespace

void report_pending_finding() {
  if (!found.is_pending) return;
  found.is_pending = false;
  check_bounds(found.address, found.bytes, found.is_write, found.site);
  fail(kdl::join(found.description, ": ", found.is_write ? "write" : "read", " of ", found.bytes, " bytes at ", source_line(found.site)));
}

}  // namespace simt
