// The launch helper for a host compiler: the kernel is an ordinary function, called once per thread. Included by kdl/launch.h.
#pragma once
#include "simt/engine.h"

namespace kdl {

// Little of both, so that small test shapes already take every path that a launcher chooses by these numbers.
inline int multiprocessors() { return 4; }
inline int shared_bytes_per_block() { return 16 * 1024; }

template <auto kernel, class... Params>
void launch_typed(const Launch& shape, void (*)(Params...), typename Type<Params>::type... arguments) {
  const bool is_plain = shape.cluster.x * shape.cluster.y * shape.cluster.z == 1 && !shape.cooperative;
  expect(is_plain, "simt emulates neither clusters nor cooperative launches");
  simt::run(kernel_name(__PRETTY_FUNCTION__), {shape.blocks, shape.threads, shape.shared_bytes}, [&] { kernel(arguments...); });
}

}  // namespace kdl
