// One generic binding for every exported launcher: a loop over the export table. It knows no op.
// The same file makes every flavour of the extension; KDL_MODULE names it and KDL_ARRAY_PROTOCOL says which arrays it takes.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>

#include "kdl/backend.h"
#include "kdl/error.h"
#include "kdl/explain.h"
#include "kdl/export.h"

namespace py = pybind11;

namespace {

using kdl::Export;
using kdl::Kind;
using kdl::Value;

constexpr size_t max_arguments = 24;

std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

[[noreturn]] void wrong_type(const Export& op, const char* argument, const char* wanted, py::handle got) {
  throw py::type_error(kdl::join(op.name, ": ", argument, " must be ", wanted, ", got ", type_name(got)));
}

kdl::DType to_dtype(const Export& op, const char* argument, py::handle object, const std::string& typestr) {
  static constexpr struct { const char* code; kdl::DType dtype; } known[] = {
      {"<f4", kdl::DType::f32}, {"<f8", kdl::DType::f64}, {"<f2", kdl::DType::f16}, {"<i4", kdl::DType::i32},
      {"<i8", kdl::DType::i64}, {"|u1", kdl::DType::u8},  {"|b1", kdl::DType::boolean}};
  for (const auto& entry : known)
    if (typestr == entry.code) return entry.dtype;
  const std::string name = py::str(object.attr("dtype").attr("name"));
  if (name == "bfloat16") return kdl::DType::bf16;  // NumPy knows it only as two opaque bytes
  throw py::type_error(kdl::join(op.name, ": ", argument, " has dtype ", name, ", which no kernel takes"));
}

// Both array protocols, NumPy's and CUDA's, are a dictionary with the same keys.
kdl::Array to_array(const Export& op, const char* argument, py::handle object) {
  PyObject* found = PyObject_GetAttrString(object.ptr(), KDL_ARRAY_PROTOCOL);
  if (!found) {
    PyErr_Clear();
    wrong_type(op, argument, KDL_ARRAY_NAME, object);
  }
  const py::dict interface = py::reinterpret_steal<py::dict>(found);
  const py::tuple shape = interface["shape"];

  kdl::Array array;
  if (shape.size() > kdl::Array::max_rank)
    throw py::value_error(kdl::join(op.name, ": ", argument, " has ", shape.size(), " dimensions, the limit is ", kdl::Array::max_rank));
  array.data = reinterpret_cast<void*>(interface["data"].cast<py::tuple>()[0].cast<uintptr_t>());
  array.dtype = to_dtype(op, argument, object, interface["typestr"].cast<std::string>());
  array.ndim = static_cast<int>(shape.size());
  for (int d = 0; d < array.ndim; ++d) array.shape[d] = shape[d].cast<int64_t>();

  const py::object strides = interface.contains("strides") ? py::object(interface["strides"]) : py::none();
  const int64_t item = kdl::dtype_bytes[static_cast<int>(array.dtype)];
  int64_t contiguous = 1;
  for (int d = array.ndim - 1; d >= 0; --d) {
    const int64_t bytes = strides.is_none() ? contiguous * item : py::tuple(strides)[d].cast<int64_t>();
    if (bytes % item != 0)
      throw py::value_error(kdl::join(op.name, ": ", argument, " has a stride of ", bytes, " bytes, no multiple of its element size ", item));
    array.strides[d] = bytes / item;
    contiguous *= array.shape[d];
  }
  return array;
}

kdl::Arrays to_arrays(const Export& op, const char* argument, py::handle object) {
  kdl::Arrays arrays;
  if (object.is_none()) return arrays;
  if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) wrong_type(op, argument, "a list of arrays or None", object);
  for (const py::handle item : object) arrays.push_back(to_array(op, argument, item));
  return arrays;
}

int64_t to_integer(const Export& op, const char* argument, py::handle object) {
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  const int64_t value = index ? PyLong_AsLongLong(index.ptr()) : -1;
  if (!PyErr_Occurred()) return value;
  PyErr_Clear();
  wrong_type(op, argument, "an integer of at most 64 bits", object);
}

double to_real(const Export& op, const char* argument, py::handle object) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (!PyErr_Occurred()) return value;
  PyErr_Clear();
  wrong_type(op, argument, "a number", object);
}

bool to_boolean(const Export& op, const char* argument, py::handle object) {
  if (PyBool_Check(object.ptr()) || type_name(object) == "numpy.bool") return PyObject_IsTrue(object.ptr());
  wrong_type(op, argument, "a bool", object);
}

kdl::Integers to_integers(const Export& op, const char* argument, py::handle object) {
  if (!PyTuple_Check(object.ptr()) && !PyList_Check(object.ptr())) wrong_type(op, argument, "a tuple of integers", object);
  const py::sequence items = py::reinterpret_borrow<py::sequence>(object);
  kdl::Integers integers;
  if (items.size() > kdl::Integers::max_count)
    throw py::value_error(kdl::join(op.name, ": ", argument, " has ", items.size(), " items, the limit is ", kdl::Integers::max_count));
  integers.count = static_cast<int>(items.size());
  for (int i = 0; i < integers.count; ++i) integers.values[i] = to_integer(op, argument, py::object(items[i]));
  return integers;
}

