// The operands of conv.cu's products, gathered on their way from memory to shared memory: pixels under windows, windows under pixels, weights.
#pragma once
#include <climits>

#include "kdl/image.h"
#include "kdl/tile.h"

namespace kdl::conv {

// One axis of a walk over windows: the window of position i covers i * step + start + tap * reach, for tap = 0, 1, ...
struct Axis {
  int step, start, reach, extent;  // coordinates outside [0, extent) read as zero

  KDL_FN int origin(int i) const { return i * step + start; }
  KDL_FN bool inside(int coordinate) const { return static_cast<unsigned>(coordinate) < static_cast<unsigned>(extent); }
};

// Everything about the windowed operand of a product: `pixels` splits into (image, i, j), `taps` into (channel, r, s), or (r, s, channel)
// where the channels lie last.
struct Windows {
  ImageStrides at;
  Axis h, w;
  Split3 pixels, taps;
  int pixel_count, tap_count;
  bool channels_last, vectors;

  KDL_FN void split_tap(int k, int* c, int* r, int* s) const {
    if (channels_last) taps(k, r, s, c);
    else taps(k, c, r, s);
  }
};

// x runs over pixels, k over taps: an image gathered on its way to shared memory. Neighbours are pixels, or channels where these lie last.
template <class T, int BX, int BK, int threads> struct PixelCopy {
  using Place = TilePlace<BX, BK, threads>;
  using Neighbours = Vector<T, Place::width>;

  const Windows& windows;
  const T* image;
  Place place;
  int64_t image_at[Place::width];
  int h[Place::width], w[Place::width];
  Neighbours held;

  KDL_FN PixelCopy(const Windows& windows, const T* image, int x0) : windows(windows), image(image), place(windows.channels_last) {
#pragma unroll
    for (int i = 0; i < Place::width; ++i) {
      const int pixel = x0 + place.x + (windows.channels_last ? 0 : i);
      int n, row, column;
      windows.pixels(pixel < windows.pixel_count ? pixel : 0, &n, &row, &column);
      image_at[i] = n * windows.at.n;
      h[i] = pixel < windows.pixel_count ? windows.h.origin(row) : INT_MIN / 2;  // outside the image with every tap
      w[i] = windows.w.origin(column);
    }
  }

  KDL_FN void load(int k0) {
    const int k = k0 + place.k;
    int c, r, s;
    windows.split_tap(k < windows.tap_count ? k : 0, &c, &r, &s);
    if (windows.channels_last && windows.vectors) {
      const int64_t at = address(0, c, r, s, k);
      if (at >= 0) held = *reinterpret_cast<const Neighbours*>(image + at);
      else held = Neighbours{};
      return;
    }
#pragma unroll
    for (int i = 0; i < Place::width; ++i) {
      if (windows.channels_last && i > 0) windows.split_tap(k + i < windows.tap_count ? k + i : 0, &c, &r, &s);
      const int64_t at = address(i, c, r, s, windows.channels_last ? k + i : k);
      held.item[i] = at >= 0 ? image[at] : from_compute<T>(0);
    }
  }

  // Where neighbour i's tap lies, or -1 where it is outside the image.
  KDL_FN int64_t address(int i, int c, int r, int s, int k) const {
    const int row = h[i] + r * windows.h.reach, column = w[i] + s * windows.w.reach;
    if (k >= windows.tap_count || !windows.h.inside(row) || !windows.w.inside(column)) return -1;
    return image_at[i] + c * windows.at.c + row * windows.at.h + column * windows.at.w;
  }

  template <class A, int pitch> KDL_FN void store(A (*tile)[pitch]) const { place.store(tile, held.item); }
};

// x runs over taps, k over pixels: the same operand the other way round, for the gradient of the weight.
template <class T, int BX, int BK, int threads, bool channels_last> struct TapCopy {
  using Place = TilePlace<BX, BK, threads>;

  const Windows& windows;
  const T* image;
  Place place;
  int c[Place::width], r[Place::width], s[Place::width];
  bool inside[Place::width];
  T held[Place::width];

  KDL_FN TapCopy(const Windows& windows, const T* image, int x0) : windows(windows), image(image), place(!channels_last) {
#pragma unroll
    for (int i = 0; i < Place::width; ++i) {
      const int tap = x0 + place.x + (channels_last ? i : 0);
      inside[i] = tap < windows.tap_count;
      windows.split_tap(inside[i] ? tap : 0, &c[i], &r[i], &s[i]);
    }
  }

  KDL_FN void load(int k0) {
    int n = 0, row = 0, column = 0;
#pragma unroll
    for (int i = 0; i < Place::width; ++i) {
      const int pixel = k0 + place.k + (channels_last ? 0 : i), tap = channels_last ? i : 0;
      if (i == 0 || !channels_last) windows.pixels(pixel < windows.pixel_count ? pixel : 0, &n, &row, &column);
      const int h = windows.h.origin(row) + r[tap] * windows.h.reach, w = windows.w.origin(column) + s[tap] * windows.w.reach;
      const bool valid = inside[tap] && pixel < windows.pixel_count && windows.h.inside(h) && windows.w.inside(w);
      held[i] = valid ? image[n * windows.at.n + c[tap] * windows.at.c + h * windows.at.h + w * windows.at.w] : from_compute<T>(0);
    }
  }

  template <class A, int pitch> KDL_FN void store(A (*tile)[pitch]) const { place.store(tile, held); }
};

// x runs over filters (or channels), k over taps: the weight. `contiguous` says that the taps lie in memory in the order of k.
struct WeightView {
  int64_t stride_x, outer, middle, inner;
  Split3 taps;
  int X, tap_count;
  bool contiguous;
};

template <class T, int BX, int BK, int threads> struct WeightCopy {
  using Place = TilePlace<BX, BK, threads>;

  const WeightView& view;
  const T* weight;
  int x0;
  Place place;
  T held[Place::width];

  KDL_FN WeightCopy(const WeightView& view, const T* weight, int x0) : view(view), weight(weight), x0(x0), place(view.contiguous) {}

  KDL_FN void load(int k0) {
#pragma unroll
    for (int i = 0; i < Place::width; ++i) {
      const int x = x0 + place.x + (place.along_k ? 0 : i), k = k0 + place.k + (place.along_k ? i : 0);
      if (x >= view.X || k >= view.tap_count) {
        held[i] = from_compute<T>(0);
        continue;
      }
      int64_t at = x * view.stride_x;
      if (view.contiguous) {
        at += k;
      } else {
        int o, m, in;
        view.taps(k, &o, &m, &in);
        at += o * view.outer + m * view.middle + in * view.inner;
      }
      held[i] = weight[at];
    }
  }

  template <class A, int pitch> KDL_FN void store(A (*tile)[pitch]) const { place.store(tile, held); }
};

}  // namespace kdl::conv
