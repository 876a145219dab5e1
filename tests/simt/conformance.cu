// What the engine's warp and block operations return, for comparison with the definitions in CUDA's programming guide (conformance.py) and, where
// there is a GPU, with the hardware: the kernel is an ordinary one.
#include "kdl/divide.h"
#include "kdl/launch.h"
#include "kdl/reduce.h"

namespace kdl::conformance {

constexpr int columns = 16;

__global__ void __launch_bounds__(64) operations_kernel(const int* x, int64_t* y) {
  const int t = threadIdx.x, lane = t % 32, value = x[t];
  int64_t* row = y + t * columns;
  row[15] = __activemask();  // before any lane can have returned
  row[0] = __shfl_sync(full_warp, value, 5);
  row[1] = __shfl_sync(full_warp, value, lane + 3, 8);
  row[2] = __shfl_up_sync(full_warp, value, 3);
  row[3] = __shfl_up_sync(full_warp, value, 3, 8);
  row[4] = __shfl_down_sync(full_warp, value, 3);
  row[5] = __shfl_down_sync(full_warp, value, 3, 8);
  row[6] = __shfl_xor_sync(full_warp, value, 9);
  row[7] = __shfl_xor_sync(full_warp, value, 9, 8);
  row[8] = __ballot_sync(full_warp, value % 3 == 0);
  row[9] = __any_sync(full_warp, value == 7) + 2 * __all_sync(full_warp, value >= 0);
  row[10] = lane < 10 ? __shfl_sync(0x3ffu, value, 9 - lane) : -1;
  row[11] = __syncthreads_count(value % 3 == 0);
  row[12] = __syncthreads_or(value == 7) + 2 * __syncthreads_and(value >= 0);
  row[13] = group_reduce(Sum<int>{value}, warp_threads).value;
  row[14] = block_sum<64>(value);
}

void operations(const Array& x, const Array& y, Stream stream) {
  expect(x.size() == 64 && y.size() == 64 * columns, "x must have 64 elements and y 64 rows of ", columns);
  launch<operations_kernel>({1, 64, stream}, x.as<const int>(), y.as<int64_t>());
}

__global__ void __launch_bounds__(64) divide_kernel(const int64_t* x, int64_t* y, int64_t n, Divider divisor) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 64 + threadIdx.x;
  if (i < n) y[i] = divisor.quotient(x[i]);
}

void divide(const Array& x, const Array& y, int64_t divisor, Stream stream) {
  launch<divide_kernel>({blocks_for(x.size(), 64), 64, stream}, x.as<const int64_t>(), y.as<int64_t>(), x.size(), Divider(divisor));
}

KDL_EXPORT(operations, "x", "y")
KDL_EXPORT(divide, "x", "y", "divisor")

}  // namespace kdl::conformance
