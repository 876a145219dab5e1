// The one header a kernel includes to be a kernel: thin names over CUDA under nvcc, the same names over the engine in csrc/simt/ under a host
// compiler. A kernel that keeps to them runs in both.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#define KDL_FN __device__ __forceinline__

// KDL_SHARED(T, name) declares a variable of the block. An array type needs a name: using Partials = float[32]; KDL_SHARED(Partials, partial);
#define KDL_SHARED(T, name) __shared__ T name
#define KDL_DYN_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#else
#include "simt/device.h"
#endif
