"""The same models in Python's ONNX Runtime: what the extension's vectors are held against."""

import json
from pathlib import Path

import numpy
import onnxruntime
import tokenizers

ROOT = Path(__file__).parents[1]
MODELS = ROOT / ".build" / "models"


def onnx_bytes(name):
    return (MODELS / name / "model.onnx").read_bytes()


class TextModel:
    """One text at a time, unpadded: what a vector is when no batch has any part in it."""

    def __init__(self, name):
        folder = MODELS / name
        self.config = json.loads((ROOT / "models" / f"{name}.json").read_text())["config"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.config["max_length"])
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def embed(self, text):
        ids = self.tokenizer.encode(text).ids
        if self.config["layout"] == "ragged":
            feed = {"token_ids": numpy.array(ids, numpy.int32), "row_splits": numpy.array([0, len(ids)], numpy.int64)}
        else:
            feed = {
                "input_ids": numpy.array([ids], numpy.int64),
                "attention_mask": numpy.ones((1, len(ids)), numpy.int64),
                "token_type_ids": numpy.zeros((1, len(ids)), numpy.int64),
            }
        (vector,) = self.session.run([self.config["output"]], feed)[0]
        return vector


def cosine(a, b):
    a, b = numpy.asarray(a, numpy.float64), numpy.asarray(b, numpy.float64)
    return float(a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b))
