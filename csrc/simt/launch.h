// The launch helper for a host compiler: the kernel is an ordinary function, called once per thread. Included by kdl/launch.h.
#pragma once
#include "simt/engine.h"

namespace kdl {

// An emulated device. It has few multiprocessors, and little shared memory for the kernels that keep rows in it, so that small test shapes
// already take every path that a launcher chooses by these numbers.
inline Device current_device() { return {4, static_cast<int>(simt::options.capability), 99 << 10}; }
inline int shared_bytes_per_block() { return 16 << 10; }

template <auto kernel, class... Params>
void launch_typed(const Launch& shape, void (*)(Params...), typename Type<Params>::type... arguments) {
  if (explanation()) return explain_launch(shape, __PRETTY_FUNCTION__);
  const bool is_plain = shape.cluster.x * shape.cluster.y * shape.cluster.z == 1 && !shape.cooperative;
  expect(is_plain, "simt emulates neither clusters nor cooperative launches");
  simt::run(kernel_name(__PRETTY_FUNCTION__), {shape.blocks, shape.threads, shape.shared_bytes}, [&] { kernel(arguments...); });
}

}  // namespace kdl
