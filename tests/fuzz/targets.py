"""Readers of strangers' files as functions of bytes: an answer, `InputError`, and nothing else."""

import functools
import io
import json
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from tidegate._model_file import read_model, write_model
from tidegate.errors import InputError
from tidegate.export import read
from tidegate.export._bounded import parse_json, read_npy
from tidegate.export._hdf5 import HDF5File
from tidegate.export._json import read_json
from tidegate.export._keras import _Reader
from tidegate.export._torch_file import read_torch_file
from tidegate.runtime import load

KEPT = Path(__file__).parent / "corpus"
MADE = Path(__file__).parents[1] / "data" / "formats"
KINDS = Path(__file__).parents[1] / "data" / "models"
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
    _Reader(Path("fuzzed"), parse_json(data, "fuzzed"), HDF5File(weights(), "weights")).model()


def npy(data):
    read_npy(io.BytesIO(data), "fuzzed")


def facts(kind):
    """A target that takes bytes as the facts of a saved model, opens it, and runs it."""
    honest = read_model(KINDS / f"{kind}.safetensors")
    path = FOLDER / f"{kind}.safetensors"

    def target(data):
        found = parse_json(data, "facts")
        if not isinstance(found, dict):
            raise InputError("no facts")
        write_model(path, honest.kind, honest.tensors, found)
        model = load(path)
        # One whose facts make no sense may say so in its own words: what counts is that it ends,
        # and in how much memory.
        with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            RUN[kind](model)

    return target


def run_forecaster(model):
    days = np.arange("2024-01-01", "2024-01-21", dtype="datetime64[D]")
    ahead = {name: (role, [np.array(["a"] * 40)]) for name, role in model.reads.items()}
    model([np.arange(20.0)], [days], ahead | {"promo": ("future", [np.arange(40.0)])})


RUN = {
    "forecaster": run_forecaster,
    "classifier": lambda model: (model([np.ones((7, 2))]), model.stream().step([1.0, 2.0])),
    "texts": lambda model: model(["up and"]),
    "language": lambda model: (model.score("the tide"), model.sample("the", 3)),
}


def program(data):
    """The instructions of a `.pt` file alone."""
    with zipfile.ZipFile(MADE / "torch_state.pt") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, numbers in files.items():
            archive.writestr(name, data if name.endswith("data.pkl") else numbers)
    read_torch_file(held.getvalue(), "fuzzed")


def stream_state(data):
    model = read(MADE / "torch_legacy_every.onnx")
    model.stream().from_bytes(data)


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
    "pt": (lambda data: read_torch_file(data, "fuzzed"), "*.pt"),
    "program": (program, "none"),
    "stream": (stream_state, "none"),
    **{kind: (facts(kind), "none") for kind in RUN},
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
    if name == "program":
        with zipfile.ZipFile(MADE / "torch_state.pt") as archive:
            found += [archive.read(each) for each in archive.namelist() if each.endswith(".pkl")]
    if name == "stream":
        found.append(read(MADE / "torch_legacy_every.onnx").stream().to_bytes({"lines": "3"}))
    if name in RUN:
        found.append(json.dumps(read_model(KINDS / f"{name}.safetensors").facts).encode())
    return [data for data in found if len(data) < 20_000] or [b""]
