// (N, C, H, W) arrays, contiguous or channels-last: where an element lies, and which element a flat index in memory order is.
#pragma once
#include "kdl/array.h"
#include "kdl/divide.h"
#include "kdl/error.h"

namespace kdl {

// A flat index as (outer, middle, inner).
struct Split3 {
  Divider middle, inner;

  Split3(int64_t middle, int64_t inner) : middle(middle), inner(inner) {}

  KDL_FN void operator()(int64_t index, int* o, int* m, int* i) const {
    const int64_t rest = inner.quotient(index), first = middle.quotient(rest);
    *i = static_cast<int>(index - rest * inner.divisor);
    *m = static_cast<int>(rest - first * middle.divisor);
    *o = static_cast<int>(first);
  }
};

// Strides in elements.
struct ImageStrides {
  int64_t n, c, h, w;

  explicit ImageStrides(const Array& a) : n(a.strides[0]), c(a.strides[1]), h(a.strides[2]), w(a.strides[3]) {}

  KDL_FN int64_t at(int in, int ic, int ih, int iw) const { return in * n + ic * c + ih * h + iw * w; }
};

inline bool is_channels_last(const Array& a) {
  int64_t expected = 1;
  for (int d : {1, 3, 2, 0}) {
    if (a.shape[d] != 1 && a.strides[d] != expected) return false;
    expected *= a.shape[d];
  }
  return true;
}

// Whether kernels should treat these arrays as channels-last; raises where some are contiguous and others channels-last.
inline bool expect_images(std::initializer_list<const Array*> arrays) {
  bool contiguous = true, last = true;
  for (const Array* a : arrays) {
    expect(a->ndim == 4, "expected arrays (N, C, H, W), got ", *a);
    contiguous = contiguous && a->is_contiguous();
    last = last && is_channels_last(*a);
  }
  expect(contiguous || last, "expected all arrays contiguous or all channels-last, got ", **arrays.begin());
  return !contiguous;
}

// The order of an array's elements in memory: flat index -> (n, c, h, w).
struct ImageOrder {
  Split3 places;
  Divider channels;
  bool channels_last;

  ImageOrder(const Array& a, bool channels_last)
      : places(a.shape[2], a.shape[3]), channels(a.shape[1]), channels_last(channels_last) {}

  KDL_FN void place(int64_t index, int* n, int* c, int* h, int* w) const {
    if (channels_last) {
      const int64_t pixel = channels.quotient(index);
      *c = static_cast<int>(index - pixel * channels.divisor);
      places(pixel, n, h, w);
    } else {
      int plane;
      places(index, &plane, h, w);
      *n = static_cast<int>(channels.quotient(plane));
      *c = static_cast<int>(plane - *n * channels.divisor);
    }
  }
};

}  // namespace kdl
