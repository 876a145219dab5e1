// ldmatrix and mma.sync: a warp meets, and the last lane to arrive moves or multiplies for all. The registers of the fragments are those of
// the PTX manual (kdl/ptx.cuh repeats them).
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "kdl/error.h"
#include "simt/access.h"
#include "simt/ptx.h"
#include "simt/state.h"

namespace simt {
namespace {

constexpr uint32_t full_warp = 0xffffffffu;

struct MatrixLoad {
  const char* row;
  uint32_t* registers;
  int count;
  bool transposed;
};

void exchange_ldmatrix(void** operands, uint32_t) {
  const auto lane = [&](int i) { return static_cast<MatrixLoad*>(operands[i]); };
  for (int j = 0; j < lane(0)->count; ++j) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(matrix[r], lane(8 * j + r)->row, sizeof(matrix[r]));
    for (int i = 0; i < 32; ++i) {
      const int row = i / 4, column = i % 4 * 2;
      const bool transposed = lane(i)->transposed;
      const uint32_t low = transposed ? matrix[column][row] : matrix[row][column];
      const uint32_t high = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      lane(i)->registers[j] = low | high << 16;
    }
  }
}

struct MatrixProduct {
  float* d;
  const uint32_t *a, *b;
  Format format;
};

float half_of(uint32_t word, int half, Format format) {
  const uint16_t bits = static_cast<uint16_t>(word >> (16 * half));
  if (format == Format::bf16) return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
  return __half2float(__half(__half_raw{bits}));
}

// The unit reads only the upper 19 bits of a TF32 operand.
float tf32_of(uint32_t word) {
  word &= 0xffffe000u;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

void exchange_mma(void** operands, uint32_t) {
  float a[16][16], b[16][8], d[16][8];
  const Format format = static_cast<MatrixProduct*>(operands[0])->format;
  const int depth = format == Format::tf32 ? 8 : 16;
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<MatrixProduct*>(operands[lane]);
    const int g = lane / 4, q = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const int row = g + i % 2 * 8;
      if (format == Format::tf32) a[row][q + i / 2 * 4] = tf32_of(own.a[i]);
      else for (int half = 0; half < 2; ++half) a[row][2 * q + half + i / 2 * 8] = half_of(own.a[i], half, format);
      d[g + i / 2 * 8][2 * q + i % 2] = own.d[i];
    }
    for (int i = 0; i < 2; ++i) {
      if (format == Format::tf32) b[q + i * 4][g] = tf32_of(own.b[i]);
      else for (int half = 0; half < 2; ++half) b[2 * q + half + i * 8][g] = half_of(own.b[i], half, format);
    }
  }
  for (int k = 0; k < depth; ++k)
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) static_cast<MatrixProduct*>(operands[lane])->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

}  // namespace

void ldmatrix(uint32_t* registers, int count, bool transposed, const void* row, Where where) {
  if (self().lane < static_cast<uint32_t>(8 * count)) {  // the other lanes' addresses are not used
    if (reinterpret_cast<uintptr_t>(row) % 16) fail(kdl::join("ldmatrix at ", describe(where), ": the row's address is no multiple of 16"));
    if (!find_shared(row, 16).allocated)
      fail(kdl::join("ldmatrix at ", describe(where), ": the row lies outside the shared memory that the kernel asked for"));
    if (watches_accesses) note_access(row, 16, false, where);
  }
  MatrixLoad operand{static_cast<const char*>(row), registers, count, transposed};
  warp_collective(full_warp, "ldmatrix", false, &operand, exchange_ldmatrix, where);
}

void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Format format, Where where) {
  MatrixProduct operand{d, a, b, format};
  warp_collective(full_warp, "mma.sync", false, &operand, exchange_mma, where);
}

uint32_t cvt_rna_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if (x != x) return 0x7fffffffu;
  return (bits + 0x1000u) & 0xffffe000u;  // half a unit carries into the exponent where it must, and leaves infinity alone
}

}  // namespace simt
