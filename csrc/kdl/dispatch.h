// From a run-time dtype to a compile-time type, and the type in which that dtype is computed.
//
//   dispatch_floating(x, "x", [&](auto type) { using T = typename decltype(type)::type; ... });
#pragma once
#include "kdl/array.h"
#include "kdl/device.h"
#include "kdl/error.h"
#include "kdl/type.h"

namespace kdl {

template <class Body> void dispatch_floating(const Array& array, const char* name, Body body) {
  switch (array.dtype) {
    case DType::f32: return body(Type<float>{});
    case DType::f64: return body(Type<double>{});
    case DType::f16: return body(Type<__half>{});
    case DType::bf16: return body(Type<__nv_bfloat16>{});
    default: expect(false, name, " must be float16, bfloat16, float32 or float64, got ", array);
  }
}

template <class Body> void dispatch_all(const Array& array, Body body) {
  switch (array.dtype) {
    case DType::i32: return body(Type<int32_t>{});
    case DType::i64: return body(Type<int64_t>{});
    case DType::u8:
    case DType::boolean: return body(Type<uint8_t>{});  // a bool is a byte, 0 or 1
    default: dispatch_floating(array, "x", body);
  }
}

// Half types are stored in two bytes and computed in float.
template <class T> struct Compute { using type = T; };
template <> struct Compute<__half> { using type = float; };
template <> struct Compute<__nv_bfloat16> { using type = float; };
template <class T> using compute_t = typename Compute<T>::type;

KDL_FN float to_compute(float x) { return x; }
KDL_FN double to_compute(double x) { return x; }
KDL_FN float to_compute(__half x) { return __half2float(x); }
KDL_FN float to_compute(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T> KDL_FN T from_compute(compute_t<T> x) { return x; }
template <> KDL_FN __half from_compute<__half>(float x) { return __float2half_rn(x); }
template <> KDL_FN __nv_bfloat16 from_compute<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

// The same for every dtype: integers and bools are computed in int64.
KDL_FN int64_t to_number(int64_t x) { return x; }
KDL_FN int64_t to_number(int32_t x) { return x; }
KDL_FN int64_t to_number(uint8_t x) { return x; }
template <class T> KDL_FN compute_t<T> to_number(T x) { return to_compute(x); }
template <class T> using number_t = decltype(to_number(T()));

}  // namespace kdl
