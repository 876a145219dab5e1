// What     softmax and log_softmax along the middle axis of (outer, C, inner), and cross-entropy with class indices or probabilities: the
//          forward keeps each row's peak and sum, from which the backward makes the gradient in one pass over the logits.
// Maths    p = exp(x - peak) / total; softmax y = p, gx = y (gy - sum(y gy)); log_softmax y = log p, gx = gy - exp(y) sum(gy);
//          cross-entropy loss = -sum of q log p, gx = gy (p sum(q) - q), where q is the weighted, smoothed target.
// Traffic  elements of rows * C (inner = 1, kept in shared memory): softmax 1R+1W, its backward 2R+1W, cross-entropy 1R and 1R+1W, and as
//          much again of probabilities. What is not kept (of a row longer than shared memory, of a split row, everything where inner > 1) is
//          read twice by the softmax and its backward, the second time from the end, mostly from L2; by cross-entropy never.
//          Loss and gradient together move 2R+1W: making the gradient in the forward would cost the backward 1R+1W for its upstream factor.
// Tiling   softmax_rows.h: a row in packs belongs to a warp (up to 4 KB), a block of 256 (up to 32 KB), of 512 or, where it takes more than
//          half of the shared memory, of 1024; fewer rows than multiprocessors are split over blocks that meet in the workspace.
//          softmax_columns.h: a thread has the same class of a pack of neighbouring rows.
// Numerics sums in float for half types, double for float64, in one fixed order; peaks and sums are merged, so no exponential overflows, and
//          sums of q (x - peak) move with the peak, so none cancels. A row whose largest is infinite, or with a NaN, gives NaN.
// Limits   contiguous arrays, C below 2^31; labels were checked by the caller. peak, total and loss are float32, or float64 with float64.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_softmax.py).
#include "kdl/launch.h"
#include "softmax_columns.h"
#include "softmax_rows.h"

