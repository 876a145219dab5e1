// One function per PTX instruction, named as the instruction: assembly under nvcc, the engine's twin (simt/ptx.h) under a host compiler.
// All assembly of the project stands here, and so does every difference between architectures: an instruction that the architecture being
// compiled for lacks is a trap. Launchers choose kernels by the device's compute capability, so that none is ever reached.
#pragma once
#include "kdl/device.h"

#if defined(__CUDACC__)
#define KDL_WHERE
#define KDL_ONLY_WHERE
#else
#include "simt/ptx.h"
#define KDL_WHERE , ::simt::Where where = ::simt::Where::here()  // the kernel's line, for reports
#define KDL_ONLY_WHERE ::simt::Where where = ::simt::Where::here()
#endif

#if !defined(__CUDACC__) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define KDL_PTX_SM80 1
#else
#define KDL_PTX_SM80 0
#endif

namespace kdl::ptx {

// The compute capability that a kernel made of cp.async and mma.sync needs; 80 is 8.0.
constexpr int mma_capability = 80;

#if defined(__CUDACC__)
KDL_FN uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }
#endif

// --- cp.async: global to shared memory without passing through registers (sm_80) ---

// Copies `source_bytes` of `bytes` and fills the rest with zeros; with 0 the source is not read. 16 bytes go past L1, fewer through it.
template <int bytes> KDL_FN void cp_async(void* destination, const void* source, int source_bytes KDL_WHERE) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if !defined(__CUDACC__)
  simt::cp_async(destination, source, bytes, source_bytes, where);
#elif KDL_PTX_SM80
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(destination)), "l"(__cvta_generic_to_global(source)),
                 "r"(source_bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(destination)), "l"(__cvta_generic_to_global(source)),
                 "n"(bytes), "r"(source_bytes) : "memory");
#else
  __trap();
#endif
}

// Closes the group of this thread's copies since the last commit; it may be empty.
KDL_FN void cp_async_commit_group() {
#if !defined(__CUDACC__)
  simt::cp_async_commit_group();
#elif KDL_PTX_SM80
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  __trap();
#endif
}

// Waits until at most `pending` of this thread's groups are under way. Other threads' copies need a barrier after it.
template <int pending> KDL_FN void cp_async_wait_group() {
#if !defined(__CUDACC__)
  simt::cp_async_wait_group(pending);
#elif KDL_PTX_SM80
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
  __trap();
#endif
}

// --- ldmatrix: 8 x 8 matrices of 16-bit elements from shared memory to the fragments of a warp (sm_75) ---

// Lane 8 j + r points at row r of matrix j: 16 bytes, aligned to 16. Lane l receives of each matrix the elements (l / 4, l % 4 * 2) and its
// right neighbour; with trans, those of the transposed matrix.
#define KDL_LDMATRIX(name, count, modifier, outputs, address, ...)                                                              \
  KDL_FN void name(uint32_t(&r)[count], const void* row KDL_WHERE) {                                                            \
    KDL_LDMATRIX_BODY(count, modifier, outputs, address, __VA_ARGS__)                                                           \
  }
#if defined(__CUDACC__)
#define KDL_LDMATRIX_BODY(count, modifier, outputs, address, ...)                                                               \
  asm volatile("ldmatrix.sync.aligned.m8n8.x" #count modifier ".shared.b16 " outputs ", [" address "];"                         \
               : __VA_ARGS__ : "r"(shared_address(row)) : "memory");
#else
#define KDL_LDMATRIX_BODY(count, modifier, ...) simt::ldmatrix(r, count, modifier[0] != 0, row, where);
#endif
KDL_LDMATRIX(ldmatrix_x1, 1, "", "{%0}", "%1", "=r"(r[0]))
KDL_LDMATRIX(ldmatrix_x2, 2, "", "{%0, %1}", "%2", "=r"(r[0]), "=r"(r[1]))
KDL_LDMATRIX(ldmatrix_x4, 4, "", "{%0, %1, %2, %3}", "%4", "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
KDL_LDMATRIX(ldmatrix_x1_trans, 1, ".trans", "{%0}", "%1", "=r"(r[0]))
KDL_LDMATRIX(ldmatrix_x2_trans, 2, ".trans", "{%0, %1}", "%2", "=r"(r[0]), "=r"(r[1]))
KDL_LDMATRIX(ldmatrix_x4_trans, 4, ".trans", "{%0, %1, %2, %3}", "%4", "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
#undef KDL_LDMATRIX
#undef KDL_LDMATRIX_BODY

// --- mma.sync: d += a b over a warp, a row-major, b column-major, d in float (sm_80) ---

// With g = lane / 4 and q = lane % 4, every operand's registers hold, in this order:
//   m16n8k16  a: (g, 2q..) (g + 8, 2q..) (g, 2q + 8..) (g + 8, 2q + 8..)   b: (2q.., g) (2q + 8.., g)   pairs along k, the lower k in the low half
//   m16n8k8   a: (g, q) (g + 8, q) (g, q + 4) (g + 8, q + 4)               b: (q, g) (q + 4, g)
//   both      d: (g, 2q) (g, 2q + 1) (g + 8, 2q) (g + 8, 2q + 1)
#if defined(__CUDACC__) && KDL_PTX_SM80
#define KDL_MMA(name, instruction, format)                                                                                      \
  KDL_FN void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {                                                \
    asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                 \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                           \
  }
#elif defined(__CUDACC__)
#define KDL_MMA(name, instruction, format) KDL_FN void name(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2]) { __trap(); }
#else
#define KDL_MMA(name, instruction, format)                                                                                      \
  KDL_FN void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2] KDL_WHERE) { simt::mma(d, a, b, simt::Format::format, where); }
#endif
KDL_MMA(mma_m16n8k16_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", f16)
KDL_MMA(mma_m16n8k16_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", bf16)
KDL_MMA(mma_m16n8k8_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", tf32)
#undef KDL_MMA

// A float rounded to the 10 fraction bits of TF32, to nearest, ties away from zero (sm_80).
KDL_FN uint32_t cvt_rna_tf32(float x) {
#if !defined(__CUDACC__)
  return simt::cvt_rna_tf32(x);
#elif KDL_PTX_SM80
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
#else
  __trap();
  return 0;
#endif
}

}  // namespace kdl::ptx
