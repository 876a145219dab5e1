// The simt flavour's answers to the bindings, and the way of a call: arguments into emulated device memory, the kernels, and back.
#include "kdl/backend.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/engine.h"
#include "simt/memory.h"

namespace kdl {
namespace {

// The stretch of host memory that an array's elements span, and its place on the emulated device.
struct Stretch {
  char *begin, *end;
  const char* name;
  int64_t item;
  simt::Buffer buffer;
};

Stretch stretch_of(const Array& array, const char* name) {
  const int64_t item = dtype_bytes[static_cast<int>(array.dtype)];
  char *begin = array.as<char>(), *end = begin;
  if (array.size() == 0) return {begin, end, name, item, {}};
  for (int d = 0; d < array.ndim; ++d) {
    const int64_t reach = (array.shape[d] - 1) * array.strides[d] * item;
    (reach < 0 ? begin : end) += reach;
  }
  return {begin, end + item, name, item, {}};
}

// Arrays that overlap in host memory must overlap in the same way on the device.
std::vector<Stretch> merge_overlaps(std::vector<Stretch> stretches) {
  std::sort(stretches.begin(), stretches.end(), [](const Stretch& a, const Stretch& b) { return a.begin < b.begin; });
  std::vector<Stretch> merged;
  for (const Stretch& stretch : stretches) {
    if (!merged.empty() && stretch.begin < merged.back().end) merged.back().end = std::max(merged.back().end, stretch.end);
    else merged.push_back(stretch);
  }
  return merged;
}

struct FreeAll {
  ~FreeAll() { simt::free_all(); }
};

std::mutex one_call_at_a_time;

}  // namespace

void run(const Export& op, Value* values) {
  const std::lock_guard<std::mutex> lock(one_call_at_a_time);
  if (simt::options.last_block) return op.call(values);
  const FreeAll cleanup;

  std::vector<Array*> arrays;
  std::vector<Stretch> stretches;
  const auto add = [&](Array& array, const char* name) {
    arrays.push_back(&array);
    stretches.push_back(stretch_of(array, name));
  };
  for (size_t i = 0; i < op.kinds.size(); ++i) {
    const bool may_be_absent = op.kinds[i] == Kind::optional_array || op.kinds[i] == Kind::operand;
    if (op.kinds[i] == Kind::array || (may_be_absent && values[i].present)) add(values[i].array, op.arguments[i]);
    for (Array& array : values[i].arrays) add(array, op.arguments[i]);
  }
  stretches = merge_overlaps(std::move(stretches));
  for (Stretch& stretch : stretches) {
    const size_t bytes = static_cast<size_t>(stretch.end - stretch.begin);
    const size_t shift = static_cast<size_t>(simt::options.offset * stretch.item);
    stretch.buffer = simt::allocate(stretch.name, bytes, (reinterpret_cast<uintptr_t>(stretch.begin) + shift) % 256, true);
    std::memcpy(stretch.buffer.begin, stretch.begin, bytes);
  }
  for (Array* array : arrays)
    for (const Stretch& stretch : stretches)
      if (array->data >= stretch.begin && array->data < stretch.end) {
        array->data = stretch.buffer.begin + (array->as<char>() - stretch.begin);
        break;
      }

  simt::Buffer workspace{};
  if (op.workspace_bytes) {
    Workspace& given = values[op.visible()].workspace;
    workspace = simt::allocate("workspace", static_cast<size_t>(given.bytes), 0, false);
    given.data = workspace.begin;
  }

  op.call(values);

  if (op.workspace_bytes) simt::check_surroundings(workspace);
  for (const Stretch& stretch : stretches) {
    simt::check_surroundings(stretch.buffer);
    if (std::memcmp(stretch.begin, stretch.buffer.begin, stretch.buffer.bytes))  // leaves an input, which may be read-only, alone
      std::memcpy(stretch.begin, stretch.buffer.begin, stretch.buffer.bytes);
  }
}

int device_count() { return 1; }
std::string compute_capability(int) { return join(simt::options.capability / 10, ".", simt::options.capability % 10); }

void set_option(const std::string& name, int64_t value) {
  if (name == "order" && value >= 0 && value <= 2) simt::options.order = static_cast<simt::Order>(value);
  else if (name == "seed") simt::options.seed = static_cast<uint64_t>(value);
  else if (name == "capability") simt::options.capability = value;
  else if (name == "shared_skew") simt::options.shared_skew = static_cast<uint32_t>(value);
  else if (name == "offset") simt::options.offset = static_cast<uint32_t>(value);
  else if (name == "patience") simt::options.patience = static_cast<int>(value);
  else if (name == "last_block") simt::options.last_block = value != 0;
  else throw ArgumentError(join("no option ", name, " with value ", value));
}

int64_t counter(const std::string& name) {
  const size_t space = name.find(' ');  // "bytes_read", or "bytes_read x" for one argument's arrays
  const simt::Traffic moved = simt::traffic_of(space == std::string::npos ? "" : name.substr(space + 1));
  const std::string what = name.substr(0, space);
  if (what == "bytes_read") return moved.read;
  if (what == "bytes_written") return moved.written;
  if (what == "bytes_fetched") return moved.fetched;
  throw ArgumentError(join("no counter ", name));
}

}  // namespace kdl