namespace kdl::softmax {

// --- launch ---

void expect_rows(const Array& x, const Array& other, const char* name) {
  expect(x.ndim == 3 && x.is_contiguous() && other.same_layout(x) && other.dtype == x.dtype, "x and ", name,
         " must be contiguous (outer, C, inner) of one dtype, got x ", x, ", ", name, " ", other);
}

// One number per row, (outer, inner), in the dtype that sums have.
void expect_per_row(const Array& x, const Array& a, const char* name) {
  const DType wanted = x.dtype == DType::f64 ? DType::f64 : DType::f32;
  expect(a.ndim == 2 && a.is_contiguous() && a.dtype == wanted && a.shape[0] == x.shape[0] && a.shape[1] == x.shape[2], name,
         " must be contiguous (outer, inner) ", dtype_name[static_cast<int>(wanted)], ", got ", a, " for x ", x);
}

int64_t rows_of(const Array& x) { return x.shape[0] * x.shape[2]; }
int item_bytes(const Array& x) { return dtype_bytes[static_cast<int>(x.dtype)]; }

// How the rows of x are shared out, where `arrays` of them are kept in shared memory.
Rows share_rows(const Array& x, int arrays) {
  const int64_t rows = rows_of(x), C = x.shape[1], row_bytes = C * item_bytes(x);
  expect(C < int64_t{1} << 31, "C must be below 2^31, got x ", x);
  Rows r{rows, static_cast<int>(C), 32, 1, static_cast<int>(C), 0};
  if (row_bytes > 4096) r.group = row_bytes > 32768 ? 512 : 256;

  constexpr int64_t least_bytes = 8192;  // of one split: two packs for each thread
  const int64_t wanted = 2 * multiprocessors() / rows, most = row_bytes / least_bytes, splits = wanted < most ? wanted : most;
  if (r.group > 32 && splits > 1) {
    const int64_t per_split = (C + splits - 1) / splits;
    r.group = 256;
    r.per_split = static_cast<int>((per_split + 15) / 16 * 16);
    r.splits = static_cast<int>((C + r.per_split - 1) / r.per_split);
    return r;
  }
  const int64_t static_bytes = 2048, limit = shared_bytes_per_block() - static_bytes, packs = row_bytes / 16 + 2, wanted_bytes = packs * 16 * arrays;
  if (r.group == 512 && wanted_bytes > limit / 2) r.group = 1024;
  const int64_t groups = r.group == 32 ? 256 / 32 : 1, capacity = limit / (16 * arrays * groups);
  r.kept = static_cast<int>(packs < capacity ? packs : capacity);
  return r;
}

::kdl::Launch for_rows(const Rows& r, int arrays, Stream stream) {
  const int threads = r.group == 32 ? 256 : r.group, groups = threads / r.group;
  return {blocks_for(r.rows * r.splits, groups), static_cast<unsigned>(threads), stream, static_cast<size_t>(r.kept) * 16 * arrays * groups};
}

template <class T> Columns share_columns(const Array& x, std::initializer_list<const void*> addresses) {
  bool aligned = x.shape[2] % column_width<T> == 0;
  for (const void* address : addresses) aligned = aligned && reinterpret_cast<uintptr_t>(address) % 8 == 0;
  const int width = aligned ? column_width<T> : 1;
  const int64_t per_outer = x.shape[2] / width, columns = x.shape[0] * per_outer;
  expect(x.shape[1] < int64_t{1} << 31, "C must be below 2^31, got x ", x);
  const bool sliced = x.shape[1] >= 64 && columns < int64_t{2048} * multiprocessors();  // fewer columns than threads that fit on the device
  return {columns, Divider(per_outer), static_cast<int>(x.shape[1]), x.shape[2], width, sliced ? 8 : 1};
}

::kdl::Launch for_columns(const Columns& s, Stream stream) { return {blocks_for(s.columns, column_threads / s.slices), column_threads, stream}; }

// Bytes of one partial result per part, where rows are split.
template <template <class> class Partial> int64_t partial_bytes(const Array& x) {
  if (x.size() == 0 || x.ndim != 3 || x.shape[2] > 1) return 0;
  const Rows r = share_rows(x, 1);
  const int64_t bytes = x.dtype == DType::f64 ? sizeof(Partial<double>) : sizeof(Partial<float>);
  return r.splits == 1 ? 0 : r.rows * r.splits * bytes;
}

int64_t forward_workspace(const Array& x, const Array&) { return partial_bytes<Tally>(x); }
int64_t backward_workspace(const Array& y, const Array&, const Array&) { return partial_bytes<Sum>(y); }

void forward(const Array& x, const Array& y, bool log_form, Workspace workspace, Stream stream) {
  expect_rows(x, y, "y");
  if (x.size() == 0) return;
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    if (x.shape[2] > 1) {
      const Columns s = share_columns<T>(x, {x.data, y.data});
      return launch<forward_columns_kernel<T>>(for_columns(s, stream), s, x.as<const T>(), y.as<T>(), log_form);
    }
    const Rows r = share_rows(x, 1);
    auto* partial = r.splits > 1 ? static_cast<Tally<compute_t<T>>*>(workspace.data) : nullptr;
    if (partial) launch<tally_kernel<T, false>>(for_rows(r, 1, stream), r, x.as<const T>(), Target<T>{}, partial, PerRow<T>{});
    launch<forward_kernel<T>>(for_rows(r, 1, stream), r, x.as<const T>(), y.as<T>(), partial, log_form);
  });
}

void backward(const Array& y, const Array& gy, const Array& gx, bool log_form, Workspace workspace, Stream stream) {
  expect_rows(gx, y, "y");
  expect_rows(gx, gy, "gy");
  if (gx.size() == 0) return;
  dispatch_floating(gx, "gx", [&](auto type) {
    using T = typename decltype(type)::type;
    if (gx.shape[2] > 1) {
      const Columns s = share_columns<T>(gx, {y.data, gy.data, gx.data});
      return launch<backward_columns_kernel<T>>(for_columns(s, stream), s, y.as<const T>(), gy.as<const T>(), gx.as<T>(), log_form);
    }
    const Rows r = share_rows(gx, 2);
    auto* partial = r.splits > 1 ? static_cast<Sum<compute_t<T>>*>(workspace.data) : nullptr;
    if (partial) launch<backward_sums_kernel<T>>(for_rows(r, 2, stream), r, y.as<const T>(), gy.as<const T>(), partial, log_form);
    launch<backward_kernel<T>>(for_rows(r, 2, stream), r, y.as<const T>(), gy.as<const T>(), gx.as<T>(), partial, log_form);
  });
}

