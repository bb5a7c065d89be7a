"""From a build to a launch: compile, load, keep; one set of kernels for each device."""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress

import torch

from tidegate.nn.gpu import _driver, _nvrtc
from tidegate.nn.gpu._build import ROWS, SERIAL, Build, kernels
from tidegate.nn.gpu._cubin import cubin
from tidegate.nn.gpu._nvrtc import Unusable

_ELEMENTWISE_THREADS = 256
_CELLS_OF_A_BLOCK = 2048
_loaded: dict[tuple[int, Build], dict[str, _driver.Function]] = {}
_lock = threading.Lock()


def prepare(device: torch.device, build: Build) -> None:
    """Compile and load the kernels of a build, if that has not been done.

    Raises:
        Unusable: the device cannot run them.
    """
    index = _index(device)
    with _lock:
        if (index, build) not in _loaded:
            with torch.cuda.device(index):
                _loaded[index, build] = _load(index, build)


def is_ready(device: torch.device, build: Build) -> bool:
    """Whether the kernels of a build are loaded."""
    return (_index(device), build) in _loaded


def launch(
    kernel: str,
    device: torch.device,
    build: Build,
    arguments: ctypes.Structure,
    time: int,
    batch: int,
    directions: int,
) -> None:
    """Launch a kernel over a whole layer, on torch's current stream.

    Raises:
        Unusable: the driver refuses.
    """
    prepare(device, build)
    index = _index(device)
    blocks, threads = grid(kernel, build, time, batch, directions)
    with torch.cuda.device(index):
        _driver.enter(index)
        stream = torch.cuda.current_stream(index).cuda_stream
        _loaded[index, build][kernel](arguments, blocks, threads, stream)


def grid(
    kernel: str, build: Build, time: int, batch: int, directions: int
) -> tuple[_driver.Blocks, int]:
    """Blocks of a launch, and threads of a block."""
    if kernel in SERIAL:
        return (-(-batch // ROWS) * build.cluster, directions, 1), build.threads
    shares = -(-batch * build.hidden // _CELLS_OF_A_BLOCK)
    return (time, directions, min(shares, 1024)), _ELEMENTWISE_THREADS


def _load(index: int, build: Build) -> dict[str, _driver.Function]:
    capability = torch.cuda.get_device_capability(index)
    if capability < (8, 0):
        raise Unusable("they need compute capability 8.0")
    if build.cluster > 1 and capability < (9, 0):
        raise Unusable(f"{build.hidden} units need compute capability 9.0")
    shared = {name: build.shared(name) for name in kernels(build)}
    room = _driver.shared_memory(index)
    if max(shared.values()) > room:
        raise Unusable(
            f"{build.hidden} units of {build.kind} need {max(shared.values())} bytes of shared "
            f"memory, and a block has {room}"
        )
    architecture = _nvrtc.architecture(capability)
    _driver.enter(index)
    with suppress(Unusable):  # a file that was damaged is compiled again
        return _driver.load(cubin(build, architecture), shared)
    return _driver.load(cubin(build, architecture, fresh=True), shared)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
