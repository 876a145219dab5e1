// The CUDA flavour's answers. Nothing here runs at import.
#include "kdl/backend.h"

#include "kdl/launch.h"

namespace kdl {

void run(const Export& op, Value* values) { op.call(values); }

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count;
  cudaGetLastError();
  int driver = 0;
  const bool missing = cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0;
  throw DeviceError(join("the driver reports ", explain(error), missing ? ": no NVIDIA driver is installed" : ""));
}

std::string compute_capability(int device) {
  int major = 0, minor = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (error != cudaSuccess) throw DeviceError(join("compute_capability: device ", device, ": ", explain(error)));
  return join(major, ".", minor);
}

void set_option(const std::string& name, int64_t) { throw ArgumentError(join("the CUDA kernels have no option ", name)); }

int64_t counter(const std::string& name) { throw ArgumentError(join("the CUDA kernels have no counter ", name)); }

}  // namespace kdl
