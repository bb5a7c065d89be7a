"""Random command lines over random files, in this process: an answer or one sentence, no traceback.

    python tests/fuzz/commands.py SECONDS [SEED]

Options are those that the commands have, values and files as a seed draws them: honest, odd and
broken. Trainings end after a step, so that a second tries several. What is found is printed with
its seed; `run(seed)` runs it again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tidegate import cli, train
from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.forecast import GRUForecaster
from tidegate.language import LanguageModel

COMMANDS: dict[tuple[str, ...], Callable[..., None]] = {
    ("forecast",): cli.forecast,
    ("classify",): cli.classify,
    ("convert",): cli.convert,
    ("inspect",): cli.inspect,
    ("stream",): cli.stream,
    ("language", "train"): cli.language_train,
    ("language", "sample"): cli.language_sample,
    ("language", "score"): cli.language_score,
}
CELLS = "nan inf -inf 1e308 -1e308 1e-320 0 -0 1e400 x,y é \0 NA null true 2020-13-45 12:00 '' \" ="
NAMES = ["unique_id", "ds", "y", "promo", "left", "a", "b", "", "é", "GRU", "no such", "Y"]
NUMBERS = ["0", "-1", "1.5", "nan", "inf", "-inf", "1e-300", "7", "x", ""]
COLUMNS = {"id": "unique_id", "time": "ds", "target": "y", "label": "y"}


def table(rng: random.Random) -> pd.DataFrame:
    """Series or sequences, perhaps spoilt."""
    rows, ids = rng.choice([1, 2, 5, 30, 30, 60, 60]), rng.choice([1, 2, 3])
    freq = rng.choice(["MS", "MS", "MS", "MS", "D", "h", "W-SUN", "B", "7s"])
    start = rng.choice(["2020-01-31", "2020-01-31", "1800-01-01", "2199-12-01"])
    draw = np.random.default_rng(rng.getrandbits(32))
    parts = []
    for i in range(ids):
        part = pd.DataFrame({"unique_id": f"m{i}", "ds": range(rows), "y": draw.normal(size=rows)})
        if rng.random() < 0.9:
            part["ds"] = pd.date_range(start, periods=rows, freq=freq)
        parts.append(part)
    df = pd.concat(parts, ignore_index=True)
    for name in rng.sample(["left", "promo", "a", "b"], rng.choice([0, 1, 4, 4, 4])):
        df[name] = draw.integers(0, 3, len(df))
    if rng.random() < 0.2:
        df["y"] = draw.choice(["up", "down"], len(df))
    elif rng.random() < 0.4:
        df["y"] *= rng.choice([1e30, 1e-30, 0.0, 1e300])
    return df.astype(object) if rng.random() < 0.2 else df


def spoil(rng: random.Random, df: pd.DataFrame) -> pd.DataFrame:
    """Cells, columns and rows as they should not be."""
    df = df.astype(object)
    for _ in range(rng.choice([0, 1, 1, 3, 20])):
        where = rng.randrange(len(df)), rng.randrange(df.shape[1])
        df.iat[where] = rng.choice([*CELLS.split(" "), None, float("nan"), "9" * 400])
    if rng.random() < 0.2:
        df = df.rename(columns={rng.choice(list(df.columns)): rng.choice(NAMES)})
    if rng.random() < 0.1 and df.shape[1] > 1:
        df = df.drop(columns=rng.choice(list(df.columns)))
    if rng.random() < 0.2:
        df = df.sample(frac=rng.choice([0.3, 1, 1.5]), replace=True, random_state=rng.randrange(99))
    return df


def flip(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, or the end missing."""
    found = bytearray(data)
    for _ in range(rng.choice([0, 1, 5])):
        if found:
            found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found[: rng.randrange(len(found) + 1)]) if rng.random() < 0.2 else bytes(found)


