"""The GPU's road on a CPU: its kernels, compiled by the host's compiler under `emulation.hpp`."""

import ctypes
import functools
import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import EPS, assert_matches
from tidegate._files import replacing
from tidegate.nn import _kernel, _short, gpu
from tidegate.nn._layer import Layer, Plan
from tidegate.nn.gpu import _choice, _launch
from tidegate.nn.gpu._build import Build

EMULATION = Path(__file__).parent / "nn" / "gpu"
SOURCES = Path(gpu.__file__).parent
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2, "hasty": 3}
# One rounding of the numbers that are multiplied: TF32 has 11 significant bits.
UNITS = {"float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# What was compiled for one process of the tests serves the others, and the next run.
COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "emulation"


class Schedule(NamedTuple):
    """In which order threads run, and which barriers are left out to see that they are missed."""

    order: str = "ascending"
    seed: int = 0
    missing_period: int = 0
    missing_phase: int = 0


IN_ORDER = Schedule()


class Failed(Exception):
    """What the emulation saw go wrong."""


@functools.cache
def library(build: Build) -> ctypes.CDLL:
    macros = [f"-D{name}={value}" for name, value in build.macros.items()]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = ["c++", "-std=c++20", "-O1", "-shared", "-fPIC", *warnings, *macros]
    command += [f"-I{SOURCES}", f"-I{EMULATION}", str(EMULATION / "emulation.cpp")]
    sources = [path.read_bytes() for path in sorted(EMULATION.glob("emul*"))]
    sources += [path.read_bytes() for path in sorted(SOURCES.glob("*.cu*"))]
    key = hashlib.sha256(b"\0".join((repr(command).encode(), *sources))).hexdigest()[:32]
    path = COMPILED / f"{key}.so"
    if not path.exists():
        with replacing(path) as part:
            subprocess.run([*command, "-o", str(part)], check=True)
    emulation = ctypes.CDLL(str(path))
    emulation.launch.restype = ctypes.c_char_p
    return emulation


class Emulator:
    """Takes the place of `_launch.launch`, and remembers what was launched."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.launched = schedule, []

    def __call__(self, kernel, device, build, arguments, time, batch, directions) -> None:
        blocks, threads = _launch.grid(kernel, build, time, batch, directions)
        schedule = (ctypes.c_int64 * 4)(ORDERS[self.schedule.order], *self.schedule[1:])
        error = library(build).launch(
            kernel.encode(),
            ctypes.byref(arguments),
            *blocks,
            threads,
            build.shared(kernel),
            schedule,
        )
        self.launched.append(kernel)
        if error:
            raise Failed(f"{kernel}: {error.decode()}")


def emulate(monkeypatch: pytest.MonkeyPatch, kind: str, schedule: Schedule = IN_ORDER) -> Emulator:
    """Launch under emulation on tensors of the CPU, and let new results start as NaN.

    So that a cell which no kernel writes is seen.
    """
    emulator = Emulator(schedule)
    monkeypatch.setattr(_launch, "launch", emulator)
    monkeypatch.setattr(_choice, "_allows_tf32", lambda: kind == "tf32")
    new_empty = Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        result = new_empty(self, *args, **kwargs)
        return result.fill_(float("nan")) if result.is_floating_point() else result

    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    return emulator


def take_every_road(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Send what `tidegate.nn` computes in float32 on the CPU through the GPU's road."""
    monkeypatch.setattr(_kernel, "runs", lambda *call: False)
    monkeypatch.setattr(_short, "run", lambda *call: None)
    monkeypatch.setattr(gpu, "runs", lambda layer, plan, training: _choice.fits(layer, plan))
    return emulate(monkeypatch, "float32")


def draw(
    plan: Plan,
    dtype: torch.dtype,
    hidden: int,
    *,
    time: int = 5,
    batch: int = 11,
    features: int = 3,
    keep: str | None = None,
    ragged: str | None = None,
    seed: int = 0,
) -> Layer:
    """A layer at initial scale, in the numbers of `dtype`; past a row's end the input is NaN."""
    rng = np.random.default_rng(seed)
    scale = hidden**-0.5

    def tensor(array) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(dtype)

    weights = []
    for _ in range(plan.directions):
        shapes = [(3 * hidden, features), (3 * hidden, hidden)]
        shapes += [(3 * hidden,)] * 2 if plan.bias else []
        weights += [tensor(rng.uniform(-scale, scale, shape)) for shape in shapes]
    lengths = torch.from_numpy(rng.integers(0, time + 1, batch))
    x = tensor(rng.standard_normal((time, batch, features)))
    inside = torch.arange(time)[:, None] < lengths
    if ragged == "lengths":
        x[~inside] = float("nan")
    sizes = None
    if ragged == "packed":
        lengths = lengths.clamp(min=1).sort(descending=True).values
        sizes = (torch.arange(int(lengths[0]))[:, None] < lengths).sum(1)
        x = tensor(rng.standard_normal((int(sizes.sum()), features)))
        time = sizes.numel()
    if plan.batch_first and ragged != "packed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    by = {"row": 1, "unit": hidden}
    return Layer(
        x=x,
        h_0=tensor(rng.uniform(-1, 1, (plan.directions, batch, hidden))),
        keep=None if keep is None else tensor(rng.uniform(0, 1, (time, batch, by[keep]))),
        mask=None,
        zone=None,
        lengths=lengths if ragged == "lengths" else None,
        batch_sizes=sizes,
        weights=weights,
    )


def in_float64(layer: Layer) -> Layer:
    """The same numbers, for the reference; what needs a gradient asks for it."""
    fixed = [
        t.double().requires_grad_() if t is not None and t.is_floating_point() else t
        for t in layer[:-1]
    ]
    return Layer(*fixed, [w.double().requires_grad_() for w in layer.weights])


def assert_near(actual: Tensor, expected: Tensor, kind: str, *, roundings: float = 8) -> None:
    """Assert equality within so many roundings of a kind of numbers, as `assert_matches` does."""
    assert actual.dtype == DTYPES[kind]
    assert_matches(
        actual.detach().double().numpy(),
        expected.detach().numpy(),
        eps=roundings * UNITS[kind] / EPS,
    )
