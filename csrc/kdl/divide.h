// Division of non-negative 64-bit numbers by a divisor that is fixed for the launch: one multiply-high and two shifts instead of the
// ~100 instructions of a 64-bit division. Exact for every numerator (Granlund and Montgomery 1994, figure 4.1).
#pragma once
#include "kdl/device.h"

namespace kdl {

struct Divider {
  int64_t divisor;
  uint64_t magic;
  int shift1, shift2;

  explicit Divider(int64_t number = 1) : divisor(number > 0 ? number : 1) {  // an empty array has nothing to divide
    const uint64_t d = static_cast<uint64_t>(divisor);
    int log2_up = 0;
    while (log2_up < 63 && (uint64_t{1} << log2_up) < d) ++log2_up;
    const unsigned __int128 excess = (uint64_t{1} << log2_up) - d;
    magic = static_cast<uint64_t>((excess << 64) / d) + 1;
    shift1 = log2_up < 1 ? log2_up : 1;
    shift2 = log2_up < 1 ? 0 : log2_up - 1;
  }

  KDL_FN int64_t quotient(int64_t numerator) const {
    const uint64_t n = static_cast<uint64_t>(numerator), high = __umul64hi(magic, n);
    return static_cast<int64_t>((high + ((n - high) >> shift1)) >> shift2);
  }
};

// The same for numbers below 2^31.
struct Divider32 {
  uint32_t divisor, magic;
  int shift1, shift2;

  explicit Divider32(int64_t number) : divisor(number > 0 ? static_cast<uint32_t>(number) : 1) {
    int log2_up = 0;
    while ((uint64_t{1} << log2_up) < divisor) ++log2_up;
    magic = static_cast<uint32_t>((((uint64_t{1} << log2_up) - divisor) << 32) / divisor + 1);
    shift1 = log2_up < 1 ? log2_up : 1;
    shift2 = log2_up < 1 ? 0 : log2_up - 1;
  }

  KDL_FN int quotient(int numerator) const {
    const uint32_t n = static_cast<uint32_t>(numerator), high = static_cast<uint32_t>((static_cast<uint64_t>(magic) * n) >> 32);
    return static_cast<int>((high + ((n - high) >> shift1)) >> shift2);
  }
};

}  // namespace kdl
