// One axis of a pooling: which inputs an output's window has, and which outputs' windows an input is in. For pool.cu.
#pragma once
#include "kdl/divide.h"

namespace kdl::pool {

// The taps of one window along one axis that lie inside the input: coordinates first + i * step for i < count, taps first_tap + i.
struct Span {
  int first, step, count, first_tap;
};

// The outputs whose window a coordinate may be in: last, last - 1, ...
struct Outputs {
  int last, count;
};

// One axis. Adaptive, the window of output o is floor(o size / out) .. ceil((o + 1) size / out).
struct Axis {
  int size, out, kernel, stride, padding, dilation;
  bool adaptive;
  Divider by_out, by_size;
  Divider32 by_stride, by_dilation;

  KDL_FN int start(int o) const { return static_cast<int>(by_out.quotient(static_cast<int64_t>(o) * size)); }
  KDL_FN int end(int o) const { return static_cast<int>(by_out.quotient(static_cast<int64_t>(o + 1) * size + out - 1)); }

  KDL_FN Span window(int o) const {
    if (adaptive) return {start(o), 1, end(o) - start(o), 0};
    const int at = o * stride - padding;
    const int first_tap = at < 0 ? static_cast<int>(by_dilation.quotient(dilation - 1 - at)) : 0;
    const int inside = size > at ? static_cast<int>(by_dilation.quotient(size - at + dilation - 1)) : 0, last = inside < kernel ? inside : kernel;
    return {at + first_tap * dilation, dilation, last > first_tap ? last - first_tap : 0, first_tap};
  }

  // Elements that an average divides by along this axis; what hangs over the padding's end in ceil_mode never counts.
  KDL_FN int area(int o, bool count_padding) const {
    if (adaptive) return window(o).count;
    const int from = o * stride - padding, to = from + kernel < size + padding ? from + kernel : size + padding;
    if (count_padding) return to - from;
    return (to < size ? to : size) - (from > 0 ? from : 0);
  }

  KDL_FN Outputs outputs(int coordinate) const {
    if (adaptive) {
      const int first = static_cast<int>(by_size.quotient(static_cast<int64_t>(coordinate) * out));
      const int last = static_cast<int>(by_size.quotient(static_cast<int64_t>(coordinate + 1) * out + size - 1)) - 1;
      return {last, last - first + 1};
    }
    const int at = coordinate + padding, before = at - (kernel - 1) * dilation;
    const int first = before > 0 ? static_cast<int>(by_stride.quotient(before + stride - 1)) : 0;
    const int last = static_cast<int>(by_stride.quotient(at));
    const int reachable = last < out ? last : out - 1;
    return {reachable, reachable >= first ? reachable - first + 1 : 0};
  }

  // The tap by which the window of output o has the coordinate, -1 where it steps over it.
  KDL_FN int tap(int coordinate, int o) const {
    if (adaptive) return 0;  // its windows have no taps: places are positions
    const int distance = coordinate + padding - o * stride;
    if (dilation == 1) return distance;
    const int tap = static_cast<int>(by_dilation.quotient(distance));
    return tap * dilation == distance ? tap : -1;
  }
};

// How a maximum's place is written down: as the tap r * S + s, or, adaptive, as the flat position in the plane.
struct Code {
  int pitch, outside;
  bool by_position;

  KDL_FN int at(int r, int s, int h, int w) const { return by_position ? h * pitch + w : r * pitch + s; }
};

}  // namespace kdl::pool
