"""Readers of strangers' files as functions of bytes: an answer, `InputError`, and nothing else."""

import functools
import io
import json
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tidegate._model_file import read_model, write_model
from tidegate._text import Source
from tidegate.data import Panel, SequenceFrame, read_table
from tidegate.errors import InputError
from tidegate.export import read
from tidegate.export._bounded import parse_json, read_npy
from tidegate.export._hdf5 import HDF5File
from tidegate.export._json import read_json
from tidegate.export._keras import _Reader
from tidegate.export._torch_file import read_torch_file
from tidegate.forecast._columns import Columns
from tidegate.forecast._reading import Reading
from tidegate.runtime import load
from tidegate.runtime._lines import read_numbers

KEPT = Path(__file__).parent / "corpus"
MADE = Path(__file__).parents[1] / "data" / "formats"
KINDS = Path(__file__).parents[1] / "data" / "models"
FOLDER = Path(
    tempfile.mkdtemp(prefix="tidegate-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
)


def by_file(name, run):
    """A target that reads a file of that name."""
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)

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


def table(path):
    """A table as series, and as sequences."""
    found = read_table(path, text=["unique_id"])
    with suppress(InputError):
        Panel.from_frame(found, "unique_id", "ds", "y", None, "fuzzed")
    SequenceFrame.read(found, "unique_id", "ds", "y", source="fuzzed")


def folder(path):
    """A Parquet file as a folder of series has it, read batch by batch."""
    parts = Reading(Columns("unique_id", "ds", "y", (), (), ())).open(str(path.parent), 10)
    for part in parts.parts:
        for _ in parts.batches(part):
            pass


def honest_tables(name):
    rows = {"unique_id": ["a"] * 4 + ["b"] * 3, "ds": [*range(4), *range(3)], "y": [1.5] * 7}
    if name == "csv":
        lines = [",".join(map(str, row)) for row in zip(*rows.values(), strict=True)]
        dates = "unique_id;ds;y\na;2020-01-31;1e3\na;2020-02-29;\n"
        return ["\n".join([",".join(rows), *lines]).encode(), dates.encode()]
    held = io.BytesIO()
    pq.write_table(pa.table(rows), held, row_group_size=3)
    return [held.getvalue()]


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
    "csv": (by_file("t.csv", table), "none"),
    "parquet": (by_file("t.parquet", table), "none"),
    "folder": (by_file("parts/t.parquet", folder), "none"),
    "numbers": (by_file("n.csv", lambda path: read_numbers(path, 2)), "none"),
    "text": (by_file("t.txt", lambda path: [*Source.of(path).chunks()]), "none"),
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
    if name in ("csv", "parquet", "folder"):
        found += honest_tables(name)
    if name in ("numbers", "text"):
        found.append(b"a,b\n1,2\n3.5,-1e9\n")
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
