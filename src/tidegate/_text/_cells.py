"""The recurrent layers of a language model, without torch: a whole text, or one token at a time.

A state is an array for each layer, its last two axes (batch, hidden); an LSTM's has a first axis
for h and c.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .. import reference
from ..ops import PackedGRU, Stepper, gru, min_gru, pack_gru

States = list[np.ndarray]


class Gates(NamedTuple):
    """Gates of every step: one array (time, batch, hidden) a layer; no reset without that gate."""

    reset: tuple[np.ndarray, ...]
    update: tuple[np.ndarray, ...]
    new: tuple[np.ndarray, ...]


class GRUCells:
    """Stacked GRU layers in the compiled kernels.

    Args:
        layers: weight_ih, weight_hh, bias_ih and bias_hh of each, float32.
        reset: as in `tidegate.ops.gru`.
    """

    def __init__(self, layers: Sequence[Sequence[np.ndarray]], reset: str):
        self.layers = layers
        self.reset = reset

    @cached_property
    def _packed(self) -> list[PackedGRU]:
        return [pack_gru(*layer, reset=self.reset) for layer in self.layers]

    def __getstate__(self) -> dict[str, Any]:
        """All but the packed weights: they are in the order of this machine's kernels."""
        return {name: value for name, value in vars(self).items() if name != "_packed"}

    def states(self, batch: int) -> States:
        """Where a text begins."""
        return [np.zeros((batch, layer[1].shape[1]), np.float32) for layer in self.layers]

    def run(
        self,
        x: np.ndarray,
        states: States,
        keep: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        return_gates: bool = False,
    ) -> tuple[np.ndarray, States, Gates | None]:
        """Output of the last layer, the states at the end, and the gates on demand."""
        after, by_layer = [], []
        for layer, state in zip(self.layers, states, strict=True):
            x, h_n, *gates = gru(
                x,
                state,
                *layer,
                reset=self.reset,
                keep=keep,
                lengths=lengths,
                return_gates=return_gates,
            )
            after.append(h_n)
            by_layer += gates
        return x, after, _gates(by_layer, self.reset) if return_gates else None

    def stepper(self, states: States) -> Stepper:
        """The same layers, one step at a time, from these states on."""
        stepper = Stepper(self._packed, batch=len(states[0]))
        for own, given in zip(stepper.states, states, strict=True):
            own[:] = given
        return stepper


class MinGRUCells:
    """Stacked minGRU layers: products, and a scan in the compiled kernels.

    Args:
        layers: weight_ih and bias_ih of each, float32.
    """

    def __init__(self, layers: Sequence[Sequence[np.ndarray]]):
        self.layers = layers

    def states(self, batch: int) -> States:
        """Where a text begins."""
        return [np.zeros((batch, len(bias) // 2), np.float32) for _, bias in self.layers]

    def run(
        self,
        x: np.ndarray,
        states: States,
        keep: np.ndarray | None = None,
        lengths: np.ndarray | None = None,
        return_gates: bool = False,
    ) -> tuple[np.ndarray, States, Gates | None]:
        """Output of the last layer, the states at the end, and the gates on demand.

        The update gate is given as `GRU`'s: near one it keeps the old state.
        """
        after, updates, news = [], [], []
        for (weight, bias), state in zip(self.layers, states, strict=True):
            if return_gates:
                x_z, x_n = np.split(x @ weight.T + bias, 2, axis=-1)
                updates.append(1 / (1 + np.exp(x_z)))
                news.append(x_n)
            x, h_n = min_gru(x, state, weight, bias, keep=keep, lengths=lengths)
            after.append(h_n)
        return x, after, Gates((), tuple(updates), tuple(news)) if return_gates else None

    def stepper(self, states: States) -> PlainStepper:
        """The same layers, one step at a time, from these states on."""
        return PlainStepper(self, [state.copy() for state in states])


class SlowCells:
    """Plain recurrent or LSTM layers, by the equations: for comparison, not for speed.

    Args:
        layers: weight_ih, weight_hh, bias_ih and bias_hh of each.
        cell: "rnn" or "lstm".
    """

    def __init__(self, layers: Sequence[Sequence[np.ndarray]], cell: str):
        self.layers = [(w_i, w_h, b_i + b_h) for w_i, w_h, b_i, b_h in layers]
        self.cell = cell

    def states(self, batch: int) -> States:
        """Where a text begins."""
        lead = (2,) if self.cell == "lstm" else ()
        return [np.zeros((*lead, batch, layer[1].shape[1])) for layer in self.layers]

    def run(
        self,
        x: np.ndarray,
        states: States,
        keep: None = None,
        lengths: np.ndarray | None = None,
        return_gates: bool = False,
    ) -> tuple[np.ndarray, States, None]:
        """Output of the last layer, and the states at the end; past a row's length they run on.

        Raises:
            ValueError: gates are asked for.
        """
        if return_gates:
            raise ValueError(f"return_gates is for a GRU, not for cell={self.cell!r}")
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            if self.cell == "lstm":
                x, h, c = reference.lstm(x, state[0], state[1], *layer)
                after.append(np.stack((h, c)))
            else:
                x, end = reference.rnn(x, state, *layer)
                after.append(end)
        return x.astype(np.float32), after, None

    def stepper(self, states: States) -> PlainStepper:
        """The same layers, one step at a time, from these states on."""
        return PlainStepper(self, [state.copy() for state in states])


class PlainStepper:
    """As `tidegate.ops.Stepper`."""

    def __init__(self, cells: MinGRUCells | SlowCells, states: States):
        self.cells = cells
        self.states = states

    def step(self, x: np.ndarray) -> np.ndarray:
        """Take one step."""
        output, after, _ = self.cells.run(x[None], self.states)
        for own, new in zip(self.states, after, strict=True):
            own[:] = new
        return output[0]


def _gates(by_layer: list[np.ndarray], reset: str) -> Gates:
    by_gate = tuple(zip(*by_layer, strict=True))
    return Gates(*(((), *by_gate) if reset == "none" else by_gate))
