// The export table. One KDL_EXPORT line per launcher records its Python name, its argument names and a typed call;
// bind.cpp turns the table into Python functions and knows no op. Plain C++: no CUDA and no Python header is needed here.
//
//   void max_pool2d_forward(const Array& x, const Array& y, Integers kernel_size, bool ceil_mode, Stream stream);
//   KDL_EXPORT(max_pool2d_forward, "x", "y", "kernel_size", "ceil_mode")
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kdl/array.h"

struct CUstream_st;

namespace kdl {

using Stream = CUstream_st*;
using OptionalArray = const Array*;  // nullptr where Python passed None
using Arrays = std::vector<Array>;    // a list of arrays; empty where Python passed None

// An array, or a number where Python passed one: then `array` is nullptr. `integer` is 0 for a number that is none.
struct Operand {
  const Array* array;
  double real;
  int64_t integer;
};

struct Integers {
  static constexpr int max_count = 8;
  int count;
  int64_t values[max_count];
  int64_t operator[](int i) const { return values[i]; }
};

// Scratch memory that the caller provides for the length of the launch; aligned to 256 bytes, contents undefined.
struct Workspace {
  void* data;
  int64_t bytes;
};

enum class Kind : uint8_t { array, optional_array, arrays, operand, integer, real, boolean, integers, workspace, stream };

// One converted argument. Only the members that its kind needs are set.
struct Value {
  Array array;
  bool present;
  Arrays arrays;
  int64_t integer;
  double real;
  bool boolean;
  Integers integers;
  Workspace workspace;
  Stream stream;
};

template <class T> struct Parameter;
template <> struct Parameter<const Array&> {
  static constexpr Kind kind = Kind::array;
  static const Array& get(const Value& v) { return v.array; }
};
template <> struct Parameter<OptionalArray> {
  static constexpr Kind kind = Kind::optional_array;
  static OptionalArray get(const Value& v) { return v.present ? &v.array : nullptr; }
};
template <> struct Parameter<const Arrays&> {
  static constexpr Kind kind = Kind::arrays;
  static const Arrays& get(const Value& v) { return v.arrays; }
};
template <> struct Parameter<Operand> {
  static constexpr Kind kind = Kind::operand;
  static Operand get(const Value& v) { return {v.present ? &v.array : nullptr, v.real, v.integer}; }
};
template <> struct Parameter<int64_t> {
  static constexpr Kind kind = Kind::integer;
  static int64_t get(const Value& v) { return v.integer; }
};
template <> struct Parameter<double> {
  static constexpr Kind kind = Kind::real;
  static double get(const Value& v) { return v.real; }
};
template <> struct Parameter<bool> {
  static constexpr Kind kind = Kind::boolean;
  static bool get(const Value& v) { return v.boolean; }
};
template <> struct Parameter<Integers> {
  static constexpr Kind kind = Kind::integers;
  static Integers get(const Value& v) { return v.integers; }
};
template <> struct Parameter<Workspace> {
  static constexpr Kind kind = Kind::workspace;
  static Workspace get(const Value& v) { return v.workspace; }
};
template <> struct Parameter<Stream> {
  static constexpr Kind kind = Kind::stream;
  static Stream get(const Value& v) { return v.stream; }
};

struct Export {
  const char* name;
  std::vector<const char*> arguments;  // the last one is always "stream", the one before it may be "workspace"
  std::vector<Kind> kinds;
  void (*call)(const Value* values);
  int64_t (*workspace_bytes)(const Value* values);  // nullptr without a workspace

  // Arguments that callers see: neither the workspace nor the stream, which are supplied for them.
  size_t visible() const { return arguments.size() - (workspace_bytes ? 2 : 1); }
};

inline std::vector<Export>& exports() {
  static std::vector<Export> table;
  return table;
}

template <auto function, class Result, class... Args, size_t... I>
Result call_with(const Value* values, Result (*)(Args...), std::index_sequence<I...>) {
  return function(Parameter<Args>::get(values[I])...);
}

template <auto function, class Result, class... Args> Result call_with(const Value* values, Result (*typed)(Args...)) {
  return call_with<function>(values, typed, std::index_sequence_for<Args...>{});
}

// `workspace_bytes` takes the launcher's arguments without workspace and stream, and returns how much the launcher needs.
template <auto launcher, auto workspace_bytes = nullptr> struct Exporter {
  static constexpr bool has_workspace = workspace_bytes != nullptr;

  template <class... Names> Exporter(const char* name, Names... names) { add(name, launcher, names...); }

 private:
  template <class... Args, class... Names> static void add(const char* name, void (*)(Args...), Names... names) {
    static_assert(sizeof...(Names) + 1 + has_workspace == sizeof...(Args),
                  "KDL_EXPORT: one name per argument; the workspace and the stream come last and have none");
    constexpr Kind kinds[] = {Parameter<Args>::kind...};
    static_assert(kinds[sizeof...(Args) - 1] == Kind::stream, "KDL_EXPORT: a launcher's last argument is its stream");
    Export e{name, {names...}, {Parameter<Args>::kind...}, [](const Value* values) { call_with<launcher>(values, launcher); }, nullptr};
    if constexpr (has_workspace) {
      static_assert(kinds[sizeof...(Args) - 2] == Kind::workspace, "KDL_EXPORT: the workspace is the last argument but one");
      e.arguments.push_back("workspace");
      e.workspace_bytes = [](const Value* values) { return call_with<workspace_bytes>(values, workspace_bytes); };
    }
    e.arguments.push_back("stream");
    exports().push_back(e);
  }
};

}  // namespace kdl

#define KDL_CONCAT_(a, b) a##b
#define KDL_CONCAT(a, b) KDL_CONCAT_(a, b)

// KDL_EXPORT_AS is for a launcher that is a template instance: KDL_EXPORT_AS("relu_forward", (forward<Relu>), "x", "y").
#define KDL_EXPORT_AS(name, launcher, ...) \
  static const ::kdl::Exporter<launcher> KDL_CONCAT(kdl_export_, __LINE__){name, __VA_ARGS__};
#define KDL_EXPORT(launcher, ...) KDL_EXPORT_AS(#launcher, launcher, __VA_ARGS__)

// For a launcher that takes a Workspace before its stream; `bytes` says how large it must be for the same arguments.
#define KDL_EXPORT_WITH_WORKSPACE(launcher, bytes, ...) \
  static const ::kdl::Exporter<launcher, bytes> KDL_CONCAT(kdl_export_, __LINE__){#launcher, __VA_ARGS__};
