"""Reads a .safetensors file: a JSON header, then raw little-endian tensors."""

import json
import struct

import numpy as np

ELEMENT_TYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}


def load(path):
    """Returns name -> array of every tensor in the file."""
    with open(path, "rb") as file:
        (header_length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_length))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], ELEMENT_TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors
