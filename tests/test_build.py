"""The compiled kernels: the rules their source keeps, and what the extension promises on a machine without a GPU."""
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import cuda

CSRC = Path(__file__).parent.parent / "csrc"
SOURCES = sorted(p for suffix in ("*.cu", "*.cuh", "*.h", "*.inc", "*.cpp") for p in CSRC.rglob(suffix))
DEVICE_CODE = [p for p in SOURCES if p.parent.name in ("ops", "kdl")]  # runs on the GPU, and through csrc/simt without
FAMILIES = [p for p in SOURCES if p.parent.name == "ops" and p.suffix == ".cu"]
HEADER_FIELDS = ["What", "Maths", "Traffic", "Tiling", "Numerics", "Limits", "Measured"]

# What may stand in the named files alone: kernels must also run without a GPU, and repeat themselves bit for bit.
RULES = {
    r"\basm\b": ("inline assembly", ["ptx.cuh"]),
    r"__CUDA_ARCH__": ("differences between architectures", ["device.h", "ptx.cuh"]),
    r"__shared__": ("bare shared memory: use KDL_SHARED or KDL_DYN_SHARED", ["device.h"]),
    r"<<<|cudaLaunchKernel": ("starting a kernel: use kdl::launch", ["launch.h"]),
    r"\bvolatile\b": ("volatile: spin through the yielding wrappers", ["ptx.cuh"]),
    r"\batomic(Add|Sub|Max|Min)\b": ("atomics: sums must have one fixed order", []),
    r"cuda(Malloc|Free|Memcpy|DeviceSynchronize|StreamSynchronize)": ("allocating and waiting in a launcher", []),
}

built = pytest.mark.skipif(cuda.problem() is not None and "not built" in cuda.problem(), reason=cuda.problem() or "")


def code(path):
    """The source without its comments and string literals."""
    text = re.sub(r'"(\\.|[^"\\\n])*"', '""', path.read_text())
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("pattern", RULES, ids=[reason for reason, _ in RULES.values()])
def test_device_code_keeps_the_rules(pattern):
    reason, allowed = RULES[pattern]
    broken = [p.name for p in DEVICE_CODE if p.name not in allowed and re.search(pattern, code(p))]
    assert broken == [], reason


@pytest.mark.parametrize("path", FAMILIES, ids=lambda p: p.name)
def test_a_family_starts_with_the_seven_fields(path):
    header = re.match(r"(//[^\n]*\n)+", path.read_text()).group().splitlines()
    assert [line.split()[1] for line in header if not line.startswith("//  ")] == HEADER_FIELDS
    assert len(header) <= 30
    assert all(line.split()[2:] for line in header if not line.startswith("//  ")), "a field is empty"


def test_no_source_file_outgrows_its_story():
    assert {p.name: n for p in SOURCES if (n := len(p.read_text().splitlines())) > 450} == {}


@built
def test_extension_imports_without_a_driver():
    """In a fresh process that must not touch the CUDA driver or CuPy."""
    script = ("import sys; from kdl.kernels import cuda, _cuda; cuda.functions(); assert 'cupy' not in sys.modules; "
              "assert 'libcuda.so' not in open('/proc/self/maps').read(); print(len(_cuda.signatures))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CSRC.parent)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@built
def test_extension_is_of_this_version_and_names_its_architectures():
    import kdl
    from kdl.kernels import _cuda
    assert _cuda.version == kdl.__version__
    assert re.search(r"native|\d+-(real|virtual)", _cuda.architectures)


@built
def test_signatures_are_those_of_the_reference_kernels():
    reference = kernels.get("reference").functions
    from kdl.kernels import _cuda
    for name, arguments in _cuda.signatures.items():
        assert name in reference, f"{name} is exported by csrc/ops, but kdl/kernels/reference has no such kernel"
        assert arguments == tuple(inspect.signature(reference[name]).parameters), name
        assert tuple(inspect.signature(getattr(cuda, name)).parameters) == arguments


@built
def test_an_unknown_kernel_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no kernel 'no_such_kernel'"):
        cuda.no_such_kernel  # noqa: B018


@built
@pytest.mark.skipif(cuda.available(), reason="this machine has a GPU")
def test_without_a_gpu_the_error_says_so():
    x = np.ones(3, np.float32)
    with pytest.raises(RuntimeError, match=r"^no CUDA GPU: the driver reports \w+|^CuPy is not installed"):
        cuda.relu_forward(x, x)


def test_a_missing_extension_says_how_to_build_it(monkeypatch):
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="reinstall with nvcc on PATH"):
        cuda._extension.__wrapped__()


