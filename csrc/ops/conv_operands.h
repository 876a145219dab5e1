// The operands and the output of conv.cu's products: where element (x, k) of an image under windows lies, of a weight, of a result.
#pragma once
#include <climits>

#include "kdl/image.h"
#include "kdl/tile.h"

namespace kdl::conv {

// Where an index of a product lies: a part of an address, and of a row and a column of the image, which decide whether there is anything.
struct Place {
  int64_t offset;
  int h, w;
};

// What an index of a product counts: three numbers, of which one walks over rows, one over columns, and one over images, channels or filters.
struct Walk {
  int count;
  Divider32 middle, inner;
  bool other_is_inner;  // (row, column, other), else (other, row, column)
  int64_t other_stride, h_stride, w_stride, start;
  int h_step, h_start, w_step, w_start;

  KDL_FN Place place(int index) const {
    if (index >= count) return {0, INT_MIN / 2, 0};
    const int rest = inner.quotient(index), first = middle.quotient(rest);
    const int last = index - rest * static_cast<int>(inner.divisor), second = rest - first * static_cast<int>(middle.divisor);
    const int h = other_is_inner ? first : second, w = other_is_inner ? second : last, other = other_is_inner ? last : first;
    return {start + other * other_stride + h * h_stride + w * w_stride, h_start + h * h_step, w_start + w * w_step};
  }
};

// The sum of a place along x and one along k is an element, if it lies in an image of H x W.
template <class T> struct WalkOperand {
  using Place = conv::Place;
  static constexpr bool places_are_dear = true;

  const T* data;
  Walk x, k;
  int64_t batch;  // from one group to the next
  int H, W;
  int vector;    // so many neighbours lie side by side at an aligned address and are all there or not, in groups counted from 0
  bool along_k;  // they are neighbours along k

  KDL_FN const T* of_batch(int group) const { return data + group * batch; }
  KDL_FN Place x_place(int index) const { return x.place(index); }
  KDL_FN Place k_place(int index) const { return k.place(index); }
  KDL_FN int left(int index_x, int index_k) const { return along_k ? k.count - index_k : x.count - index_x; }
  KDL_FN const T* address(const T* image, const Place& px, const Place& pk) const {
    const bool inside = static_cast<unsigned>(px.h + pk.h) < static_cast<unsigned>(H) && static_cast<unsigned>(px.w + pk.w) < static_cast<unsigned>(W);
    return inside ? image + px.offset + pk.offset : nullptr;
  }
};

// A result (row, column), whose places add up, with a bias for each row or each column.
template <class T> struct WalkOutput {
  T* data;
  Walk rows, columns;
  int64_t batch;
  const T* bias;  // or nullptr
  bool bias_of_rows;
  bool pairs;  // two neighbours of a row may be stored at once

  KDL_FN int64_t row(int group, int m) const { return group * batch + rows.place(m).offset; }
  KDL_FN int64_t column(int n) const { return columns.place(n).offset; }
  KDL_FN compute_t<T> row_bias(int group, int m) const { return bias && bias_of_rows ? to_compute(bias[group * rows.count + m]) : compute_t<T>(0); }
  KDL_FN compute_t<T> column_bias(int group, int n) const {
    return bias && !bias_of_rows ? to_compute(bias[group * columns.count + n]) : compute_t<T>(0);
  }
  KDL_FN T finish(compute_t<T> sum) const { return from_compute<T>(sum); }
};

template <class T> using ConvProduct = Product<T, WalkOperand<T>, WalkOutput<T>>;

// --- on the host ---

// Channels or filters: one number.
inline Walk walk_of_channels(int64_t count, int64_t stride) {
  return {static_cast<int>(count), Divider32(1), Divider32(1), false, stride, 0, 0, 0, 0, 0, 0, 0};
}

// One axis of a walk over windows: the window of position i covers i * step + start + tap * reach, for tap = 0, 1, ...
struct Axis {
  int count, step, start, taps, reach;
};

// Positions (n, i, j) of windows on an image.
inline Walk walk_of_positions(int64_t images, const Axis& h, const Axis& w, const ImageStrides& at) {
  return {static_cast<int>(images * h.count * w.count), Divider32(h.count), Divider32(w.count), false, at.n, h.step * at.h, w.step * at.w,
          h.start * at.h + w.start * at.w, h.step, h.start, w.step, w.start};
}

// Taps (channel, r, s) of a window on an image; (r, s, channel) where channels lie last.
inline Walk walk_of_taps(int64_t channels, const Axis& h, const Axis& w, const ImageStrides& at, bool channels_last) {
  const int64_t inner = channels_last ? channels : w.taps, middle = channels_last ? w.taps : h.taps;
  return {static_cast<int>(channels * h.taps * w.taps), Divider32(middle), Divider32(inner), channels_last, at.c, h.reach * at.h, w.reach * at.w,
          0, h.taps > 1 ? h.reach : 0, 0, w.taps > 1 ? w.reach : 0, 0};  // a single tap moves nothing
}

// The same taps in the weight, `channel_stride` apart for each channel, every h_step-th row and w_step-th column of the filter.
inline Walk walk_of_weights(const Walk& taps, int64_t channel_stride, int64_t h_stride, int64_t w_stride) {
  Walk walk = taps;
  walk.other_stride = channel_stride, walk.h_stride = h_stride, walk.w_stride = w_stride;
  walk.h_step = walk.w_step = 0;
  return walk;
}

// The widest group of neighbours, up to 16 bytes, that always starts at an aligned address and is in the image as a whole or not at all.
template <class T> int vector_of(const WalkOperand<T>& operand) {
  const Walk &along = operand.along_k ? operand.k : operand.x, &across = operand.along_k ? operand.x : operand.k;
  const int64_t inner = along.inner.divisor, plane = inner * along.middle.divisor;
  const bool is_single = !along.other_is_inner && plane == 1;
  const bool in_planes = !along.other_is_inner && !is_single && along.w_stride == 1 && along.h_stride == inner;
  const bool has_no_edge = along.h_step == 0 && along.w_step == 0;
  const bool covers_image = along.h_step == 1 && along.w_step == 1 && along.h_start == 0 && along.w_start == 0 && operand.H * operand.W == plane &&
                            operand.W == inner && across.h_step == 0 && across.w_step == 0;
  for (int width = 16 / static_cast<int>(sizeof(T)); width > 1; width /= 2) {
    const auto fits = [&](int64_t stride) { return stride % width == 0; };
    const bool are_channels = along.other_stride == 1 && (is_single || (along.other_is_inner && fits(inner) && fits(along.h_stride) && fits(along.w_stride)));
    const bool are_positions = in_planes && (has_no_edge || covers_image) && (along.other_stride == plane || (fits(plane) && fits(along.other_stride)));
    if ((are_channels || are_positions) && fits(across.other_stride) && fits(across.h_stride) && fits(across.w_stride) &&
        fits(along.start + across.start) && fits(operand.batch) && reinterpret_cast<uintptr_t>(operand.data) % (width * sizeof(T)) == 0)
      return width;
  }
  return 1;
}

// Whether elements 2 n and 2 n + 1 of every row lie side by side at an address that both fit into.
template <class T> bool stores_pairs(const WalkOutput<T>& out) {
  const Walk &rows = out.rows, &columns = out.columns;
  const auto even = [](int64_t n) { return n % 2 == 0; };
  const bool are_channels = columns.middle.divisor * columns.inner.divisor == 1 && !columns.other_is_inner && columns.other_stride == 1 && even(columns.count);
  const bool are_positions = !columns.other_is_inner && columns.w_stride == 1 && even(columns.inner.divisor) && even(columns.h_stride) && even(columns.other_stride);
  return (are_channels || are_positions) && even(rows.other_stride) && even(rows.h_stride) && even(rows.w_stride) &&
         even(rows.start + columns.start) && even(out.batch) && reinterpret_cast<uintptr_t>(out.data) % (2 * sizeof(T)) == 0;
}

}  // namespace kdl::conv
