// The one header a kernel includes to be a kernel. Under nvcc these are thin names over CUDA.
// Kernels keep to these names so that the same source can also be compiled by a host compiler and run there.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define KDL_FN __device__ __forceinline__

// KDL_SHARED(float, partial)[32] is not possible: name the array type first (using Partial = float[32]; KDL_SHARED(Partial, partial);).
#define KDL_SHARED(T, name) __shared__ T name
#define KDL_DYN_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
