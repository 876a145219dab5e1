// What     sums, maxima and the places of maxima over any dimensions of an array of any strides.
// Maths    sum: y = sum x; max: y = max x, NaN where there is one; argmax: y = the first place of the maximum (or NaN) in C order of the
//          reduced dimensions. y has x's rank; the dimensions that are 1 in y alone are reduced.
// Traffic  1R of x; y and, where a sum is split over blocks, its partial results are small beside it. Bound by device memory.
// Tiling   256 threads share between neighbouring outputs (so that warps read along memory when what is kept lies innermost) and the
//          elements of each output. Few outputs with many elements are split over blocks, whose partial results a second kernel merges.
// Numerics every thread adds in order, threads and splits are merged in a fixed order: same input, same bits. Half types are added in float,
//          integers in int64.
// Limits   eight dimensions. A sum over both the innermost and outer dimensions reads rows of the innermost one's length.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_reduce.py).
#include <algorithm>
#include <type_traits>

#include "kdl/dispatch.h"
#include "kdl/launch.h"
#include "kdl/strided.h"

namespace kdl::reduce {

// --- device ---

constexpr int threads = 256;

template <class A> struct Sum {
  A value = A(0);
  KDL_FN void add(A x, int64_t) { value += x; }
  KDL_FN void merge(const Sum& o) { value += o.value; }
};

// The largest number so far and its place, -1 before the first. NaN is larger than all; of equals the first is kept.
template <class A> struct Peak {
  A value = A(0);
  int64_t place = -1;
  KDL_FN void add(A x, int64_t at) { merge({x, at}); }
  KDL_FN void merge(const Peak& o) {
    const bool equal = o.value == value || (o.value != o.value && value != value);
    const bool larger = !equal && (o.value > value || o.value != o.value) && value == value;
    if (o.place >= 0 && (place < 0 || larger || (equal && o.place < place))) *this = o;
  }
};

template <class T, class A> KDL_FN void store(void* y, int64_t at, bool wide, const Sum<A>& s) {
  if (wide) static_cast<A*>(y)[at] = s.value;
  else if constexpr (!std::is_integral_v<T>) static_cast<T*>(y)[at] = from_compute<T>(s.value);
}
template <class T, class A> KDL_FN void store(void* y, int64_t at, bool wide, const Peak<A>& s) {
  if (wide) static_cast<int64_t*>(y)[at] = s.place;
  else if constexpr (std::is_integral_v<T>) static_cast<T*>(y)[at] = static_cast<T>(s.value);
  else static_cast<T*>(y)[at] = from_compute<T>(s.value);
}

// How the work is shared: `lanes` threads (a power of two) per output and split, threads / lanes outputs per block.
struct Shares {
  int64_t outputs, length;
  int lanes, splits;
};

// x's elements: `kept` numbers the outputs (offsets in x and y), `reduced` the elements of each. With one split the results go to y, else to
// partial[split][output]. `wide` says that y holds the type of computation (Sum) or places (Peak).
template <class T, class State>
__global__ void __launch_bounds__(threads) reduce_kernel(const __grid_constant__ Strided<2> kept, const __grid_constant__ Strided<1> reduced,
                                                         Shares s, const T* x, void* y, bool wide, State* partial) {
  using States = State[threads];
  KDL_SHARED(States, states);
  const int across = threads / s.lanes, column = threadIdx.x % across, lane = threadIdx.x / across;
  const int64_t output = static_cast<int64_t>(blockIdx.x) * across + column, per_split = (s.length + s.splits - 1) / s.splits;
  const int64_t begin = blockIdx.y * per_split, end = begin + per_split < s.length ? begin + per_split : s.length;
  int64_t base[2] = {0, 0};
  State mine;
  if (output < s.outputs) {
    kept.offsets(output, base);
    for (int64_t i = begin + lane; i < end; i += s.lanes) {
      int64_t at[1];
      reduced.offsets(i, at);
      mine.add(to_number(x[base[0] + at[0]]), i);
    }
  }
  for (int step = s.lanes / 2; step > 0; step /= 2) {
    states[threadIdx.x] = mine;
    __syncthreads();
    if (lane < step) mine.merge(states[threadIdx.x + step * across]);
    __syncthreads();
  }
  if (lane != 0 || output >= s.outputs) return;
  if (s.splits == 1) store<T>(y, base[1], wide, mine);
  else partial[blockIdx.y * s.outputs + output] = mine;
}

template <class T, class State>
__global__ void __launch_bounds__(threads) merge_kernel(const __grid_constant__ Strided<2> kept, Shares s, const State* partial, void* y, bool wide) {
  const int64_t output = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (output >= s.outputs) return;
  State total;
  for (int split = 0; split < s.splits; ++split) total.merge(partial[split * s.outputs + output]);
  int64_t at[2];
  kept.offsets(output, at);
  store<T>(y, at[1], wide, total);
}

// --- launch ---

bool is_reduced(const Array& x, const Array& y, int d) { return y.shape[d] == 1 && x.shape[d] != 1; }

int power_of_two(int64_t n, int limit) {
  int power = 1;
  while (power < limit && power < n) power *= 2;
  return power;
}

// Lanes so that a warp reads along memory, splits so that every multiprocessor has four blocks, of at least 32 elements per thread.
Shares shares_of(const Array& x, const Array& y) {
  int64_t length = 1, kept_step = INT64_MAX, reduced_step = INT64_MAX;
  for (int d = 0; d < x.ndim; ++d) {
    if (x.shape[d] == 1) continue;
    const int64_t step = std::abs(x.strides[d]);
    if (is_reduced(x, y, d)) {
      length *= x.shape[d];
      reduced_step = std::min(reduced_step, step);
    } else kept_step = std::min(kept_step, step);
  }
  const int64_t outputs = y.size();
  const int lanes = reduced_step <= kept_step ? power_of_two(length, threads) : threads / power_of_two(outputs, 32);
  const int64_t blocks = (outputs + threads / lanes - 1) / (threads / lanes);
  const int64_t wanted = 4 * multiprocessors() / std::max<int64_t>(blocks, 1), possible = length / (32 * lanes);
  return {outputs, length, lanes, static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({wanted, possible, 65535})))};
}

