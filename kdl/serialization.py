"""save and load: weights, optimiser, random state and plain values in one safetensors file, and never pickle.

Tensors and arrays become the file's tensors, named by their path ("model.conv1.weight"), so that any safetensors reader
finds them. How they are nested, and everything that is not a tensor, stands as JSON in the file's metadata under
"kdl", with a checksum over all of it: a changed byte is noticed before anything is used.
"""
import json
import os
import secrets
import zlib

import numpy as np

from kdl import types
from kdl.tensor import Tensor

__all__ = ["load", "save"]

_DTYPES = {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
           "float32", "float64"}


def save(obj, path):
    """Write tensors, arrays, numbers, strings, None, and dicts, lists and tuples of them to a safetensors file.

    The file is complete or not there: it is written beside its place, flushed to the disk and renamed, so that an
    interruption leaves an older file as it was. Raises TypeError for values of other kinds, naming where they stand,
    OSError where the file cannot be written.
    """
    path = os.fspath(path)
    arrays = {}
    tree = json.dumps(_encode(obj, "", arrays))
    content = json.dumps({"version": 1, "tree": tree, "crc32": _checksum(arrays, tree)})
    _write(path, arrays, {"kdl": content})


def load(path, device=None):
    """Read what `save` wrote, on the CPU or on the device; a safetensors file of other origin gives a dict of tensors.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    from safetensors import SafetensorError, safe_open
    path = os.fspath(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise FileNotFoundError(f"load: no such file: {path}") from None
    except (SafetensorError, OSError, AttributeError, TypeError) as error:
        raise ValueError(f"load: {path} cannot be read as a safetensors file: {error}") from None
    if "kdl" not in metadata:
        return {name: _foreign(path, name, array, device) for name, array in arrays.items()}
    try:
        content = json.loads(metadata["kdl"])
        version, tree, checksum = content["version"], content["tree"], content["crc32"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"load: {path} is damaged: its description cannot be read") from None
    if version != 1:
        raise ValueError(f"load: {path} has format version {version}; this version of kdl reads version 1")
    if checksum != _checksum(arrays, tree):
        raise ValueError(f"load: {path} is damaged: its checksum does not match its content")
    return _decode(json.loads(tree), arrays, device)


def _encode(value, path, arrays):
    """The value as JSON, with its tensors put into `arrays` and referred to by name.

    JSON objects have one key, the kind: "tensor" and "array" give a name, "tuple" a list, "dict" a list of pairs.
    """
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.name != "bfloat16" else float(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if hasattr(value, "keys"):
        return {"dict": [[_encode(key, "", None), _encode(value[key], f"{path}.{key}", arrays)] for key in value]}
    array = value.array if isinstance(value, Tensor) else value
    array = array.get() if hasattr(array, "__cuda_array_interface__") else array
    if arrays is None or not isinstance(array, np.ndarray) or array.dtype.name not in _DTYPES:
        known = isinstance(array, np.ndarray)
        kind = f"an array of {array.dtype}" if known else f"{type(value).__name__} {value!r:.60}"
        raise TypeError(f"save: expected tensors, arrays, numbers, strings, None, and dicts, lists and tuples of them, "
                        f"got {kind} at {path.removeprefix('.') or 'the top'}")
    name = path.removeprefix(".") or "value"
    while name in arrays or name == "__metadata__":
        name += "_"
    arrays[name] = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return {"tensor" if isinstance(value, Tensor) else "array": name}


def _decode(node, arrays, device):
    if isinstance(node, list):
        return [_decode(item, arrays, device) for item in node]
    if not isinstance(node, dict):
        return node
    (kind, content), = node.items()
    if kind == "tensor":
        return Tensor(arrays[content]) if device is None else Tensor(arrays[content]).to(device)
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple([_decode(item, arrays, device) for item in content])
    return {_decode(key, arrays, device): _decode(value, arrays, device) for key, value in content}


def _foreign(path, name, array, device):
    """A tensor of a file that `save` did not write."""
    try:
        types.as_dtype(array.dtype)
    except TypeError as error:
        raise ValueError(f"load: {path}: tensor {name!r} has no dtype of kdl's: {error}") from None
    return Tensor(array) if device is None else Tensor(array).to(device)


def _checksum(arrays, tree):
    """CRC-32 over the tree and every array's name, dtype, shape and bytes."""
    crc = zlib.crc32(tree.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8), crc)
    return crc


def _write(path, arrays, metadata):
    """Write the file under another name in the same directory, flush it, rename it, and flush the directory."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: no such directory: {folder}")
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            mode = os.fstat(file.fileno()).st_mode
        save_file(arrays, temporary, metadata)
        os.chmod(temporary, mode)  # save_file leaves it readable to its owner only
        _flush(temporary)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(f"save: cannot write {path}: {error}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    _flush(folder)


def _flush(path):
    """Have the system write a file's content, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
