// What code compiled with -fsanitize=undefined calls when it is about to do something undefined: instead of that sanitizer's library, a
// report of the engine. Every handler's first argument begins with the source location.
#include "kdl/error.h"
#include "simt/engine.h"

namespace {

struct Location {
  const char* file;
  uint32_t line, column;
};

[[noreturn]] void report(const char* what, const Location* at) {
  simt::fail(kdl::join("undefined behaviour at ", simt::describe({at->file, static_cast<int>(at->line)}), ": ", what));
}

}  // namespace

// One check for three faults; the pointer tells which.
struct Mismatch {
  Location at;
  const void* type;
  unsigned char log2_alignment;
};

[[noreturn]] static void report_mismatch(const Mismatch* found, uintptr_t pointer) {
  const bool misaligned = pointer & ((uintptr_t{1} << found->log2_alignment) - 1);
  report(!pointer ? "access through a null pointer" : misaligned ? "access through a misaligned pointer" : "access outside an object", &found->at);
}

extern "C" void __ubsan_handle_type_mismatch_v1(const Mismatch* found, uintptr_t pointer) { report_mismatch(found, pointer); }
extern "C" void __ubsan_handle_type_mismatch_v1_abort(const Mismatch* found, uintptr_t pointer) { report_mismatch(found, pointer); }

#define SIMT_HANDLER(name, what)                                                                  \
  extern "C" void __ubsan_handle_##name(const Location* at) { report(what, at); }                 \
  extern "C" void __ubsan_handle_##name##_abort(const Location* at) { report(what, at); }

SIMT_HANDLER(out_of_bounds, "index outside an array's dimension")
SIMT_HANDLER(pointer_overflow, "pointer arithmetic that overflows")
SIMT_HANDLER(shift_out_of_bounds, "shift by a negative or too large amount")
SIMT_HANDLER(add_overflow, "signed addition that overflows")
SIMT_HANDLER(sub_overflow, "signed subtraction that overflows")
SIMT_HANDLER(mul_overflow, "signed multiplication that overflows")
SIMT_HANDLER(negate_overflow, "negation that overflows")
SIMT_HANDLER(divrem_overflow, "division by zero, or one that overflows")
SIMT_HANDLER(load_invalid_value, "a bool or an enum with an invalid value")
SIMT_HANDLER(float_cast_overflow, "a floating number outside the range of the integer type")
SIMT_HANDLER(builtin_unreachable, "a point that was declared unreachable")
SIMT_HANDLER(missing_return, "the end of a function that returns a value")
SIMT_HANDLER(nonnull_arg, "null for an argument that must not be null")
SIMT_HANDLER(nonnull_return_v1, "null from a function that must not return it")
SIMT_HANDLER(vla_bound_not_positive, "an array without elements")
SIMT_HANDLER(invalid_builtin, "a builtin called with an invalid argument")
