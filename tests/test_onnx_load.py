"""kdl.onnx.load: graphs that others made, of operators and attributes old and new."""
import importlib
import warnings

import numpy as np
import pytest

import kdl
from tests import test_models

onnx = pytest.importorskip("onnx", reason="pip install 'kdl-kernels[onnx]'")
from onnx import helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.test_onnx import IMAGE, X, assert_agree, floats, run  # noqa: E402


def graph(nodes, arrays, constants, opset, outputs=1, domain=""):
    """A model of nodes (operator, inputs, outputs, attributes), whose constants are initializers."""
    value = lambda name, x: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    made = [helper.make_node(op, ins.split(), outs.split(), domain=domain, **attributes)
            for op, ins, outs, attributes in nodes]
    results = [helper.make_tensor_value_info(f"y{i}" if i else "y", 1, None) for i in range(outputs)]
    return helper.make_model(helper.make_graph(
        made, "graph", [value(name, x) for name, x in arrays.items()], results,
        [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]),
        opset_imports=[helper.make_opsetid("", opset)])


OTHERS = {
    "old attributes": ([("Unsqueeze", "x", "a", {"axes": [0]}), ("Slice", "a", "b", {"starts": [1], "ends": [9],
                       "axes": [2]}), ("ReduceSum", "b", "c", {"axes": [3], "keepdims": 0}),
                       ("Squeeze", "c", "y", {"axes": [0]})], {}, 9, lambda x: x[:, 1:].sum(2)),
    "auto_pad": ([("Conv", "x w", "a", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
                  ("MaxPool", "a", "y", {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 2]})],
                 {"w": floats(3, 4, 2, 2)}, 17, None),
    "padding at one end": ([("Conv", "x w", "a", {"pads": [0, 1, 2, 0]}), ("AveragePool", "a", "b", {
        "kernel_shape": [2, 2], "pads": [1, 0, 0, 0]}), ("ConvTranspose", "b v", "y", {"pads": [1, 0, 0, 1],
        "strides": [2, 2]})], {"w": floats(3, 4, 2, 2), "v": floats(3, 2, 3, 3)}, 17, None),
    "shapes computed": ([("Shape", "x", "s", {}), ("Gather", "s i", "n", {}), ("Concat", "n m", "t", {"axis": 0}),
                         ("Reshape", "x t", "y", {})], {"i": [0], "m": [-1]}, 17, None),
    "Gemm transposed": ([("Flatten", "x", "f", {}), ("Gemm", "f w b", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0})],
                        {"w": floats(3, 252), "b": floats(3)}, 17, None),
    "counting from behind": ([("Slice", "x s e a t", "b", {}), ("Softmax", "b", "c", {"axis": 1}), (
        "ReduceMean", "c", "d", {"axes": [-1]}), ("Transpose", "d", "y", {})],
        {"s": [-1, 6], "e": [-9999, 0], "a": [2, -1], "t": [-2, -1]}, 17, None),
    "DepthToSpace": ([("DepthToSpace", "x", "y", {"blocksize": 2})], {}, 17, None),
    "LRN": ([("LRN", "x", "y", {"size": 3, "alpha": 0.3})], {}, 17, lambda x: x / (1 + 0.1 * sum(  # the reference errs
        np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))[:, i:i + 4] for i in range(3)))**0.75),
    "clips": ([("Clip", "x low", "b", {}), ("Pad", "b p", "c", {"mode": "edge"}),
               ("GlobalMaxPool", "c", "y", {})], {"low": np.float32(-0.5), "p": [0, 0, 1, 0, 0, 0, 0, 2]}, 17, None),
    "scattered": ([("ScatterND", "x i u", "a", {}), ("GatherND", "a i", "b", {}), ("Mod", "b two", "c", {"fmod": 1}), (
        "CumSum", "c axis", "y", {"exclusive": 1, "reverse": 1})],
        {"i": [[0, 1], [1, 3]], "u": floats(2, 9, 7), "two": np.float32(2), "axis": np.int64(1)}, 17, None),
    "ranges": ([("Range", "zero five two", "r", {}), ("ConstantOfShape", "shape", "o", {
        "value": onnx.numpy_helper.from_array(np.array([2.5], np.float32))}), ("Mul", "o r", "a", {}), (
            "ReduceMax", "x", "m", {"keepdims": 0}), ("Add", "a m", "y", {})],
        {"zero": np.float32(0), "five": np.float32(5), "two": np.float32(2), "shape": [2, 3]}, 17, None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_graph_that_was_made_elsewhere(name):
    nodes, constants, opset, formula = OTHERS[name]
    x = IMAGE if name != "old attributes" else X
    proto = graph(nodes, {"x": x}, constants, opset)
    got = run(kdl.onnx.load(proto), [x])
    wanted = [formula(x)] if formula else ReferenceEvaluator(proto).run(None, {"x": x})
    assert_agree(got, wanted, name)


def test_an_operator_that_kdl_does_not_know():
    proto = graph([("Det", "x", "a", {}), ("NonMaxSuppression", "a a", "y", {})], {"x": X}, {}, 17)
    with pytest.raises(ValueError, match="got missing Det, NonMaxSuppression"):
        kdl.onnx.load(proto)
    with pytest.raises(ValueError, match=r"missing com\.example\.Thing"):
        kdl.onnx.load(graph([("Thing", "x", "y", {})], {"x": X}, {}, 17, domain="com.example"))


def test_an_error_names_the_node():
    proto = graph([("MatMul", "x w", "y", {"name": "the product"})], {"x": X}, {"w": floats(3, 3)}, 17)
    with pytest.raises(ValueError, match="matmul") as error:
        kdl.onnx.load(proto)(kdl.from_numpy(X))
    assert any("the product" in note for note in error.value.__notes__)


@pytest.mark.parametrize("name", [name for name in test_models.CASES if name != "GAT"])  # torch cannot write index_add
def test_a_network_that_torch_wrote(name, tmp_path):
    torch = pytest.importorskip("torch")
    module, make, inputs = test_models.CASES[name]
    for part in ("mlp", module):  # generative is made of mlp
        twin = test_models.torch_twin(f"kdl.models.{part}")
    theirs, ours = make(twin).eval(), make(importlib.import_module(f"kdl.models.{module}")).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(theirs, tuple(torch.from_numpy(np.array(x)) for x in inputs), tmp_path / "torch.onnx",
                          dynamo=False, opset_version=17, do_constant_folding=False)
    loaded = kdl.onnx.load(tmp_path / "torch.onnx")
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    assert_agree(run(loaded, inputs), run(ours, inputs), name)
