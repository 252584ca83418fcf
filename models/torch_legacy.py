"""Reads a state dict that PyTorch before 1.6 wrote, without PyTorch.

Such a file is five pickles (magic number, protocol, system, the dict, the storage keys), then for each key the number of
elements and the raw elements. A pickle can name any function to call, so the reader knows four names and refuses the rest.
"""

import pickle
import struct
from collections import OrderedDict

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4"}


class _StateDictUnpickler(pickle.Unpickler):
    """Leaves tensors as (storage key, offset, shape, strides) until the storages are read."""

    def __init__(self, file):
        super().__init__(file)
        self.element_types = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"a state dict has no use for {module}.{name}")

    def persistent_load(self, reference):
        kind, element_type, key, _location, _length, view = reference
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a state dict has no use for a persistent {kind}")
        self.element_types[key] = np.dtype(element_type)
        return key


def load(path):
    """Returns name -> array of every tensor in the state dict."""
    with open(path, "rb") as file:
        if _plain(file) != MAGIC_NUMBER or _plain(file) != PROTOCOL_VERSION:
            raise ValueError(f"{path} is no PyTorch file of the old format")
        _plain(file)  # sizes and byte order of the writer's machine: little-endian is all there is
        unpickler = _StateDictUnpickler(file)
        state = unpickler.load()
        storages = {}
        for key in _plain(file):
            (length,) = struct.unpack("<q", file.read(8))
            element_type = unpickler.element_types[key]
            storages[key] = np.frombuffer(file.read(length * element_type.itemsize), element_type)
    return {name: _tensor(storages, *reference) for name, reference in state.items()}


def _plain(file):
    """Reads one pickle of numbers, strings, lists and dicts."""
    return _StateDictUnpickler(file).load()


def _tensor(storages, key, offset, shape, strides):
    storage = storages[key]
    # The last element's position: a view past the storage's end would read foreign memory.
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if last >= len(storage):
        raise ValueError(f"a tensor reaches past the end of storage {key}")
    byte_strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, byte_strides)
