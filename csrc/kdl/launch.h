// The only place where a kernel is started.
//
//   launch<map_kernel<T, F>>({blocks_for(n, 256), 256, stream}, f, x, y);
#pragma once
#include <string>
#include <string_view>

#include "kdl/device.h"
#include "kdl/error.h"
#include "kdl/explain.h"
#include "kdl/export.h"
#include "kdl/type.h"

#ifndef KDL_ARCHITECTURES
#define KDL_ARCHITECTURES "unknown"
#endif

namespace kdl {

// The shape of one launch. It also remembers the line that built it, for the error message.
struct Launch {
  dim3 blocks, threads;
  Stream stream;
  size_t shared_bytes = 0;
  dim3 cluster{1, 1, 1};
  bool cooperative = false;
  const char* file;
  int line;

  Launch(dim3 blocks, dim3 threads, Stream stream, size_t shared_bytes = 0, const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : blocks(blocks), threads(threads), stream(stream), shared_bytes(shared_bytes), file(file), line(line) {}
};

// Blocks of `per_block` items that cover n items.
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  expect(blocks <= 0x7fffffff, "array too large for one launch: ", n, " items need ", blocks, " blocks, the limit is 2147483647");
  return static_cast<unsigned>(blocks);
}

// "map_kernel<float, Relu<float>, float>", from the compiler's spelling of the template that launched it.
inline std::string kernel_name(std::string_view spelled) {
  constexpr std::string_view marker = "kernel = ";
  const size_t begin = spelled.find(marker) + marker.size();
  return std::string(spelled.substr(begin, spelled.find_first_of(";]", begin) - begin));
}

// "csrc/ops/pool.cu" from the path on the machine that compiled it.
inline std::string_view source_file(std::string_view path) {
  const size_t begin = path.rfind("csrc/");
  return begin == path.npos ? path : path.substr(begin);
}

inline void explain_launch(const Launch& shape, std::string_view spelled) {
  tell("  launch ", kernel_name(spelled), ": ", shape.blocks.x, " x ", shape.blocks.y, " blocks of ", shape.threads.x, " threads, ",
       shape.shared_bytes, " bytes of dynamic shared memory\n");
}

// What launchers choose by.
struct Device {
  int multiprocessors;
  int capability;    // 80 is 8.0
  int shared_bytes;  // that a block may have
};

#if defined(__CUDACC__)

// The current device; one that can do nothing where there is none, so that the launch reports why.
inline Device current_device() {
  int device = 0, major = 0, minor = 0;
  Device found{1, 0, 48 << 10};
  if (cudaGetDevice(&device) != cudaSuccess) return found;
  cudaDeviceGetAttribute(&found.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&found.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  found.capability = major * 10 + minor;
  return found;
}

inline int shared_bytes_per_block() { return current_device().shared_bytes; }

inline std::string explain(cudaError_t error) {
  std::string text = join(cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion) {
    int device = 0, major = 0, minor = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    text += join("; the device has compute capability ", major, ".", minor, ", this build holds ", KDL_ARCHITECTURES);
  }
  return text;
}

// Not a template: the hundreds of kernel instances share one copy of this code.
inline void launch_untyped(const Launch& shape, const void* kernel, const char* spelled, void** arguments) {
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  config.attrs = attributes;
  if (shape.cluster.x * shape.cluster.y * shape.cluster.z > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = shape.cluster.x;
    cluster.val.clusterDim.y = shape.cluster.y;
    cluster.val.clusterDim.z = shape.cluster.z;
  }
  if (shape.cooperative) {
    cudaLaunchAttribute& cooperative = attributes[config.numAttrs++];
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
  }
  cudaError_t error = cudaSuccess;
  if (shape.shared_bytes > 48 * 1024)  // past 48 KB a kernel must ask for its shared memory
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
  if (error == cudaSuccess) error = cudaLaunchKernelExC(&config, kernel, arguments);
  if (error != cudaSuccess) {
    cudaGetLastError();  // an error stays until it is read: the next launch must not report this one
    throw DeviceError(join("launch of ", kernel_name(spelled), " failed at ", source_file(shape.file), ":", shape.line, ": ", explain(error)));
  }
}

template <auto kernel, class... Params>
void launch_typed(const Launch& shape, void (*)(Params...), typename Type<Params>::type... arguments) {
  if (explanation()) return explain_launch(shape, __PRETTY_FUNCTION__);
  void* addresses[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
  launch_untyped(shape, reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__, addresses);
}
}  // namespace kdl
#else
}  // namespace kdl
#include "simt/launch.h"
#endif

namespace kdl {

inline int multiprocessors() { return current_device().multiprocessors; }

template <auto kernel, class... Args> void launch(const Launch& shape, const Args&... args) { launch_typed<kernel>(shape, kernel, args...); }

}  // namespace kdl
