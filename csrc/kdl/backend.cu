// The CUDA flavour's answers. Nothing here runs at import.
#include "kdl/backend.h"

#include "kdl/launch.h"

namespace kdl {

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

}  // namespace kdl