void softmax_forward(const Array& x, const Array& y, Workspace workspace, Stream stream) { forward(x, y, false, workspace, stream); }
void log_softmax_forward(const Array& x, const Array& y, Workspace workspace, Stream stream) { forward(x, y, true, workspace, stream); }

void softmax_backward(const Array& y, const Array& gy, const Array& gx, Workspace workspace, Stream stream) {
  backward(y, gy, gx, false, workspace, stream);
}
void log_softmax_backward(const Array& y, const Array& gy, const Array& gx, Workspace workspace, Stream stream) {
  backward(y, gy, gx, true, workspace, stream);
}

// What the rows of x are compared with: labels (int64) or probabilities.
template <class T> Target<T> target_of(const Array& x, const Array& target, OptionalArray weight, int64_t ignore_index, double smoothing) {
  using A = compute_t<T>;
  const bool are_labels = target.dtype == DType::i64;
  if (are_labels)
    expect(target.ndim == 2 && target.is_contiguous() && target.shape[0] == x.shape[0] && target.shape[1] == x.shape[2],
           "target must be contiguous int64 (outer, inner), got ", target, " for x ", x);
  else expect_rows(x, target, "target");
  expect(!weight || (weight->dtype == x.dtype && weight->ndim == 1 && weight->shape[0] == x.shape[1] && weight->is_contiguous()),
         "weight must have x's dtype and one element per class, x ", x);
  return {are_labels ? target.as<const int64_t>() : nullptr, are_labels ? nullptr : target.as<const T>(), weight ? weight->as<const T>() : nullptr,
          ignore_index, static_cast<A>(1 - smoothing), static_cast<A>(smoothing / x.shape[1])};
}

template <class T> PerRow<T> per_row(const Array& x, OptionalArray loss, const Array& peak, const Array& total, OptionalArray mass) {
  using A = compute_t<T>;
  expect_per_row(x, peak, "peak");
  expect_per_row(x, total, "total");
  if (loss) expect_per_row(x, *loss, "loss");
  if (mass) expect_per_row(x, *mass, "mass");
  return {loss ? loss->as<A>() : nullptr, peak.as<A>(), total.as<A>(), mass ? mass->as<A>() : nullptr};
}

void cross_entropy(const Array& x, const Array& target, OptionalArray weight, const Array& loss, const Array& peak, const Array& total,
                   OptionalArray mass, int64_t ignore_index, double smoothing, Workspace workspace, Stream stream) {
  expect(x.ndim == 3 && x.is_contiguous(), "x must be contiguous (outer, C, inner), got ", x);
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    const Target<T> q = target_of<T>(x, target, weight, ignore_index, smoothing);
    const PerRow<T> out = per_row<T>(x, &loss, peak, total, mass);
    if (x.size() == 0) return;
    if (x.shape[2] > 1) {
      const Columns s = share_columns<T>(x, {x.data, q.probability ? target.data : x.data});
      return launch<cross_entropy_columns_kernel<T>>(for_columns(s, stream), s, x.as<const T>(), q, out);
    }
    Rows r = share_rows(x, 1);
    r.kept = 0;
    auto* partial = r.splits > 1 ? static_cast<Tally<compute_t<T>>*>(workspace.data) : nullptr;
    if (q.label && q.spread == 0) launch<tally_kernel<T, false>>(for_rows(r, 1, stream), r, x.as<const T>(), q, partial, out);
    else launch<tally_kernel<T, true>>(for_rows(r, 1, stream), r, x.as<const T>(), q, partial, out);
    if (partial) launch<finish_kernel<T>>({blocks_for(r.rows, 256 / warp_threads), 256, stream}, r, x.as<const T>(), q, partial, out);
  });
}