def write_table(rng: random.Random, name: str, odd: bool) -> None:
    df = table(rng)
    if odd or rng.random() < 0.1:
        df = spoil(rng, df)
    if rng.random() < 0.25:
        with contextlib.suppress(Exception):  # some spoilt tables are no Parquet
            df.to_parquet(name, index=False)
    if not os.path.exists(name):
        df.to_csv(name, index=False, sep=rng.choice([",", ",", ";", "\t"]))
    if odd and rng.random() < 0.4:
        Path(name).write_bytes(flip(rng, Path(name).read_bytes()))


def write_text(rng: random.Random, name: str, odd: bool) -> None:
    pieces = ["the tide is in\n", "and out ", "\n", "دریا ", "\ufeff", "\0", "1,2\n", "x" * 300, ""]
    text = "".join(rng.choices(pieces, k=rng.choice([0, 1, 40, 200]))).encode()
    Path(name).write_bytes(flip(rng, text) if odd else text)


@functools.cache
def learnt() -> dict[str, bytes]:
    """Models of every kind as files, each learnt in a step."""
    months = pd.date_range("2020-01-01", periods=30, freq="MS")
    df = pd.DataFrame({"unique_id": "m0", "ds": months, "y": np.arange(30.0) % 7})
    df = pd.concat([df, df.assign(unique_id="m1", y=-df.y)], ignore_index=True)
    steps = df.assign(left=df.y, ds=df.index, y=df.unique_id.factorize()[0])
    small = {"hidden_size": 3, "steps": 1}
    models = {
        "forecaster": GRUForecaster(2, **small).fit(df),
        "classifier": GRUClassifier(bidirectional=False, **small).fit(steps),
        "regressor": GRURegressor(bidirectional=False, **small).fit(steps),
        "texts": GRUClassifier(**small).fit(["to and fro", "up and down"], [0, 1]),
        "language": LanguageModel(**small).fit("the tide is in, and out\n" * 9),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            model.save(Path(folder, f"{name}.safetensors"))
            found[f"{name}.safetensors"] = Path(folder, f"{name}.safetensors").read_bytes()
    return found


def write_model(rng: random.Random, kinds: tuple[str, ...], odd: bool) -> str:
    """A model of a kind, or of any, or a part of one."""
    models = learnt()
    if not kinds or (odd and rng.random() < 0.3):
        models = models | {path.name: path.read_bytes() for path in FORMATS}
    elif not odd or rng.random() < 0.8:
        models = {name: data for name, data in models.items() if name.startswith(kinds)}
    name = rng.choice(list(models))
    Path(name).write_bytes(flip(rng, models[name]) if odd else models[name])
    return name


FORMATS = sorted((Path(__file__).parents[1] / "data" / "formats").iterdir())
KINDS: dict[str, tuple[str, ...]] = {
    "forecast": ("forecaster",),
    "classify": ("classifier", "regressor", "texts"),
    "language": ("language",),
}


def value(
    rng: random.Random, command: tuple[str, ...], name: str, kind: str, odd: bool
) -> list[str]:
    """What follows an option of that name and type."""
    if odd and rng.random() < 0.1:
        return [rng.choice(["", "é", "--", "-x", "[/b]", "x" * 3000, "9" * 30, "no.csv"])]
    if name in ("model", "source"):
        return [write_model(rng, KINDS.get(command[0], ()), odd)]
    if name in ("file", "future", "input", "check"):
        if command[0] == "language" or rng.random() < 0.1:
            write_text(rng, "t.csv", odd)
        else:
            write_table(rng, "t.csv", odd)
        return ["t.csv"]
    if name in ("corpus", "validation"):
        write_text(rng, f"{name}.txt", odd)
        return [f"{name}.txt"]
    if name == "out":
        return [rng.choice(["t.csv", ".", "out"] if odd else ["out", "new/out"])]
    if name == "target" and command[0] == "convert":
        ending = rng.choice(["safetensors", "onnx", "keras", "h5", "npz", "eqx", "json", "h", "pt"])
        return [f"made.{ending}"]
    if name in ("state", "checkpoint", "config", "tensorboard"):
        return [rng.choice(["t.csv", "."] if odd else ["kept"])]
    if name == "freq":
        return [rng.choice(["MS", "D", "h", "B", "1", "irregular", "15min", "x", "0D", "-1h"])]
    if name == "holidays":
        return [rng.choice(["DE", "IR", "XX", ""])]
    if name in ("levels", "hidden"):
        some = [*NUMBERS, "80"] if odd else ["80", "8", "95.5"]
        return [rng.choice(some) for _ in range(rng.randint(1, 2))]
    if name == "seed":
        return [rng.choice([*NUMBERS, "9" * 25] if odd else ["1", str(2**32 - 1)])]
    if "Literal" in kind:
        return [rng.choice(re.findall(r"'(\w+)'", kind))]
    if name in ("read_as", "write_as"):
        return [rng.choice(["torch", "flax", "ng", "rtneural", "guitarml", "keras", "x"])]
    if kind.startswith("Column"):
        return [rng.choice(NAMES) if odd else COLUMNS.get(name, "promo")]
    return [rng.choice(NUMBERS if odd else ["1", "2", "3", "2", "0.5"])]


def arguments(rng: random.Random) -> list[str]:
    """A command, what it needs, and some of its options."""
    command = rng.choice(list(COMMANDS))
    given, oddity = [*command], rng.choice([0, 0.1, 0.5])
    for parameter in inspect.signature(COMMANDS[command]).parameters.values():
        kind, needed = str(parameter.annotation), parameter.default is parameter.empty
        if parameter.kind is parameter.POSITIONAL_ONLY:
            given += value(rng, command, parameter.name, kind, rng.random() < oddity)
        elif needed or rng.random() < (0.7 if parameter.name in ("horizon", "model") else 0.1):
            name = {"read_as": "from", "write_as": "to"}.get(parameter.name, parameter.name)
            given.append("--" + name.replace("_", "-"))
            if not kind.startswith("bool") and "[bool" not in kind:
                given += value(rng, command, parameter.name, kind, rng.random() < oddity)
    return given


@contextlib.contextmanager
def one_step() -> Iterator[None]:
    """Trainings end after a step."""
    begin = train._Run.__init__

    def brief(run, model, settings, *rest):
        begin(run, model, replace(settings, steps=1), *rest)

    train._Run.__init__ = brief
    try:
        yield
    finally:
        train._Run.__init__ = begin


@contextlib.contextmanager
def streams(given: bytes) -> Iterator[io.StringIO]:
    """Standard input that holds bytes, and standard output that goes nowhere; yields the errors."""
    before, said = sys.stdin, io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(given))
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(said),
        ):
            yield said
    finally:
        sys.stdin = before


