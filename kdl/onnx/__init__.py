"""ONNX: networks written to the interchange format of inference runtimes, and read back to run on kdl's kernels.

`export` follows one forward call and writes what ran as a graph; `load` is a Module that runs a graph. Which operation
is which stands in three tables: `operations.py` and `layers.py` for the way out, `operators.py` for the way in.
"""
try:
    import onnx as _onnx
except ImportError as error:
    raise ImportError("kdl.onnx needs the onnx package: pip install 'kdl-kernels[onnx]'") from error

from kdl.onnx.export import export
from kdl.onnx.load import load

__all__ = ["export", "load"]