void cross_entropy_gradient(const Array& x, const Array& target, OptionalArray weight, const Array& peak, const Array& total, OptionalArray mass,
                            const Array& gy, const Array& gx, int64_t ignore_index, double smoothing, Stream stream) {
  expect_rows(x, gx, "gx");
  expect_per_row(x, gy, "gy");
  dispatch_floating(x, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    using A = compute_t<T>;
    const Target<T> q = target_of<T>(x, target, weight, ignore_index, smoothing);
    const PerRow<T> saved = per_row<T>(x, nullptr, peak, total, mass);
    if (x.size() == 0) return;
    if (x.shape[2] > 1) {
      const Columns s = share_columns<T>(x, {x.data, gx.data, q.probability ? target.data : x.data});
      return launch<cross_entropy_backward_columns_kernel<T>>(for_columns(s, stream), s, x.as<const T>(), q, saved, gy.as<const A>(), gx.as<T>());
    }
    Rows r = share_rows(x, 1);
    r.kept = 0;
    launch<cross_entropy_backward_kernel<T>>(for_rows(r, 1, stream), r, x.as<const T>(), q, saved, gy.as<const A>(), gx.as<T>());
  });
}

int64_t cross_entropy_workspace(const Array& x, const Array&, OptionalArray, const Array&, const Array&, const Array&, int64_t, double) {
  return partial_bytes<Tally>(x);
}

void cross_entropy_forward(const Array& x, const Array& target, OptionalArray weight, const Array& loss, const Array& peak, const Array& total,
                           int64_t ignore_index, double label_smoothing, Workspace workspace, Stream stream) {
  expect(target.dtype == DType::i64, "target must be int64, got ", target);
  cross_entropy(x, target, weight, loss, peak, total, nullptr, ignore_index, label_smoothing, workspace, stream);
}

void cross_entropy_backward(const Array& x, const Array& target, OptionalArray weight, const Array& peak, const Array& total, const Array& gy,
                            const Array& gx, int64_t ignore_index, double label_smoothing, Stream stream) {
  expect(target.dtype == DType::i64, "target must be int64, got ", target);
  cross_entropy_gradient(x, target, weight, peak, total, nullptr, gy, gx, ignore_index, label_smoothing, stream);
}

int64_t soft_cross_entropy_workspace(const Array& x, const Array&, OptionalArray, const Array&, const Array&, const Array&, const Array&, double) {
  return partial_bytes<Tally>(x);
}

void soft_cross_entropy_forward(const Array& x, const Array& target, OptionalArray weight, const Array& loss, const Array& peak,
                                const Array& total, const Array& mass, double label_smoothing, Workspace workspace, Stream stream) {
  expect_rows(x, target, "target");
  cross_entropy(x, target, weight, loss, peak, total, &mass, 0, label_smoothing, workspace, stream);
}

void soft_cross_entropy_backward(const Array& x, const Array& target, OptionalArray weight, const Array& peak, const Array& total,
                                 const Array& mass, const Array& gy, const Array& gx, double label_smoothing, Stream stream) {
  expect_rows(x, target, "target");
  cross_entropy_gradient(x, target, weight, peak, total, &mass, gy, gx, 0, label_smoothing, stream);
}

KDL_EXPORT_WITH_WORKSPACE(softmax_forward, forward_workspace, "x", "y")
KDL_EXPORT_WITH_WORKSPACE(softmax_backward, backward_workspace, "y", "gy", "gx")
KDL_EXPORT_WITH_WORKSPACE(log_softmax_forward, forward_workspace, "x", "y")
KDL_EXPORT_WITH_WORKSPACE(log_softmax_backward, backward_workspace, "y", "gy", "gx")
KDL_EXPORT_WITH_WORKSPACE(cross_entropy_forward, cross_entropy_workspace, "x", "target", "weight", "loss", "peak", "total", "ignore_index",
                          "label_smoothing")
KDL_EXPORT(cross_entropy_backward, "x", "target", "weight", "peak", "total", "gy", "gx", "ignore_index", "label_smoothing")
KDL_EXPORT_WITH_WORKSPACE(soft_cross_entropy_forward, soft_cross_entropy_workspace, "x", "target", "weight", "loss", "peak", "total", "mass",
                          "label_smoothing")
KDL_EXPORT(soft_cross_entropy_backward, "x", "target", "weight", "peak", "total", "mass", "gy", "gx", "label_smoothing")

}  // namespace kdl::softmax
