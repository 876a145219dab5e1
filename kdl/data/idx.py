"""IDX files, the format of MNIST and Fashion-MNIST (described on the MNIST page), plain or gzip-compressed."""
import gzip
import struct
from pathlib import Path

import numpy as np

__all__ = ["read_idx", "read_mnist"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAMES = {"train images": "train-images-idx3-ubyte", "train labels": "train-labels-idx1-ubyte",
          "test images": "t10k-images-idx3-ubyte", "test labels": "t10k-labels-idx1-ubyte"}


def read_idx(path):
    """The array in an IDX file, gzip-compressed or not.

    The format: two zero bytes, a type code, the number of dimensions, the lengths as big-endian 32-bit integers, the
    elements. Raises ValueError naming the file and what is wrong with it, FileNotFoundError.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, ValueError) as error:
            raise ValueError(f"read_idx: {path} is a damaged gzip file: {error}") from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES:
        raise ValueError(f"read_idx: {path} is not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}, "
                         "expected 00 00 and a type code from 08 to 0e")
    dtype, ndim = np.dtype(_DTYPES[raw[2]]), raw[3]
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise ValueError(f"read_idx: {path} is cut short: {len(raw)} bytes, the header alone has {start}")
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise ValueError(f"read_idx: {path} has {len(raw)} bytes, its header {shape} promises {expected}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_mnist(folder):
    """(train images, train labels, test images, test labels) of MNIST or Fashion-MNIST, as uint8 arrays.

    `folder` holds the four files under their published names, each plain or with `.gz`. Raises FileNotFoundError
    naming what is missing, ValueError for files that do not belong together.
    """
    folder, parts = Path(folder), {}
    for part, name in _NAMES.items():
        found = [path for path in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx"))
                 if path.exists()]
        if not found:
            raise FileNotFoundError(f"read_mnist: {folder} has no {name} or {name}.gz; it needs "
                                    f"{', '.join(_NAMES.values())}")
        parts[part] = read_idx(found[0])
    for half in ("train", "test"):
        images, labels = parts[f"{half} images"], parts[f"{half} labels"]
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(f"read_mnist: expected {half} images (N, H, W) and labels (N,) in {folder}, "
                             f"got {images.shape} and {labels.shape}")
    return tuple(parts.values())
