"""Readers of strangers' files as functions of bytes: an answer, `InputError`, and nothing else."""

import functools
import io
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from tidegate.errors import InputError
from tidegate.export import read
from tidegate.export._bounded import read_npy
from tidegate.export._hdf5 import HDF5File
from tidegate.export._json import read_json
from tidegate.export._keras import _Reader
from tidegate.runtime import load

KEPT = Path(__file__).parent / "corpus"
MADE = Path(__file__).parents[1] / "data" / "formats"
FOLDER = Path(
    tempfile.mkdtemp(prefix="tidegate-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
)


def by_file(name, run):
    """A target that reads a file of that name."""
    path = FOLDER / name

    def target(data):
        path.write_bytes(data)
        run(path)

    return target


def hdf5(data):
    file = HDF5File(data, "fuzzed")
    file.arrays("layers")
    file.arrays("model_weights")
    file.text("model_config")


@functools.cache
def weights():
    return (MADE / "keras_weights.weights.h5").read_bytes()


def keras_config(data):
    from tidegate.export._bounded import parse_json

    _Reader(Path("fuzzed"), parse_json(data, "fuzzed"), HDF5File(weights(), "weights")).model()


def npy(data):
    read_npy(io.BytesIO(data), "fuzzed")


# Name: what reads the bytes, and which files to begin with.
TARGETS = {
    "onnx": (by_file("f.onnx", read), "*.onnx"),
    "keras": (by_file("f.keras", read), "*.keras"),
    "hdf5": (hdf5, "*.h5"),
    "keras_config": (keras_config, "keras_weights.json"),
    "json": (by_file("f.json", read_json), "*.json"),
    "model": (by_file("f.safetensors", load), "none"),
    "state": (by_file("g.safetensors", lambda path: read(path, "torch")), "*.safetensors"),
    "cells": (by_file("f.npz", read), "*.weights.npz"),
    "eqx": (by_file("f.eqx", read), "*.eqx"),
    "npy": (npy, "none"),
}


def run(name, data):
    """Hand bytes to a target; what it refuses in a sentence is well."""
    target, _ = TARGETS[name]
    with suppress(InputError):
        target(data)


def seeds(name):
    """Bytes of honest files to begin with, and of a part of what the fuzzer made of them."""
    paths = [*sorted(MADE.glob(TARGETS[name][1])), *sorted((KEPT / name).glob("*"))]
    found = [path.read_bytes() for path in paths]
    if name == "model":
        path = FOLDER / "seed.safetensors"
        read(MADE / "torch_legacy_every.onnx").save(path)
        found.append(path.read_bytes())
    if name == "npy":
        held = io.BytesIO()
        np.save(held, np.arange(6.0).reshape(2, 3))
        found.append(held.getvalue())
    return [data for data in found if len(data) < 20_000] or [b""]
