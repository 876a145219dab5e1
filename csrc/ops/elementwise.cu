// What     arithmetic, comparison, copies, casts and constants for arrays of any strides, broadcast: what the tape and the losses need, so
//          that a training step on CuPy arrays compiles nothing at run time.
// Maths    add, subtract, multiply, divide: z = x op y; equal, not_equal: z = x op y as bool; copy: y = x, cast; fill: y = value.
// Traffic  2R+1W elements (1R+1W where an operand is a number or for copy, 1W for fill); an operand that is repeated is read through the
//          caches. Bound by device memory.
// Tiling   dimensions are ordered by the output's strides and joined where all arrays allow it. What is then flat goes through map.h, 16
//          bytes at a time; the rest takes four elements per thread, 256 apart. Copies and fills move 16, 8, 4, 2 or 1 bytes per access,
//          as many as alignment and strides allow.
// Numerics float16 and bfloat16 are computed in float and rounded once. Casts round to nearest; from float to integer they truncate.
// Limits   eight dimensions. A transposing copy reads with a stride: sectors are used in part, and found in L2 by the neighbours.
// Measured not yet on hardware. Under simt the traffic is as stated (tests/simt/test_elementwise.py).
#include <type_traits>

#include "kdl/map.h"
#include "kdl/strided.h"

namespace kdl::elementwise {

// --- device ---

constexpr int threads = 256, items_per_thread = 4;

// body(flat number) for every element of this thread; `at_once` of them have their loads in flight together, and their code side by side.
template <int at_once, class Body> KDL_FN void each(int64_t n, Body body) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (threads * items_per_thread) + threadIdx.x;
#pragma unroll at_once
  for (int u = 0; u < items_per_thread; ++u)
    if (first + u * threads < n) body(first + u * threads);
}

enum class Arithmetic { add, subtract, multiply, divide };

// The switch is the same for every thread of a launch, and one kernel instead of four.
template <class A> struct Arithmetics {
  Arithmetic op;
  KDL_FN A operator()(A x, A y) const {
    switch (op) {
      case Arithmetic::add: return x + y;
      case Arithmetic::subtract: return x - y;
      case Arithmetic::multiply: return x * y;
      default: return x / y;
    }
  }
};
template <class A> struct WithRight {  // x op number
  Arithmetics<A> f;
  A number;
  KDL_FN A operator()(A x) const { return f(x, number); }
};
template <class A> struct WithLeft {  // number op x
  Arithmetics<A> f;
  A number;
  KDL_FN A operator()(A x) const { return f(number, x); }
};
template <class A> struct Equality {
  bool wanted;
  KDL_FN bool operator()(A x, A y) const { return (x == y) == wanted; }
};

// An operand: elements of an array, or a number everywhere.
template <class T> struct Source {
  const T* data;
  number_t<T> number;
  KDL_FN number_t<T> operator[](int64_t at) const { return data ? to_number(data[at]) : number; }
};

template <class T, class F, class Z>
__global__ void __launch_bounds__(threads) binary_kernel(const __grid_constant__ Strided<3> walk, F f, Source<T> x, Source<T> y, Z* z) {
  each<1>(walk.size, [&](int64_t i) {
    int64_t at[3];
    walk.offsets(i, at);
    const auto value = f(x[at[1]], y[at[2]]);
    if constexpr (std::is_same_v<Z, T> && !std::is_integral_v<T>) z[at[0]] = from_compute<T>(value);
    else z[at[0]] = value;
  });
}

template <class Word> __global__ void __launch_bounds__(threads) copy_kernel(const __grid_constant__ Strided<2> walk, Word* y, const Word* x) {
  each<items_per_thread>(walk.size, [&](int64_t i) {
    int64_t at[2];
    walk.offsets(i, at);
    y[at[0]] = x[at[1]];
  });
}

template <class Word> __global__ void __launch_bounds__(threads) fill_kernel(const __grid_constant__ Strided<1> walk, Word* y, Word value) {
  each<1>(walk.size, [&](int64_t i) {
    int64_t at[1];
    walk.offsets(i, at);
    y[at[0]] = value;
  });
}

KDL_FN __half to_half(double x) { return __double2half(x); }
KDL_FN __half to_half(float x) { return __float2half_rn(x); }
KDL_FN __half to_half(int64_t x) { return __double2half(static_cast<double>(x)); }