class Stub:
    """An array of the CUDA array protocol that owns no memory."""

    def __init__(self, shape, dtype="float32", strides=None):
        self.dtype = np.dtype(dtype)
        self.__cuda_array_interface__ = {"data": (4096, False), "shape": shape, "typestr": self.dtype.str,
                                         "strides": strides, "version": 3}


BAD_CALLS = [
    ("relu_forward", (Stub((2,)), 3), {}, TypeError, "relu_forward: y must be a GPU array, got int"),
    ("relu_forward", (Stub((2,)), np.ones(2)), {}, TypeError, "relu_forward: y must be a GPU array, got numpy.ndarray"),
    ("relu_forward", (Stub((2,)),), {}, TypeError, "relu_forward(x, y) misses its argument y"),
    ("relu_forward", (Stub((2,)),) * 4, {}, TypeError, "relu_forward(x, y) takes 2 arguments, got 4"),
    ("relu_forward", (Stub((2,)),), {"z": 1}, TypeError, "relu_forward(x, y) has no argument z"),
    ("relu_forward", (Stub((2,)),), {"x": 1}, TypeError, "relu_forward(x, y) got two values for x"),
    ("relu_forward", (Stub((2,), "complex64"),) * 2, {}, TypeError,
     "relu_forward: x has dtype complex64, which no kernel takes"),
    ("relu_forward", (Stub((2, 3)), Stub((3, 2))), {}, ValueError,
     "relu_forward: x and y must share dtype and shape, got x float32 (2, 3), y float32 (3, 2)"),
    ("relu_forward", (Stub((2, 3)), Stub((2, 3), strides=(4, 8))), {}, ValueError,
     "relu_forward: x and y must be dense and laid out alike in memory, got x float32 (2, 3), y float32 (2, 3)"),
    ("relu_forward", (Stub((4,), "int32"),) * 2, {}, ValueError,
     "relu_forward: x must be float16, bfloat16, float32 or float64, got int32 (4,)"),
    ("leaky_relu_forward", (Stub((2,)), Stub((2,)), "a"), {}, TypeError,
     "leaky_relu_forward: negative_slope must be a number, got str"),
    ("prelu_forward", (Stub((2, 3, 4)), Stub((4,)), Stub((2, 3, 4))), {}, ValueError,
     "prelu_forward: weight must have x's dtype and x.shape[1] elements, got weight float32 (4,), x float32 (2, 3, 4)"),
    ("glu_forward", (Stub((2, 3, 4)), Stub((2, 4))), {}, ValueError,
     "glu_forward: x must be (outer, 2, inner) and y (outer, inner) of one dtype, "
     "got x float32 (2, 3, 4), y float32 (2, 4)"),
]


@built
@pytest.mark.parametrize("name, args, kwargs, error, message", BAD_CALLS, ids=[c[4][:60] for c in BAD_CALLS])
def test_a_bad_argument_is_named(name, args, kwargs, error, message):
    from kdl.kernels import _cuda
    with pytest.raises(error) as caught:
        getattr(_cuda, name)(*args, **kwargs)
    assert str(caught.value) == message


@built
def test_empty_arrays_launch_nothing():
    from kdl.kernels import _cuda
    _cuda.relu_forward(Stub((0, 3)), Stub((0, 3)))
    _cuda.glu_forward(Stub((3, 2, 0)), Stub((3, 0)))


@built
@pytest.mark.skipif(cuda.available(), reason="this machine has a GPU")
def test_a_failed_launch_names_the_kernel_and_the_line():
    from kdl.kernels import _cuda
    with pytest.raises(RuntimeError, match=r"^relu_forward: launch of map_kernel<.*Relu.* failed at csrc/kdl/map.h:"):
        _cuda.relu_forward(Stub((4,)), Stub((4,)))