void convert(const Export& op, size_t i, py::handle object, Value& value) {
  const char* argument = op.arguments[i];
  switch (op.kinds[i]) {
    case Kind::array: value.array = to_array(op, argument, object); break;
    case Kind::optional_array:
      value.present = !object.is_none();
      if (value.present) value.array = to_array(op, argument, object);
      break;
    case Kind::operand:
      value.present = !PyFloat_Check(object.ptr()) && !PyLong_Check(object.ptr());
      if (value.present) value.array = to_array(op, argument, object);
      else value.real = to_real(op, argument, object);
      value.integer = PyLong_Check(object.ptr()) ? to_integer(op, argument, object) : 0;
      break;
    case Kind::arrays: value.arrays = to_arrays(op, argument, object); break;
    case Kind::integer: value.integer = to_integer(op, argument, object); break;
    case Kind::real: value.real = to_real(op, argument, object); break;
    case Kind::boolean: value.boolean = to_boolean(op, argument, object); break;
    case Kind::integers: value.integers = to_integers(op, argument, object); break;
    case Kind::workspace: break;  // never given by callers
    case Kind::stream: value.stream = reinterpret_cast<kdl::Stream>(to_integer(op, argument, object)); break;
  }
}

// As callers see it: the workspace and the stream are supplied for them.
std::string signature(const Export& op) {
  std::string text = op.name;
  for (size_t i = 0; i < op.visible(); ++i) text += kdl::join(i ? ", " : "(", op.arguments[i]);
  return text + ")";
}

// Scratch memory from the module's `allocate(bytes)`, which whoever loads the module sets; the array must live until the launch returns.
py::object make_workspace(py::handle module, const Export& op, int64_t bytes, Value& value) {
  value.workspace = {nullptr, bytes};
  if (bytes == 0) return py::none();
  const py::object buffer = module.attr("allocate")(bytes);
  value.workspace.data = to_array(op, "workspace", buffer).data;
  return buffer;
}

void call(py::handle module, const Export& op, const py::args& positional, const py::kwargs& named) {
  const size_t count = op.arguments.size();
  if (positional.size() > op.visible())
    throw py::type_error(kdl::join(signature(op), " takes ", op.visible(), " arguments, got ", positional.size()));

  py::handle given[max_arguments] = {};
  for (size_t i = 0; i < positional.size(); ++i) given[i] = positional[i];
  for (const auto& item : named) {
    const std::string name = item.first.cast<std::string>();
    const auto slot = std::find(op.arguments.begin(), op.arguments.end(), name) - op.arguments.begin();
    if (static_cast<size_t>(slot) == count) throw py::type_error(kdl::join(signature(op), " has no argument ", name));
    if (given[slot]) throw py::type_error(kdl::join(signature(op), " got two values for ", name));
    given[slot] = item.second;
  }

  Value values[max_arguments];
  for (size_t i = 0; i < count; ++i) {
    if (given[i]) convert(op, i, given[i], values[i]);
    else if (op.kinds[i] == Kind::stream) values[i].stream = nullptr;  // the default stream
    else if (op.kinds[i] != Kind::workspace) throw py::type_error(kdl::join(signature(op), " misses its argument ", op.arguments[i]));
  }

  try {
    py::object workspace;
    if (op.workspace_bytes) workspace = make_workspace(module, op, op.workspace_bytes(values), values[op.visible()]);
    py::gil_scoped_release other_threads_may_run;  // a launch blocks while the stream's queue is full
    kdl::run(op, values);
  } catch (const kdl::ArgumentError& error) {
    throw py::value_error(kdl::join(op.name, ": ", error.what()));
  } catch (const kdl::DeviceError& error) {
    throw std::runtime_error(kdl::join(op.name, ": ", error.what()));
  }
}

// What the launchers say of themselves while function(*args, **kwargs) runs; its kernels are not started.
std::string explain(const py::function& function, const py::args& args, const py::kwargs& kwargs) {
  struct Listening {
    std::string text;
    Listening() { kdl::explanation() = &text; }
    ~Listening() { kdl::explanation() = nullptr; }
  } listening;
  function(*args, **kwargs);
  return listening.text;
}

}  // namespace

PYBIND11_MODULE(KDL_MODULE, module) {
  py::dict signatures;
  for (const Export& op : kdl::exports()) {
    if (op.arguments.size() > max_arguments) throw py::import_error(kdl::join(op.name, " has more than ", max_arguments, " arguments"));
    if (signatures.contains(op.name)) throw py::import_error(kdl::join(op.name, " is exported twice"));
    const std::string doc = signature(op);
    const auto caller = [&op, owner = py::handle(module)](const py::args& positional, const py::kwargs& named) { call(owner, op, positional, named); };
    module.attr(op.name) = py::cpp_function(caller, py::name(op.name), py::doc(doc.c_str()));
    py::tuple names(op.visible());
    for (size_t i = 0; i < names.size(); ++i) names[i] = op.arguments[i];
    signatures[op.name] = names;
  }
  module.attr("signatures") = signatures;
  module.attr("architectures") = KDL_ARCHITECTURES;
  module.attr("version") = KDL_VERSION;
  module.def("device_count", &kdl::device_count);
  module.def("compute_capability", &kdl::compute_capability);
  module.def("set_option", &kdl::set_option);
  module.def("counter", &kdl::counter);
  module.def("explain", &explain);
  module.def("force_tile", [](const std::string& row, int splits) { kdl::forced_tile() = {row, splits}; });
}