template <class Number> KDL_FN void store_cast(void* y, DType dtype, int64_t at, Number x) {
  switch (dtype) {
    case DType::f16: static_cast<__half*>(y)[at] = to_half(x); return;
    case DType::bf16: static_cast<__nv_bfloat16*>(y)[at] = __float2bfloat16_rn(static_cast<float>(x)); return;
    case DType::f32: static_cast<float*>(y)[at] = static_cast<float>(x); return;
    case DType::f64: static_cast<double*>(y)[at] = static_cast<double>(x); return;
    case DType::i32: static_cast<int32_t*>(y)[at] = static_cast<int32_t>(static_cast<int64_t>(x)); return;
    case DType::i64: static_cast<int64_t*>(y)[at] = static_cast<int64_t>(x); return;
    case DType::u8: static_cast<uint8_t*>(y)[at] = static_cast<uint8_t>(static_cast<int64_t>(x)); return;
    case DType::boolean: static_cast<uint8_t*>(y)[at] = x != Number(0); return;
  }
}

template <class T> __global__ void __launch_bounds__(threads) cast_kernel(const __grid_constant__ Strided<2> walk, void* y, DType dtype, const T* x) {
  each<1>(walk.size, [&](int64_t i) {
    int64_t at[2];
    walk.offsets(i, at);
    store_cast(y, dtype, at[0], to_number(x[at[1]]));
  });
}

// --- launch ---

inline Launch over(int64_t n, Stream stream) { return {blocks_for(n, threads * items_per_thread), threads, stream}; }

// The array of a binary operation whose dtype counts: one of the two operands is one.
const Array& operand_array(const Operand& x, const Operand& y) {
  expect(x.array || y.array, "x or y must be an array");
  if (x.array && y.array) expect(x.array->dtype == y.array->dtype, "x and y must share one dtype, got ", *x.array, " and ", *y.array);
  return x.array ? *x.array : *y.array;
}

template <class T> Source<T> source(const Operand& x) {
  const auto number = std::is_integral_v<T> ? static_cast<number_t<T>>(x.integer) : static_cast<number_t<T>>(x.real);
  return {x.array ? x.array->as<T>() : nullptr, number};
}

template <class T> void arithmetic_of(Arithmetics<compute_t<T>> f, const Operand& x, const Operand& y, const Array& z, Stream stream) {
  const Strided<3> walk({&z, x.array, y.array}, z);
  if (walk.size == 0) return;
  const Source<T> left = source<T>(x), right = source<T>(y);
  if constexpr (!std::is_integral_v<T>) {
    const bool flat = walk.rank <= 1 && (walk.rank == 0 || (walk.strides[0][0] == 1 && (!x.array || walk.strides[0][1] == 1) &&
                                                            (!y.array || walk.strides[0][2] == 1)));
    if (flat && x.array && y.array) return map(stream, f, walk.size, z.as<T>(), left.data, right.data);
    if (flat && x.array) return map(stream, WithRight<compute_t<T>>{f, right.number}, walk.size, z.as<T>(), left.data);
    if (flat) return map(stream, WithLeft<compute_t<T>>{f, left.number}, walk.size, z.as<T>(), right.data);
  }
  launch<binary_kernel<T, Arithmetics<compute_t<T>>, T>>(over(walk.size, stream), walk, f, left, right, z.as<T>());
}

template <Arithmetic op> void arithmetic(Operand x, Operand y, const Array& z, Stream stream) {
  const Array& array = operand_array(x, y);
  expect(z.dtype == array.dtype, "z must have the operands' dtype, got ", z, " and ", array);
  if (array.dtype == DType::i64 && op != Arithmetic::divide) return arithmetic_of<int64_t>({op}, x, y, z, stream);
  dispatch_floating(array, "x", [&](auto type) {
    using T = typename decltype(type)::type;
    arithmetic_of<T>({op}, x, y, z, stream);
  });
}
KDL_EXPORT_AS("add", arithmetic<Arithmetic::add>, "x", "y", "z")
KDL_EXPORT_AS("subtract", arithmetic<Arithmetic::subtract>, "x", "y", "z")
KDL_EXPORT_AS("multiply", arithmetic<Arithmetic::multiply>, "x", "y", "z")
KDL_EXPORT_AS("divide", arithmetic<Arithmetic::divide>, "x", "y", "z")

