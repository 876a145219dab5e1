// What     rows of an array by index: the batches of a data set.
// Maths    y[i] = x[index[i]] along the first dimension; an index counts from the end where it is negative, and wraps around as CuPy's does.
// Traffic  1R+1W elements of y, and the indices: bound by device memory.
// Tiling   256 threads, a word each, of 16, 8, 4, 2 or 1 bytes: as many as the length of a row and the addresses allow.
// Numerics none: bytes are copied.
// Limits   contiguous arrays of two dimensions.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_reduce.py).
#include "kdl/dispatch.h"
#include "kdl/divide.h"
#include "kdl/launch.h"

namespace kdl::indexing {

// --- device ---

constexpr int threads = 256;

template <class Word>
__global__ void __launch_bounds__(threads) take_kernel(int64_t n, Divider words, int64_t rows, const Word* x, const int64_t* index, Word* y) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= n) return;
  const int64_t to = words.quotient(i), from = index[to] % rows;
  y[i] = x[(from < 0 ? from + rows : from) * words.divisor + (i - to * words.divisor)];
}

// --- launch ---

template <class Word> void take_words(int64_t row_bytes, const Array& x, const Array& index, const Array& y, Stream stream) {
  const int64_t words = row_bytes / static_cast<int64_t>(sizeof(Word)), n = words * index.shape[0];
  launch<take_kernel<Word>>({blocks_for(n, threads), threads, stream}, n, Divider(words), x.shape[0], x.as<Word>(), index.as<int64_t>(), y.as<Word>());
}

void take(const Array& x, const Array& index, const Array& y, Stream stream) {
  expect(x.ndim == 2 && y.ndim == 2 && index.ndim == 1 && y.shape[0] == index.shape[0] && y.shape[1] == x.shape[1],
         "expected x (rows, columns), index (n,) and y (n, columns), got ", x, ", ", index, " and ", y);
  expect(x.is_contiguous() && y.is_contiguous() && index.is_contiguous(), "x, index and y must be contiguous");
  expect(x.dtype == y.dtype && index.dtype == DType::i64, "expected an int64 index and y of x's dtype, got ", x, ", ", index, " and ", y);
  if (y.size() == 0) return;
  expect(x.shape[0] > 0, "expected at least one row to take from, got ", x);
  const int64_t row_bytes = x.shape[1] * dtype_bytes[static_cast<int>(x.dtype)];
  const int64_t common = row_bytes | static_cast<int64_t>(reinterpret_cast<uintptr_t>(x.data) | reinterpret_cast<uintptr_t>(y.data));
  if (common % 16 == 0) return take_words<uint4>(row_bytes, x, index, y, stream);
  if (common % 8 == 0) return take_words<uint2>(row_bytes, x, index, y, stream);
  if (common % 4 == 0) return take_words<uint32_t>(row_bytes, x, index, y, stream);
  if (common % 2 == 0) return take_words<uint16_t>(row_bytes, x, index, y, stream);
  take_words<uint8_t>(row_bytes, x, index, y, stream);
}
KDL_EXPORT(take, "x", "index", "y")

}  // namespace kdl::indexing
