"""What is timed: shapes, modes and settings, and the numbers that go in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One row: a shape, what is done with it, and under which settings."""

    mode: str  # "inference", "training" or "stream"
    batch: int
    time: int
    input: int
    hidden: int
    layers: int = 1
    directions: int = 1
    threads: int = 1
    isa: str = ""  # an instruction set forced on both sides; empty: what each one chooses

    @property
    def shape(self) -> str:
        """The shape as the tables name it: batch, time, input, hidden."""
        text = f"{self.batch},{self.time},{self.input},{self.hidden}"
        if self.layers > 1:
            text += f" {self.layers} layers"
        return text + " both directions" * (self.directions == 2)

    @property
    def label(self) -> str:
        """Every word that `--only` may match."""
        words = [self.mode, self.shape, f"threads={self.threads}", self.isa]
        return " ".join(word for word in words if word)

    @property
    def flops(self) -> int:
        """Floating-point operations of the products of one call."""
        width = self.directions * self.hidden
        columns = sum(
            (self.input if not layer else width) + self.hidden for layer in range(self.layers)
        )
        forward = 6 * self.batch * self.time * self.directions * self.hidden * columns
        return forward * (3 if self.mode == "training" else 1)

    @property
    def outputs(self) -> int:
        """Bytes of the outputs of all layers."""
        return 4 * self.layers * self.time * self.batch * self.directions * self.hidden


YARDSTICK = "sgemm"  # torch's product of two square matrices, timed beside every row
YARDSTICK_SIZE = 1024

# (batch, time, input, hidden)
SHAPES = [
    (1, 100, 32, 32),
    (1, 1000, 64, 64),
    (1, 1000, 256, 256),
    (32, 100, 64, 64),
    (32, 100, 128, 128),
    (256, 24, 1, 64),
    (256, 48, 8, 128),
    (64, 200, 256, 256),
    (128, 100, 512, 512),
    (16, 50, 1024, 1024),
]
STACKED = [(1, 1000, 64, 64), (32, 100, 128, 128), (64, 200, 256, 256)]
STREAMED = [8, 16, 32, 64, 128, 256, 512]


def all_cases(threads: tuple[int, ...]) -> Iterator[Case]:
    """Every row of the full table, rows of the same setting together."""
    for count in threads:
        for mode in ("inference", "training"):
            plain = [Case(mode, *shape, threads=count) for shape in SHAPES]
            stacked = [Case(mode, *shape, threads=count) for shape in STACKED]
            yield from plain
            yield from (replace(case, layers=2) for case in stacked)
            yield from (replace(case, directions=2) for case in stacked)
        yield from (Case("stream", 1, 1, size, size, threads=count) for size in STREAMED)
        for mode, shape in product(("inference", "training"), SHAPES):
            yield Case(mode, *shape, threads=count, isa="avx2")


def threads_text(count: int) -> str:
    """As titles say it."""
    return "one thread" if count == 1 else f"{count} threads"


class Weights(NamedTuple):
    """One direction of one layer, gates stacked r, z, n; torch's names and layout."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array


class Inputs(NamedTuple):
    """Numbers of a case, the same in every process."""

    x: Array  # (time, batch, input)
    h_0: Array  # (layers * directions, batch, hidden)
    weights: list[Weights]  # as the rows of h_0
    d_output: Array  # (time, batch, directions * hidden): gradient that backward starts from


def inputs(case: Case) -> Inputs:
    """Draw the numbers of a case; weights at the scale of torch's initialisation."""
    rng = np.random.default_rng(0)
    width = case.directions * case.hidden

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    def uniform(*shape: int) -> Array:
        return rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(case.hidden**-0.5)

    def weights(columns: int) -> Weights:
        rows = 3 * case.hidden
        return Weights(
            uniform(rows, columns), uniform(rows, case.hidden), uniform(rows), uniform(rows)
        )

    return Inputs(
        x=normal(case.time, case.batch, case.input),
        h_0=np.tanh(normal(case.layers * case.directions, case.batch, case.hidden)),
        weights=[
            weights(width if layer else case.input)
            for layer in range(case.layers)
            for _ in range(case.directions)
        ],
        d_output=normal(case.time, case.batch, width),
    )