template <bool wanted> void equality(Operand x, Operand y, const Array& z, Stream stream) {
  const Array& array = operand_array(x, y);
  expect(z.dtype == DType::boolean, "z must be bool, got ", z);
  const Strided<3> walk({&z, x.array, y.array}, z);
  if (walk.size == 0) return;
  dispatch_all(array, [&](auto type) {
    using T = typename decltype(type)::type;
    launch<binary_kernel<T, Equality<number_t<T>>, bool>>(over(walk.size, stream), walk, Equality<number_t<T>>{wanted}, source<T>(x),
                                                          source<T>(y), z.as<bool>());
  });
}
KDL_EXPORT_AS("equal", equality<true>, "x", "y", "z")
KDL_EXPORT_AS("not_equal", equality<false>, "x", "y", "z")

// body(type) with the widest word in which the elements, of `item` bytes, can be moved: 16 bytes where strides and addresses allow it.
template <int arrays, class Body> void dispatch_words(Strided<arrays>& walk, int item, uintptr_t addresses, Body body) {
  int bytes = 16;
  while (bytes > item && (addresses % bytes != 0 || !walk.can_widen(bytes / item))) bytes /= 2;
  if (bytes > item) walk.widen(bytes / item);
  switch (bytes) {
    case 16: return body(Type<uint4>{});
    case 8: return body(Type<uint2>{});
    case 4: return body(Type<uint32_t>{});
    case 2: return body(Type<uint16_t>{});
    default: return body(Type<uint8_t>{});
  }
}

void copy(const Array& x, const Array& y, Stream stream) {
  Strided<2> walk({&y, &x}, y);
  if (walk.size == 0) return;
  if (x.dtype == y.dtype) {
    const uintptr_t addresses = reinterpret_cast<uintptr_t>(x.data) | reinterpret_cast<uintptr_t>(y.data);
    return dispatch_words(walk, dtype_bytes[static_cast<int>(x.dtype)], addresses, [&](auto type) {
      using Word = typename decltype(type)::type;
      launch<copy_kernel<Word>>(over(walk.size, stream), walk, y.as<Word>(), x.as<Word>());
    });
  }
  dispatch_all(x, [&](auto type) {
    using T = typename decltype(type)::type;
    launch<cast_kernel<T>>(over(walk.size, stream), walk, y.data, y.dtype, x.as<T>());
  });
}
KDL_EXPORT(copy, "x", "y")

// The number in the array's dtype, as often as it fits into 16 bytes.
uint4 pattern_of(const Array& y, const Operand& value) {
  unsigned char bytes[16];
  const auto put = [&](auto number) {
    for (size_t at = 0; at < sizeof(bytes); at += sizeof(number)) memcpy(bytes + at, &number, sizeof(number));
  };
  switch (y.dtype) {
    case DType::f16: put(__double2half(value.real)); break;
    case DType::bf16: put(__float2bfloat16_rn(static_cast<float>(value.real))); break;
    case DType::f32: put(static_cast<float>(value.real)); break;
    case DType::f64: put(value.real); break;
    case DType::i32: put(static_cast<int32_t>(value.integer)); break;
    case DType::i64: put(value.integer); break;
    case DType::u8: put(static_cast<uint8_t>(value.integer)); break;
    case DType::boolean: put(static_cast<uint8_t>(value.real != 0)); break;
  }
  uint4 pattern;
  memcpy(&pattern, bytes, sizeof(pattern));
  return pattern;
}

void fill(const Array& y, Operand value, Stream stream) {
  expect(!value.array, "value must be a number");
  Strided<1> walk({&y}, y);
  if (walk.size == 0) return;
  const uint4 pattern = pattern_of(y, value);
  dispatch_words(walk, dtype_bytes[static_cast<int>(y.dtype)], reinterpret_cast<uintptr_t>(y.data), [&](auto type) {
    using Word = typename decltype(type)::type;
    Word word;
    memcpy(&word, &pattern, sizeof(word));
    launch<fill_kernel<Word>>(over(walk.size, stream), walk, y.as<Word>(), word);
  });
}
KDL_EXPORT(fill, "y", "value")

}  // namespace kdl::elementwise