template <template <class> class State> void reduce(const Array& x, const Array& y, bool wide, Workspace workspace, Stream stream) {
  const Shares s = shares_of(x, y);
  if (s.outputs == 0) return;
  const Strided<2> kept({&x, &y}, x, [&](int d) { return !is_reduced(x, y, d); });
  const Strided<1> reduced({&x}, x, [&](int d) { return is_reduced(x, y, d); });
  dispatch_all(x, [&](auto type) {
    using T = typename decltype(type)::type;
    using S = State<number_t<T>>;
    S* partial = static_cast<S*>(workspace.data);
    const dim3 grid(blocks_for(s.outputs, threads / s.lanes), static_cast<unsigned>(s.splits));
    launch<reduce_kernel<T, S>>({grid, threads, stream}, kept, reduced, s, x.as<T>(), y.data, wide, partial);
    if (s.splits > 1) launch<merge_kernel<T, S>>({blocks_for(s.outputs, threads), threads, stream}, kept, s, partial, y.data, wide);
  });
}

void check_shapes(const Array& x, const Array& y) {
  bool fits = x.ndim == y.ndim;
  for (int d = 0; fits && d < x.ndim; ++d) fits = y.shape[d] == x.shape[d] || y.shape[d] == 1;
  expect(fits, "y must have x's rank, and x's length or 1 in every dimension, got ", y, " and ", x);
}

template <class State> int64_t partial_bytes(const Array& x, const Array& y) {
  const Shares s = shares_of(x, y);
  return s.splits > 1 ? s.splits * s.outputs * static_cast<int64_t>(sizeof(State)) : 0;
}

int64_t sum_bytes(const Array& x, const Array& y) { return partial_bytes<Sum<double>>(x, y); }
void sum(const Array& x, const Array& y, Workspace workspace, Stream stream) {
  check_shapes(x, y);
  const bool half = x.dtype == DType::f16 || x.dtype == DType::bf16, floating = half || x.dtype == DType::f32 || x.dtype == DType::f64;
  const DType wide = half ? DType::f32 : floating ? x.dtype : DType::i64;
  expect(y.dtype == wide || (half && y.dtype == x.dtype), "y must hold the sum of x's dtype, got ", y, " for ", x);
  reduce<Sum>(x, y, y.dtype == wide, workspace, stream);
}
KDL_EXPORT_WITH_WORKSPACE(sum, sum_bytes, "x", "y")

int64_t peak_bytes(const Array& x, const Array& y) { return partial_bytes<Peak<double>>(x, y); }
void max(const Array& x, const Array& y, Workspace workspace, Stream stream) {
  check_shapes(x, y);
  expect(y.dtype == x.dtype, "y must have x's dtype, got ", y, " and ", x);
  reduce<Peak>(x, y, false, workspace, stream);
}
KDL_EXPORT_WITH_WORKSPACE(max, peak_bytes, "x", "y")

void argmax(const Array& x, const Array& y, Workspace workspace, Stream stream) {
  check_shapes(x, y);
  expect(y.dtype == DType::i64, "y must be int64, got ", y);
  reduce<Peak>(x, y, true, workspace, stream);
}
KDL_EXPORT_WITH_WORKSPACE(argmax, peak_bytes, "x", "y")

}  // namespace kdl::reduce
