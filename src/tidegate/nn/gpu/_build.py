"""Which compilation of the kernels a layer needs, and how it is cut up for the device."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import torch

ROWS = 8  # of the batch, for a block
LARGEST_HIDDEN = 256
TYPES = {"float32": 0, "tf32": 1, "float16": 2, "bfloat16": 3}
KINDS = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
_REGISTER_TILES = 8  # a gate's tiles that fit the registers where there are no more
_TILES_BESIDE_SHARED = {1: 6, 2: 6, 4: 4}  # by cluster, where shared memory holds the rest


class Build(NamedTuple):
    """What the source is compiled with."""

    kind: str  # of `TYPES`
    hidden: int
    padded: int  # hidden, rounded up to whole fragments in each block
    cluster: int  # blocks that share the units of a row
    held: int  # tiles of each gate in registers
    before: bool  # reset="before"

    @property
    def macros(self) -> dict[str, int]:
        """Names that the source wants defined."""
        return {
            "TYPE": TYPES[self.kind],
            "HIDDEN": self.hidden,
            "PADDED": self.padded,
            "CLUSTER": self.cluster,
            "HELD": self.held,
            "RESET_BEFORE": int(self.before),
        }

    @property
    def threads(self) -> int:
        """Threads of a block of the serial kernels."""
        return self.padded // self.cluster // 16 * 32

    def shared(self, kernel: str) -> int:
        """Bytes of shared memory of a block."""
        if kernel not in SERIAL:
            return 0
        size = _number_size(self.kind)
        fragments = self.threads // 32 * 3 * max(0, _tiles(self) - self.held) * 512
        factor = ROWS * (self.padded * size + 16)
        factors = 6 if kernel == "gru_backward" else 3 if self.before else 2
        return fragments + factors * factor


SERIAL = ("gru_forward", "gru_backward")


def build_for(kind: str, hidden: int, before: bool) -> Build:
    """The compilation for layers of so many units: above 128 in a cluster of blocks."""
    size = _number_size(kind)
    cluster = 1 if hidden <= 128 else 4 if size == 4 else 2
    step = max(32, 16 * cluster)
    padded = -(-hidden // step) * step
    build = Build(kind, hidden, padded, cluster, 0, before)
    tiles = _tiles(build)
    if tiles <= _REGISTER_TILES:
        return build._replace(held=tiles)
    held = _TILES_BESIDE_SHARED[cluster]
    # One tile more, and NVRTC spills a register for sm_100.
    crowded = cluster == 4 and kind == "tf32" and before
    return build._replace(held=held - crowded)


def sources() -> dict[str, str]:
    """The source and what it includes, by name; the source comes first."""
    folder = files("tidegate.nn.gpu")
    return {name: (folder / name).read_text("utf-8") for name in ("gru.cu", "device.cuh")}


def kernels(build: Build) -> tuple[str, ...]:
    """Names of the kernels of a build."""
    passes = ("gru_previous", "gru_coefficients")
    return (*SERIAL, *passes, *(("gru_reset",) if build.before else ()))


def _number_size(kind: str) -> int:
    return 2 if kind in ("float16", "bfloat16") else 4


def _tiles(build: Build) -> int:
    return build.padded * _number_size(build.kind) // 32
