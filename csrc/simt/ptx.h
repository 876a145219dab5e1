// The engine's twins of the PTX instructions in kdl/ptx.cuh, which says what they do. Included there.
#pragma once
#include "simt/engine.h"

namespace simt {

// --- async.cpp ---
void cp_async(void* destination, const void* source, int bytes, int source_bytes, Where where);
void cp_async_commit_group();
void cp_async_wait_group(int pending);

// --- tensor.cpp ---
enum class Format { f16, bf16, tf32 };
void ldmatrix(uint32_t* registers, int count, bool transposed, const void* row, Where where);
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Format format, Where where);
uint32_t cvt_rna_tf32(float x);

}  // namespace simt