def run(seed: int) -> tuple[list[str], str]:
    """Run one command line; what is wrong with how it ended, or nothing."""
    rng, here = random.Random(seed), os.getcwd()
    folder = tempfile.mkdtemp(prefix="tidegate-fuzz-")
    os.chdir(folder)
    try:
        given = arguments(rng)
        write_table(rng, "stdin", rng.random() < 0.5)
        with streams(Path("stdin").read_bytes()) as said, one_step(), warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                code = cli.main(given)
            except SystemExit as exit:
                code = exit.code
            except BaseException:
                return given, traceback.format_exc()
        return given, _complaint(code, said.getvalue())
    finally:
        os.chdir(here)
        shutil.rmtree(folder)


def _complaint(code: object, said: str) -> str:
    if list(Path().rglob(".tidegate-part-*")):
        return "a part of a file is left"
    if code == 0 or (code == 1 and "the loss became" in said):
        return ""
    last = said.splitlines()[-1] if said else ""
    return "" if code == 2 and last.startswith("tidegate: ") else f"exit code {code}: {said[-500:]}"


if __name__ == "__main__":
    end = time.monotonic() + float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    seen: set[str] = set()
    tried = 0
    while time.monotonic() < end:
        given, complaint = run(seed)
        what = complaint.strip().splitlines()[-1] if complaint else ""
        if complaint and what not in seen:
            seen.add(what)
            print(f"--- seed {seed}: {given}\n{complaint}", flush=True)
        seed, tried = seed + 1, tried + 1
    print(f"{tried} command lines, {len(seen)} kinds of complaint")
    sys.exit(bool(seen))
