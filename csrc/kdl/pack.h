// Sixteen bytes of consecutive elements: the widest load and store a thread has, visible as such in the kernel.
#pragma once
#include <cstring>
#include <initializer_list>

#include "kdl/device.h"

namespace kdl {

template <class T> inline constexpr int pack_width = 16 / sizeof(T);

template <class T> struct alignas(16) Pack {
  T item[pack_width<T>];
};

// The address must be 16-byte aligned. Through uint4, so that it is one instruction whatever T's constructors are.
template <class T> KDL_FN Pack<T> load_pack(const T* address) {
  const uint4 bits = *reinterpret_cast<const uint4*>(address);
  Pack<T> pack;
  memcpy(&pack, &bits, sizeof(pack));
  return pack;
}

template <class T> KDL_FN void store_pack(T* address, const Pack<T>& pack) {
  uint4 bits;
  memcpy(&bits, &pack, sizeof(bits));
  *reinterpret_cast<uint4*>(address) = bits;
}

// Single elements before the first pack. One count must serve all addresses: where they disagree about alignment it is n, all of them.
template <class T> int64_t pack_head(int64_t n, std::initializer_list<const void*> addresses) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(*addresses.begin()) % 16;
  for (const void* address : addresses)
    if (reinterpret_cast<uintptr_t>(address) % 16 != offset) return n;
  const int64_t head = offset == 0 ? 0 : static_cast<int64_t>((16 - offset) / sizeof(T));
  return head < n ? head : n;
}

inline bool is_pack_aligned(std::initializer_list<const void*> addresses) {
  for (const void* address : addresses)
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
  return true;
}

}  // namespace kdl
