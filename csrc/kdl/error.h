// The two exceptions that leave a launcher, and the check that raises the first. bind.cpp puts the op's name in front of the message.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace kdl {

struct ArgumentError : std::runtime_error {  // the caller's arguments break a relation the kernel relies on: Python's ValueError
  using std::runtime_error::runtime_error;
};

struct DeviceError : std::runtime_error {  // the device or the runtime failed: Python's RuntimeError
  using std::runtime_error::runtime_error;
};

template <class... Parts> std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// expect(relation, "x and y must share one shape, got x ", x, ", y ", y): the message is only built on failure.
template <class... Parts> void expect(bool relation, const Parts&... parts) {
  if (!relation) throw ArgumentError(join(parts...));
}

}  // namespace kdl
