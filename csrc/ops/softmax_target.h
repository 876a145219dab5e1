// What a row of logits is summed up to, and what it is compared with. For softmax.cu.
#pragma once
#include "kdl/dispatch.h"
#include "kdl/pack.h"
#include "kdl/reduce.h"

namespace kdl::softmax {

// The largest of some numbers, and the sum of exp(number - largest). NaN never becomes the largest, but always the sum.
template <class A> struct Peak {
  A max = -INFINITY, total = 0;

  // What exponents are taken from: finite even before the first finite number.
  KDL_FN A base() const { return max == -INFINITY ? A(0) : max; }

  KDL_FN void add(A v) {
    const A e = v == max ? A(1) : exp(-fabs(v - max));
    if (v > max) {
      total = total * e + A(1);
      max = v;
    } else {
      total += e;
    }
  }
  template <class T> KDL_FN void add(const Pack<T>& pack) {
    const A before = max;
#pragma unroll
    for (int i = 0; i < pack_width<T>; ++i) max = fmax(max, to_compute(pack.item[i]));
    const A from = base();
    total *= exp(before - from);
#pragma unroll
    for (int i = 0; i < pack_width<T>; ++i) total += exp(to_compute(pack.item[i]) - from);
  }
  KDL_FN Peak merged(const Peak& o) const {
    const Peak top = {fmax(max, o.max), 0};
    const A from = top.base();
    return {top.max, total * exp(max - from) + o.total * exp(o.max - from)};
  }

  // A row whose largest is infinite has no distribution: everything made from its total is NaN.
  KDL_FN Peak of_row() const { return {max, fabs(max) == INFINITY ? A(NAN) : total}; }
};

// The peak, and for weights q of the numbers the sums of q and of q (number - base).
template <class A> struct Tally {
  Peak<A> peak;
  A mass = 0, below = 0;

  KDL_FN void move_base(A before, A after) { below += mass * (before - after); }

  KDL_FN void add_weighted(A q, A v) {
    mass += q;
    below += q * (v - peak.base());
  }
  KDL_FN Tally merged(const Tally& o) const {
    const Peak<A> top = peak.merged(o.peak);
    Tally mine = *this, other = o;
    mine.move_base(peak.base(), top.base());
    other.move_base(o.peak.base(), top.base());
    return {top, mine.mass + other.mass, mine.below + other.below};
  }
};

// q[c] = w[c] (sure t + spread): t is 1 at the label and 0 elsewhere, or the probability of the class, laid out as x.
template <class T> struct Target {
  using A = compute_t<T>;
  const int64_t* label;  // or nullptr, and then
  const T* probability;
  const T* weight;  // or nullptr
  int64_t ignore_index;
  A sure, spread;  // 1 - smoothing, smoothing / C

  KDL_FN bool used(int64_t row) const { return !label || label[row] != ignore_index; }
  KDL_FN bool is_label_alone() const { return label && spread == A(0); }
  KDL_FN A w(int64_t c) const { return weight ? to_compute(weight[c]) : A(1); }
  KDL_FN A q(A w, A t) const { return w * (sure * t + spread); }
};

// The numbers per row that the forward leaves for the backward, and the loss. Pointers of what is not wanted are nullptr.
template <class T> struct PerRow {
  using A = compute_t<T>;
  A *loss, *peak, *total, *mass;

  // loss = -sum of q log p; an unused row gets loss 0, peak 0 and total 1. `x` holds class c of this row at c * step.
  KDL_FN void store(int64_t row, const Tally<A>& tally, const Target<T>& target, const T* x, int64_t step) const {
    const bool is_used = target.used(row);
    const Peak<A> top = tally.peak.of_row();
    const A log_total = log(top.total);
    A value = 0;
    if (is_used && target.is_label_alone()) {
      const int64_t c = target.label[row];
      value = target.q(target.w(c), A(1)) * (log_total - (to_compute(x[c * step]) - top.max));
    } else if (is_used) {
      value = tally.mass * log_total - tally.below;
    }
    loss[row] = value;
    peak[row] = is_used ? top.max : A(0);
    total[row] = is_used ? top.total : A(1);
    if (mass) mass[row] = tally.mass;
  }
};

}  // namespace kdl::softmax
