// Elements of arrays with any strides, broadcast to one shape: from a flat number to an offset in each array.
//
//   Strided<2> walk({&x, &y}, y);   ...   int64_t at[2]; walk.offsets(i, at);
#pragma once
#include <algorithm>
#include <cstdlib>

#include "kdl/array.h"
#include "kdl/device.h"
#include "kdl/divide.h"
#include "kdl/error.h"

namespace kdl {

template <int arrays> struct Strided {
  int rank = 0;
  int64_t size = 1;
  Divider lengths[Array::max_rank];
  int64_t strides[Array::max_rank][arrays];

  // The first array's strides decide the order: the flat number runs along its memory. An array that is nullptr has strides of 0.
  Strided(const Array* const (&operands)[arrays], const Array& shape) {
    int order[Array::max_rank];
    for (int d = 0; d < shape.ndim; ++d) order[d] = d;
    const Array& leading = *operands[0];
    std::stable_sort(order, order + shape.ndim, [&](int a, int b) { return std::abs(leading.strides[a]) > std::abs(leading.strides[b]); });
    for (int i = 0; i < shape.ndim; ++i) {
      int64_t step[arrays];
      for (int a = 0; a < arrays; ++a) step[a] = operands[a] ? stride_of(*operands[a], shape, order[i]) : 0;
      append(shape.shape[order[i]], step);
    }
  }

  // Over some dimensions of one array: those where wanted(d) holds.
  template <class Wanted> Strided(const Array* const (&operands)[arrays], const Array& shape, Wanted wanted) {
    for (int d = 0; d < shape.ndim; ++d) {
      if (!wanted(d)) continue;
      int64_t step[arrays];
      for (int a = 0; a < arrays; ++a) step[a] = operands[a]->strides[d];
      append(shape.shape[d], step);
    }
  }

  KDL_FN void offsets(int64_t i, int64_t (&at)[arrays]) const {
#pragma unroll
    for (int a = 0; a < arrays; ++a) at[a] = 0;
#pragma unroll 1
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t outer = d > 0 ? lengths[d].quotient(i) : 0, here = i - outer * lengths[d].divisor;
#pragma unroll
      for (int a = 0; a < arrays; ++a) at[a] += here * strides[d][a];
      i = outer;
    }
  }

  int64_t inner_stride(int a) const { return rank > 0 ? strides[rank - 1][a] : 0; }

  // Treats `factor` neighbours as one element, where can_widen says so.
  void widen(int64_t factor) {
    size /= factor;
    if (rank == 0) return;
    lengths[rank - 1] = Divider(lengths[rank - 1].divisor / factor);
    for (int d = 0; d + 1 < rank; ++d)
      for (int64_t& step : strides[d]) step /= factor;
  }
  bool can_widen(int64_t factor) const {
    if (rank == 0 || lengths[rank - 1].divisor % factor != 0) return false;
    for (int a = 0; a < arrays; ++a) {
      if (strides[rank - 1][a] != 1) return false;
      for (int d = 0; d + 1 < rank; ++d)
        if (strides[d][a] % factor != 0) return false;
    }
    return true;
  }

 private:
  static int64_t stride_of(const Array& array, const Array& shape, int d) {
    const int own = d - (shape.ndim - array.ndim);
    expect(array.ndim <= shape.ndim && (own < 0 || array.shape[own] == 1 || array.shape[own] == shape.shape[d]),
           "shapes must broadcast to the output's, got ", array, " and ", shape);
    return own < 0 || array.shape[own] == 1 ? 0 : array.strides[own];
  }

  // One more dimension, inside all before; it becomes part of the last one where every array passes from one to the other without a gap.
  void append(int64_t length, const int64_t (&step)[arrays]) {
    size *= length;
    if (length == 1) return;
    bool joins = rank > 0;
    for (int a = 0; joins && a < arrays; ++a) joins = strides[rank - 1][a] == step[a] * length;
    if (joins) lengths[rank - 1] = Divider(lengths[rank - 1].divisor * length);
    else lengths[rank++] = Divider(length);
    for (int a = 0; a < arrays; ++a) strides[rank - 1][a] = step[a];
  }
};

}  // namespace kdl
