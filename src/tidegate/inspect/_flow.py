"""`gradient_flow`: how the gradient fades on its way back in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from .._inspectable import Inspectable
from ._capture import GRUS, RECURRENT, Call, capture
from ._cells import TrainedCell, Way, untrained, ways
from ._frame import frame
from ._gates import find, layer_in_words
from ._input import read_input
from ._jacobian import norm, sensitivity
from ._min_replay import replay_of

if TYPE_CHECKING:
    import pandas as pd


# The largest lag where none is asked for, and steps before it that untrained cells read.
LAGS, _WARM = 200, 100


@dataclass(frozen=True, eq=False)
class Curve:
    """How one recurrence passes the gradient back.

    Attributes:
        name: the cell or layer, and "untrained", "before" or "after" where that matters.
        kind: "model", "untrained", "before" or "after".
        lags: (lags,) 0, 1, 2, ..., the k of dh_T / dh_{T-k}.
        norm: (lags,) its norm, as the root mean square of its singular values: the Frobenius norm
            over the root of the number of units. An LSTM's state is h and c together.
    """

    name: str
    kind: str
    lags: np.ndarray
    norm: np.ndarray

    def falls_under(self, share: float) -> int | None:
        """The first lag at which the norm is under `share`; None if it never is."""
        under = np.flatnonzero(self.norm < share)
        return int(self.lags[under[0]]) if len(under) else None

    def __repr__(self) -> str:
        under = self.falls_under(0.01)
        fate = f"under 0.01 from lag {under}" if under is not None else "never under 0.01"
        return f"Curve({self.name!r}, {fate}, {self.norm[-1]:.2g} at lag {self.lags[-1]})"


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """The norm of dh_T / dh_{T-k} against the lag k, of several recurrences.

    Attributes:
        curves: the layers of the model, or the cells that were compared.
    """

    curves: tuple[Curve, ...]

    def __getitem__(self, key: int | str) -> Curve:
        """A curve by place or name."""
        return find(self.curves, key, "curve")

    def __len__(self) -> int:
        return len(self.curves)

    def to_frame(self) -> pd.DataFrame:
        """A row for each curve and lag."""
        return frame(
            {
                "name": np.repeat(
                    [c.name for c in self.curves], [len(c.lags) for c in self.curves]
                ),
                "kind": np.repeat(
                    [c.kind for c in self.curves], [len(c.lags) for c in self.curves]
                ),
                "lag": np.concatenate([c.lags for c in self.curves]),
                "norm": np.concatenate([c.norm for c in self.curves]),
            }
        )

    def __repr__(self) -> str:
        return "GradientFlow:" + "".join(f"\n  {curve!r}" for curve in self.curves)


@torch.inference_mode(False)  # gradients are needed
def gradient_flow(
    model: Any, x: Any = None, *, lags: int | None = None, compare: bool = True, seed: int = 0
) -> GradientFlow:
    """How much of a small change of the state is left k steps later, by exact products.

    Beside the layers of a model stand a plain RNN, an LSTM and GRUs with and without the reset
    gate, as torch first draws them, of the size of the model's first layer and reading what it
    reads. To see them before and after training, give what `train_cells` gave, or modules of your
    own by name.

    Args:
        model: as for `gates`, and also torch's RNN and LSTM; or several modules by name.
        x: as for `gates`.
        lags: the largest lag; the number of steps, or 200 if they are more, when not given.
        compare: whether untrained cells are added beside one model.
        seed: of their weights.

    Raises:
        TypeError: `model` or `x` is of the wrong type.
        ValueError: a model holds no recurrent layer.

    Example:
        >>> flow = gradient_flow(torch.nn.GRU(3, 8), torch.zeros(50, 1, 3))
        >>> print(*(curve.name for curve in flow.curves), sep="; ")
        l0; plain RNN, untrained; LSTM, untrained; GRU, untrained; GRU without reset, untrained
        >>> float(flow["plain RNN, untrained"].norm[-1]) < 1e-6
        True
    """
    if isinstance(model, Mapping):
        return GradientFlow(tuple(_of_several(model, x, lags)))
    return flow_of(read_input(model, x), lags=lags, compare=compare, seed=seed)


def flow_of(
    item: Inspectable, *, lags: int | None = None, compare: bool = True, seed: int = 0
) -> GradientFlow:
    """As `gradient_flow`, of what was read already."""
    _, calls = capture(item.module, item.inputs, RECURRENT)
    curves = [_curve(way, way.name, "model", lags) for call in calls for way in ways(call)]
    if compare:
        curves += _untrained_curves(calls[0], lags, seed)
    return GradientFlow(tuple(curves))


def _of_several(models: Mapping[str, Any], x: Any, lags: int | None) -> list[Curve]:
    curves = []
    for name, model in models.items():
        moments = (
            {"before": model.before, "after": model.after}
            if isinstance(model, TrainedCell)
            else {"model": model}
        )
        for kind, module in moments.items():
            item = read_input(module, x)
            _, calls = capture(item.module, item.inputs, RECURRENT)
            found = [way for call in calls for way in ways(call)]
            for way in found:
                layer = f", {layer_in_words(way.name)}" if len(found) > 1 else ""
                when = "" if kind == "model" else f", {kind}"
                curves.append(_curve(way, f"{name}{layer}{when}", kind, lags))
    return curves


def _untrained_curves(call: Call, lags: int | None, seed: int) -> list[Curve]:
    module = call.module
    if not isinstance(module, GRUS) or not isinstance(call.input, torch.Tensor):
        return []
    x = replay_of(call).inputs.x.transpose(0, 1)
    # What an untrained cell read long before the first lag has left no trace.
    x = x[:, -(LAGS if lags is None else lags) - _WARM :]
    sizes = cast("tuple[int, ...]", getattr(module, "hidden_sizes", (module.hidden_size,)))
    curves = []
    for name, (cell, features) in untrained(x, sizes[0], seed).items():
        _, calls = capture(cell, (features,), RECURRENT)
        curves.append(_curve(ways(calls[0])[0], f"{name}, untrained", "untrained", lags))
    return curves


def _curve(way: Way, name: str, kind: str, lags: int | None) -> Curve:
    # Rows that were not chosen may be longer.
    longest = max(min(int(way.lengths.max()), LAGS if lags is None else lags), 0)
    norms = norm(sensitivity(way.advance, way.states, longest))
    # A lag beyond a row's beginning is no lag of that row.
    known = torch.arange(len(norms))[:, None] <= way.lengths
    total = torch.where(known, norms, 0.0).square().sum(1)
    return Curve(name, kind, np.arange(len(norms)), (total / known.sum(1)).sqrt().numpy())
