"""Everything that writes files, as calls that write one of two versions into a folder."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from folder_cases import many_series, write_folder
from forecast_cases import small_forecaster
from runtime_cases import gru_layer, linear
from tidegate._checkpoint import save_checkpoint
from tidegate._commands._answers import Columns, answers_of
from tidegate._commands.stream import _Lines
from tidegate.classify import GRUClassifier
from tidegate.cli import main
from tidegate.errors import InputError
from tidegate.export import write
from tidegate.forecast._folder_out import Job
from tidegate.inspect import Report
from tidegate.runtime import Model, Stack, load

KINDS = Path(__file__).parent / "data" / "models"
Write = Callable[[Path, int], None]


def model_of(version: int, hidden: int = 24) -> Model:
    return Model(Stack([gru_layer(version, 1, hidden), linear(version, hidden, 1)]))


def _format(name: str, file: str) -> Write:
    models = [model_of(version) for version in range(2)]
    return lambda folder, version: write(models[version], folder / file, name)


def _cells(name: str, file: str) -> Write:
    models = [Model(Stack([gru_layer(version, 1, 24)])) for version in range(2)]
    return lambda folder, version: write(models[version], folder / file, name)


def _checkpoint(folder: Path, version: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(version)
        layer = torch.nn.Linear(40, 40)
        save_checkpoint(folder / "training", layer, torch.optim.AdamW(layer.parameters()), {}, {})


def _report(folder: Path, version: int) -> None:
    page = f"<p>{version}" * 30_000
    Report(page, (), *[None] * 5).save(folder / "report.html")


def _state(folder: Path, version: int) -> None:
    answers = answers_of(load(KINDS / "classifier.safetensors"), Columns())
    for _ in range(3 + version):
        answers.answer(b"1.5,2.5\n")
    _Lines(answers, folder / "state", 1.0).save()


class _Parts:
    """Forecasts of a folder of Parquet files, by two models."""

    def __init__(self, folder: Path):
        self.source = write_folder(folder / "series", many_series(6), files=1)
        self.models = [folder / f"{version}.safetensors" for version in range(2)]
        for version, model in enumerate(self.models):
            small_forecaster(steps=1, seed=version).fit(many_series(3)).save(model)

    def __call__(self, folder: Path, version: int) -> None:
        names = {"id": "unique_id", "time": "ds", "target": "y"}
        job = Job.of(self.models[version], self.source, folder, **names)
        job._write_manifest({"version": version})
        job.run(0)


def calls(folder: Path) -> dict[str, Write]:
    """Writers by name; what they read is put into `folder`."""
    return {
        "model": lambda into, version: model_of(version).save(into / "model.safetensors"),
        "onnx": _format("onnx", "m.onnx"),
        "keras": _format("keras", "m.keras"),
        "weights.h5": _format("keras", "m.weights.h5"),
        "state_dict": _format("torch", "state.safetensors"),
        "rtneural": _format("rtneural", "r.json"),
        "guitarml": _format("guitarml", "g.json"),
        "header": _format("c", "m.h"),
        "equinox": _cells("equinox", "m.eqx"),
        "arrays": _cells("flax", "m.npz"),
        "checkpoint": _checkpoint,
        "report": _report,
        "state of a stream": _state,
        "parts of a folder": _Parts(folder),
    }


def commands(folder: Path) -> dict[str, Write]:
    """Commands that write, by name; one that is refused raises what it said."""
    tables = [folder / f"{version}.csv" for version in range(2)]
    steps = [folder / f"steps{version}.csv" for version in range(2)]
    for version in range(2):
        frame = many_series(2).assign(y=lambda df, k=1 + version: df.y * k)
        frame.to_csv(tables[version], index=False)
        rows = pd.DataFrame(np.random.default_rng(version).normal(size=(48, 2)), columns=["a", "b"])
        rows.assign(unique_id=np.repeat(range(6), 8)).to_csv(steps[version], index=False)
    text = folder / "text.txt"
    text.write_text("the tide is in, and out\n" * 40, encoding="utf-8")
    forecaster, classifier = folder / "f.safetensors", folder / "c.safetensors"
    small_forecaster(steps=1).fit(many_series(3)).save(forecaster)
    labelled = pd.read_csv(steps[0]).assign(y=lambda df: df.unique_id % 2)
    GRUClassifier(hidden_size=3, steps=1).fit(labelled).save(classifier)
    small = ["--steps", "2", "--hidden", "8", "--checkpoint"]
    return {
        "forecast": lambda into, version: _run(
            "forecast", tables[version], "--model", forecaster, "--out", into
        ),
        "classify": lambda into, version: _run(
            "classify", steps[version], "--model", classifier, "--out", into
        ),
        "inspect": lambda into, version: _run(
            "inspect", forecaster, "--input", tables[version], "--out", into / "report.html"
        ),
        "convert": lambda into, version: _run(
            "convert", forecaster, into / "m.safetensors", "--dtype", ("int8", "bfloat16")[version]
        ),
        "language train": lambda into, version: _run(
            *("language", "train", text, "--out", into / "m.safetensors", "--seed", version),
            *(*small, into / "training"),
        ),
    }


def _run(*arguments: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(argument) for argument in arguments])
    if code == 2:
        raise InputError(said.getvalue().splitlines()[-1].removeprefix("tidegate: "))
    assert code == 0, said.getvalue()
