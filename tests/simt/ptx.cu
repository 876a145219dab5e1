// One conformance kernel for each function of kdl/ptx.cuh, on raw registers and bytes, so that the result is exact and can be compared bit for bit
// with a model of the PTX manual (test_ptx.py) and with a GPU (golden.py).
#include "kdl/launch.h"
#include "kdl/ptx.cuh"

namespace kdl::conformance {

constexpr int lanes = 32;

// Every lane copies `bytes` bytes, of which only source_bytes are read; lane l's lie at l * bytes. Two groups: the odd lanes' copies come later.
template <int bytes> __global__ void __launch_bounds__(lanes) cp_async_kernel(const unsigned char* x, unsigned char* y, int source_bytes) {
  KDL_DYN_SHARED(memory);
  const int lane = threadIdx.x;
  if (lane % 2 == 0) ptx::cp_async<bytes>(memory + lane * bytes, x + lane * bytes, source_bytes);
  ptx::cp_async_commit_group();
  if (lane % 2 == 1) ptx::cp_async<bytes>(memory + lane * bytes, x + lane * bytes, source_bytes);
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<1>();
  if (lane % 2 == 0)
    for (int i = 0; i < bytes; ++i) y[lane * bytes + i] = memory[lane * bytes + i];
  ptx::cp_async_wait_group<0>();
  __syncwarp();
  if (lane % 2 == 0)
    for (int i = 0; i < bytes; ++i) y[(lane + 1) * bytes + i] = memory[(lane + 1) * bytes + i];
}

// Row r of the matrices comes from x[r]; every lane writes its registers.
template <int count, bool transposed> __global__ void __launch_bounds__(lanes) ldmatrix_kernel(const int* x, int* y) {
  KDL_DYN_SHARED(memory);
  const int lane = threadIdx.x;
  int* const row = reinterpret_cast<int*>(memory) + lane * 4;
  for (int i = 0; i < 4; ++i) row[i] = x[lane * 4 + i];
  __syncwarp();
  uint32_t r[count];
  if constexpr (count == 1 && !transposed) ptx::ldmatrix_x1(r, row);
  if constexpr (count == 2 && !transposed) ptx::ldmatrix_x2(r, row);
  if constexpr (count == 4 && !transposed) ptx::ldmatrix_x4(r, row);
  if constexpr (count == 1 && transposed) ptx::ldmatrix_x1_trans(r, row);
  if constexpr (count == 2 && transposed) ptx::ldmatrix_x2_trans(r, row);
  if constexpr (count == 4 && transposed) ptx::ldmatrix_x4_trans(r, row);
  for (int i = 0; i < count; ++i) y[lane * count + i] = static_cast<int>(r[i]);
}

enum Format { f16, bf16, tf32 };

// d = a b + c on the registers of the lanes.
template <int format> __global__ void __launch_bounds__(lanes) mma_kernel(const int* a, const int* b, const float* c, float* d) {
  const int lane = threadIdx.x;
  uint32_t ra[4], rb[2];
  float rd[4];
  for (int i = 0; i < 4; ++i) ra[i] = static_cast<uint32_t>(a[lane * 4 + i]), rd[i] = c[lane * 4 + i];
  for (int i = 0; i < 2; ++i) rb[i] = static_cast<uint32_t>(b[lane * 2 + i]);
  if constexpr (format == f16) ptx::mma_m16n8k16_f16(rd, ra, rb);
  if constexpr (format == bf16) ptx::mma_m16n8k16_bf16(rd, ra, rb);
  if constexpr (format == tf32) ptx::mma_m16n8k8_tf32(rd, ra, rb);
  for (int i = 0; i < 4; ++i) d[lane * 4 + i] = rd[i];
}

__global__ void __launch_bounds__(lanes) cvt_rna_tf32_kernel(const float* x, int* y, int n) {
  for (int i = threadIdx.x; i < n; i += lanes) y[i] = static_cast<int>(ptx::cvt_rna_tf32(x[i]));
}

void ptx_cp_async(const Array& x, const Array& y, int64_t bytes, int64_t source_bytes, Stream stream) {
  expect(x.size() == lanes * bytes && y.size() == x.size(), "x and y must have 32 times ", bytes, " bytes");
  const auto start = [&](auto width) {
    if (bytes == width) launch<cp_async_kernel<width>>({1, lanes, stream, lanes * width}, x.as<const unsigned char>(), y.as<unsigned char>(), static_cast<int>(source_bytes));
  };
  start(std::integral_constant<int, 4>());
  start(std::integral_constant<int, 8>());
  start(std::integral_constant<int, 16>());
}

void ptx_ldmatrix(const Array& x, const Array& y, int64_t count, bool transposed, Stream stream) {
  expect(x.size() == lanes * 4 && y.size() == lanes * count, "x must be (32, 4) and y (32, count)");
  const auto start = [&](auto matrices) {
    const Launch shape(1, lanes, stream, lanes * 16);
    if (count == matrices && !transposed) launch<ldmatrix_kernel<matrices, false>>(shape, x.as<const int>(), y.as<int>());
    if (count == matrices && transposed) launch<ldmatrix_kernel<matrices, true>>(shape, x.as<const int>(), y.as<int>());
  };
  start(std::integral_constant<int, 1>());
  start(std::integral_constant<int, 2>());
  start(std::integral_constant<int, 4>());
}

void ptx_mma(const Array& a, const Array& b, const Array& c, const Array& d, int64_t format, Stream stream) {
  expect(a.size() == lanes * 4 && b.size() == lanes * 2 && c.size() == lanes * 4 && d.size() == lanes * 4, "a, c and d must be (32, 4) and b (32, 2)");
  const auto start = [&](auto which) {
    if (format == which) launch<mma_kernel<which>>({1, lanes, stream}, a.as<const int>(), b.as<const int>(), c.as<const float>(), d.as<float>());
  };
  start(std::integral_constant<int, f16>());
  start(std::integral_constant<int, bf16>());
  start(std::integral_constant<int, tf32>());
}

void ptx_cvt_rna_tf32(const Array& x, const Array& y, Stream stream) {
  launch<cvt_rna_tf32_kernel>({1, lanes, stream}, x.as<const float>(), y.as<int>(), static_cast<int>(x.size()));
}

KDL_EXPORT(ptx_cp_async, "x", "y", "bytes", "source_bytes")
KDL_EXPORT(ptx_ldmatrix, "x", "y", "count", "transposed")
KDL_EXPORT(ptx_mma, "a", "b", "c", "d", "format")
KDL_EXPORT(ptx_cvt_rna_tf32, "x", "y")

}  // namespace kdl::conformance
