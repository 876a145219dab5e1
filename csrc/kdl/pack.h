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

// The first `count` items, the others `fill`: one instruction where that is a whole pack at an aligned address, single loads otherwise.
template <class T> KDL_FN Pack<T> load_some(const T* address, int count, T fill = T(0)) {
  if (count == pack_width<T> && reinterpret_cast<uintptr_t>(address) % 16 == 0) return load_pack(address);
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i) pack.item[i] = i < count ? address[i] : fill;
  return pack;
}

template <class T> KDL_FN void store_some(T* address, const Pack<T>& pack, int count) {
  if (count == pack_width<T> && reinterpret_cast<uintptr_t>(address) % 16 == 0) return store_pack(address, pack);
#pragma unroll
  for (int i = 0; i < pack_width<T>; ++i)
    if (i < count) address[i] = pack.item[i];
}

// A pack as its lower and its upper half, which can change places: a loop over the halves needs no index into registers.
template <class T> struct Halves {
  struct alignas(8) Half {
    T item[pack_width<T> / 2];
  };
  Half low, high;

  KDL_FN Halves(const Pack<T>& pack) { memcpy(this, &pack, sizeof(pack)); }

  KDL_FN Pack<T> pack() const {
    Pack<T> result;
    memcpy(&result, this, sizeof(result));
    return result;
  }
  KDL_FN void swap() {
    const Half was_low = low;
    low = high;
    high = was_low;
  }
};

struct Chunk {
  int begin, count;
};

// A stretch of consecutive elements in chunks of at most a pack: what lies before the first 16-byte boundary, whole packs, what is left.
template <class T> struct Chunks {
  int length, offset, count;

  KDL_FN Chunks(const T* first, int length) : length(length) {
    offset = -static_cast<int>(reinterpret_cast<uintptr_t>(first) % 16 / sizeof(T));
    count = (length - offset + pack_width<T> - 1) / pack_width<T>;
  }

  KDL_FN Chunk operator[](int i) const {
    const int low = offset + i * pack_width<T>, high = low + pack_width<T>, begin = low > 0 ? low : 0;
    return {begin, (high < length ? high : length) - begin};
  }
};

// body(i, loaded) for i = first, first + step, ... below end, where loaded = load(i) was requested before the body of the i before ran.
template <class Index, class Load, class Body> KDL_FN void for_loaded(Index first, Index end, Index step, Load load, Body body) {
  if (first >= end) return;
  auto loaded = load(first);
#pragma unroll 1
  for (Index i = first; i < end; i += step) {
    auto next = loaded;
    if (i + step < end) next = load(i + step);
    body(i, loaded);
    loaded = next;
  }
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
