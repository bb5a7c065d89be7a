"""The GPU kernels on a CPU: their source, compiled by the host's compiler under `emulation.hpp`."""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from tidegate.nn import gpu
from tidegate.nn.gpu import _arguments, _kernel, _launch
from tidegate.nn.gpu._build import Build

HERE = Path(__file__).parent
SOURCES = Path(gpu.__file__).parent
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2, "hasty": 3}
_folder = tempfile.TemporaryDirectory(prefix="tidegate-emulation-")


class Schedule(NamedTuple):
    """In which order threads run, and which barriers are left out to see that they are missed."""

    order: str = "ascending"
    seed: int = 0
    missing_period: int = 0
    missing_phase: int = 0


class Failed(Exception):
    """What the emulation saw go wrong."""


@functools.cache
def library(build: Build) -> ctypes.CDLL:
    path = Path(_folder.name) / f"{'-'.join(map(str, build))}.so"
    macros = [f"-D{name}={value}" for name, value in build.macros.items()]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = ["c++", "-std=c++20", "-O1", "-shared", "-fPIC", *warnings, *macros]
    command += [f"-I{SOURCES}", f"-I{HERE}", str(HERE / "emulation.cpp"), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    emulation = ctypes.CDLL(str(path))
    emulation.launch.restype = ctypes.c_char_p
    return emulation


class Emulator:
    """Takes the place of `_launch.launch`, and remembers what was launched."""

    def __init__(self, schedule: Schedule = Schedule()) -> None:
        self.schedule, self.launched = schedule, []

    def __call__(self, kernel, device, build, arguments, time, batch, directions) -> None:
        blocks, threads = _launch.grid(kernel, build, time, batch, directions)
        numbers = (ORDERS[self.schedule.order], *self.schedule[1:])
        schedule = (ctypes.c_int64 * 4)(*numbers)
        shared = build.shared(kernel)
        error = library(build).launch(
            kernel.encode(), ctypes.byref(arguments), *blocks, threads, shared, schedule
        )
        self.launched.append(kernel)
        if error:
            raise Failed(f"{kernel}: {error.decode()}")


def use(monkeypatch, schedule: Schedule = Schedule()) -> Emulator:
    """Let the GPU road launch under emulation, on tensors that lie on the CPU."""
    emulator = Emulator(schedule)
    monkeypatch.setattr(_launch, "launch", emulator)
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))
    return emulator


def _poisoned(new_empty):
    """Results start as NaN, so that a cell which no kernel writes is seen."""

    def poisoned(self, *args, **kwargs):
        result = new_empty(self, *args, **kwargs)
        return result.fill_(float("nan")) if result.is_floating_point() else result

    return poisoned


__all__ = ["Emulator", "Failed", "Schedule", "_arguments", "_kernel", "library", "use"]
