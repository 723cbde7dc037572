"""The arrays of a file that torch saved, read with NumPy alone: importing torch costs seconds, reading a file need not.

The format is a ZIP archive of ``data.pkl``, which names storages, and of their bytes, ``data/<key>``
(``torch.serialization``). The pickle may name nothing but what rebuilds a tensor and its storages; anything else is
refused, as ``torch.load(weights_only=True)`` refuses it.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
            "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1",
            "BoolStorage": "|b1"}
"""Names of torch's storages and the NumPy types of their elements."""


class _Storage:
    """A storage's type as the pickle names it."""

    def __init__(self, name: str) -> None:
        self.dtype = np.dtype(STORAGES[name])


class _Reader(pickle.Unpickler):
    """Unpickles tensors as arrays; every other global is refused."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a file of tensors needs."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return _Storage(name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The elements of a storage, which the pickle names ``('storage', type, key, device, count)``."""
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"{kind} is no storage")
        flat = np.frombuffer(self.archive.read(f"{self.folder}data/{key}"), storage.dtype)
        if len(flat) < count:
            raise ValueError("a storage is shorter than its tensors")
        return flat


def _rebuilt(storage: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> np.ndarray:
    """A copy of the part of a storage that a tensor shows."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if 0 not in size else offset - 1
    if offset < 0 or last >= len(storage) or any(step < 0 for step in stride):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), strides).copy()


def read_torch_arrays(data: bytes) -> Any:
    """What was saved, with NumPy arrays for tensors.

    Raises UnpicklingError for content that is more than tensors, names and numbers, and for tensors of a type that
    NumPy lacks; ValueError or LookupError for a torn archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            folder = pickles[0].removesuffix("data.pkl")
            order = f"{folder}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError("the file was written by a big-endian machine")
            return _Reader(archive, folder).load()
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from None
