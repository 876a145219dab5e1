"""What the PTX instructions return, recorded on a GPU and compared with the engine bit for bit.

    python -m tests.simt.golden record cuda     # where there is a GPU: writes tests/golden/ptx.npz
    python -m tests.simt.golden compare plain   # any build of the test kernels: plain, race, cuda

Inputs are small integers, for which every order of summation gives the same bits.
"""
import importlib
import os
import sys
from pathlib import Path

import numpy as np

from tests.simt import kernels_of

PATH = Path(__file__).parents[1] / "golden" / "ptx.npz"
FORMATS = ["float16", "bfloat16", "tf32"]


def cases():
    """Every conformance case: its name, its kernel, input arrays, the output filled with -1, and plain arguments."""
    rng = np.random.default_rng(11)
    for width in (4, 8, 16):
        x = rng.integers(1, 255, 32 * width).astype(np.uint8)
        for source in sorted({0, 1, width // 2, width - 1, width}):
            yield f"cp.async {width} {source}", "ptx_cp_async", [x], np.zeros_like(x) + 255, (width, source)
    x = rng.integers(0, 2**31 - 1, (32, 4)).astype(np.int32)
    for count in (1, 2, 4):
        for transposed in (False, True):
            y = np.full((32, count), -1, np.int32)
            yield f"ldmatrix x{count}{' trans' * transposed}", "ptx_ldmatrix", [x], y, (count, transposed)
    for number, name in enumerate(FORMATS):
        registers = [fragment(rng, (32, n), name) for n in (4, 2)]
        c = rng.integers(-50, 50, (32, 4)).astype(np.float32)
        yield f"mma {name}", "ptx_mma", [*registers, c], np.full((32, 4), -1, np.float32), (number,)
    edges = [0, -0.0, np.inf, -np.inf, 1 + 2**-11, -1 - 2**-11, 3.4e38]
    x = np.concatenate([rng.standard_normal(200) * 10.0 ** rng.integers(-40, 38, 200), edges])
    yield "cvt.rna.tf32", "ptx_cvt_rna_tf32", [x.astype(np.float32)], np.full(x.size, -1, np.int32), ()


def fragment(rng, shape, name):
    """Random small integers as 32-bit registers: pairs of halves, or floats."""
    import ml_dtypes
    if name == "tf32":
        return rng.integers(-9, 10, shape).astype(np.float32).view(np.int32)
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    return rng.integers(-9, 10, (shape[0], shape[1] * 2)).astype(dtype).view(np.int32)


def results(build):
    """The output of every case, by its name, from a build of the test kernels."""
    if build == "cuda":
        kernels, xp = importlib.import_module("tests.simt._planted_cuda"), importlib.import_module("cupy")
    else:
        kernels, xp = kernels_of(build), np
    found = {}
    for name, kernel, inputs, output, arguments in cases():
        y = xp.asarray(output)
        getattr(kernels, kernel)(*map(xp.asarray, inputs), y, *arguments)
        found[name] = y if xp is np else y.get()
    return found


def record(build):
    """Write the results of that build, whole or not at all."""
    PATH.parent.mkdir(exist_ok=True)
    partial = PATH.with_suffix(".tmp")
    with partial.open("wb") as file:
        np.savez_compressed(file, **results(build))
    os.replace(partial, PATH)


def compare(build):
    """The names of the cases whose results are not those recorded."""
    with np.load(PATH) as golden:
        found = results(build)
        return [name for name in found if name not in golden or golden[name].tobytes() != found[name].tobytes()]


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"] and len(sys.argv) == 3:
        record(sys.argv[2])
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) == 3:
        differing = compare(sys.argv[2])
        print("\n".join(f"differs: {name}" for name in differing) or "all results are those recorded")
        sys.exit(bool(differing))
    else:
        sys.exit(__doc__)
