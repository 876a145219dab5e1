"""Arrays of more than 2**31 elements: the last block of a kernel alone, on memory that exists where it is touched."""
import numpy as np
import pytest

from kdl import kernels
from kdl.kernels import simt
from tests.simt import configured, sparse

if not simt.available():
    pytest.skip(simt.problem(), allow_module_level=True)

HALF, IMAGES = np.float16, 2**21 + 1
WHOLE = 2**31 + 2**14  # whole blocks: what is left over is not the last one's
PLANES = (IMAGES, 2, 512)
# Kernel, input and output arrays as (name, shape, dtype), plain parameters. The first has more than 2**31 elements.
# Batch normalisation is not here: it walks from the end, so that its last block is at the beginning.
CALLS = [
    ("relu_forward", [("x", (WHOLE,), HALF)], [("y", (WHOLE,), HALF)], {}),
    ("silu_backward", [("x", (WHOLE,), HALF), ("gy", (WHOLE,), HALF)], [("gx", (WHOLE,), HALF)], {}),
    ("prelu_forward", [("x", PLANES, HALF), ("weight", (2,), HALF)], [("y", PLANES, HALF)], {}),
    ("softmax_forward", [("x", (2**22 + 3, 512, 1), HALF)], [("y", (2**22 + 3, 512, 1), HALF)], {}),
    ("log_softmax_forward", [("x", (IMAGES, 32, 32), HALF)], [("y", (IMAGES, 32, 32), HALF)], {}),
    ("avg_pool2d_forward", [("x", (IMAGES, 1, 32, 32), HALF)], [("y", (IMAGES, 1, 16, 16), HALF)],
     {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "count_include_pad": True, "divisor_override": 0}),
    ("matmul_forward", [("a", (1, 2**22 + 3, 512), HALF), ("b", (1, 512, 4), HALF)],
     [("y", (1, 2**22 + 3, 4), HALF)], {"tf32": False}),
]


@pytest.mark.parametrize("kernel, inputs, outputs, parameters", CALLS, ids=[call[0] for call in CALLS])
def test_the_end_of_an_array_past_two_billion_elements(kernel, inputs, outputs, parameters, rng):
    arrays = {name: sparse(shape, dtype) for name, shape, dtype in inputs + outputs}
    for name, _, _ in inputs:
        part = tail(arrays[name])
        part[...] = rng.uniform(0.5, 2, part.shape)
    with configured(last_block=True):
        simt.functions()[kernel](**arrays, **parameters)

    small = {name: tail(array).copy() for name, array in arrays.items()}
    got = small[outputs[0][0]].copy()
    kernels.get("reference").functions[kernel](**small, **parameters)
    expected = small[outputs[0][0]]
    last = expected.reshape(-1)[-1]
    assert last != 0 and abs(float(got.reshape(-1)[-1]) - float(last)) <= 2e-3 * max(1, abs(float(last)))


def tail(array):
    """The last of an array's outermost parts, or its last elements; a small array whole."""
    if array.size < 2**16:
        return array
    axis = next(i for i, n in enumerate(array.shape) if n > 1)
    return array[(slice(None),) * axis + (slice(-1, None) if array.ndim > 1 else slice(-8, None),)]
