// What a launcher sees of an array: where it lies, its shape and strides, its element type. A view: it owns nothing.
#pragma once
#include <cstdint>
#include <ostream>

namespace kdl {

enum class DType : uint8_t { f16, bf16, f32, f64, i32, i64, u8, boolean };

constexpr int dtype_count = 8;
constexpr const char* dtype_name[dtype_count] = {"float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool"};
constexpr int dtype_bytes[dtype_count] = {2, 2, 4, 8, 4, 8, 1, 1};

struct Array {
  static constexpr int max_rank = 8;

  void* data;
  DType dtype;
  int ndim;
  int64_t shape[max_rank];
  int64_t strides[max_rank];  // in elements

  template <class T> T* as() const { return static_cast<T*>(data); }

  int64_t size() const {
    int64_t n = 1;
    for (int d = 0; d < ndim; ++d) n *= shape[d];
    return n;
  }

  bool is_contiguous() const {
    int64_t expected = 1;
    for (int d = ndim - 1; d >= 0; --d) {
      if (shape[d] != 1 && strides[d] != expected) return false;
      expected *= shape[d];
    }
    return true;
  }

  // True when the elements fill one gapless stretch of memory in any order of dimensions (C-contiguous, channels-last, ...).
  bool is_dense() const {
    bool placed[max_rank] = {};
    int64_t expected = 1;
    for (int round = 0; round < ndim; ++round) {
      int next = -1;
      for (int d = 0; d < ndim && next < 0; ++d)
        if (!placed[d] && (shape[d] == 1 || strides[d] == expected)) next = d;
      if (next < 0) return false;
      placed[next] = true;
      expected *= shape[next];
    }
    return true;
  }

  bool same_shape(const Array& other) const {
    if (ndim != other.ndim) return false;
    for (int d = 0; d < ndim; ++d)
      if (shape[d] != other.shape[d]) return false;
    return true;
  }

  // Same shape and same order in memory: a flat index means the same element in both.
  bool same_layout(const Array& other) const {
    if (!same_shape(other)) return false;
    for (int d = 0; d < ndim; ++d)
      if (shape[d] != 1 && strides[d] != other.strides[d]) return false;
    return true;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Array& a) {
  out << dtype_name[static_cast<int>(a.dtype)] << " (";
  for (int d = 0; d < a.ndim; ++d) out << (d ? ", " : "") << a.shape[d];
  return out << (a.ndim == 1 ? ",)" : ")");
}

}  // namespace kdl
