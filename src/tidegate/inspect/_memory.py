"""`memory`: how long each unit remembers, by its gate and by what happens when it is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._inspectable import Inspectable
from ._capture import capture
from ._disturb import flip_effects, half_away, mirrored, swap_effect
from ._frame import frame
from ._gates import find, layer_in_words
from ._input import Labels, read_input
from ._jacobian import norm, sensitivity
from ._min_replay import replay_of
from ._probed import Group, probed
from ._replay import Trace
from ._strand import evenly, inside_rows, mean_of_units, some_rows

if TYPE_CHECKING:
    import pandas as pd

SHUT, OPEN = 0.1, 0.9


@dataclass(frozen=True, eq=False)
class LayerMemory:
    """How long the units of one direction of one layer remember.

    Attributes:
        name: as in `Gates`.
        kept: (hidden,) mean share of the past kept.
        leak_time: (hidden,) carry-gate leak time: `-1 / mean(ln z)` steps, with `z` the share of
            the past kept. After so many steps the carry alone has let the state fall to 1/e. It
            says nothing of what the candidate carries: read it beside the causal measures.
        shut: (hidden,) share of steps in which less than 0.1 of the past was kept.
        open: (hidden,) share of steps in which more than 0.9 of the past was kept.
        reset_shut: (hidden,) likewise of the reset gate; None without one.
        reset_open: (hidden,) likewise.
        lags: (lags,) 0, 1, 2, ..., the lags k of the gradient, in steps.
        gradient: (lags,) norm of dh_T / dh_{T-k}, by exact vector-Jacobian products, as the root
            mean square of its singular values: 1 where a small change arrives as large as it was.
        gradient_by_unit: (lags, hidden) norm of its column of a unit: what a small change of the
            unit's state does to all units k steps later.
        tried: (tried,) the lags of the two measures below: as `lags`, or fewer of them.
        swap: (tried,) the share of the difference that is still there when the state k steps before
            the end was swapped with that of another row (of a time half the row away if there is
            one row only).
        flip: (tried,) how far the last state moves when the input k steps before it is flipped, in
            units of the distance between the last states of two rows.
        reach: (hidden,) the largest lag up to which a unit's `gradient_by_unit` stays over 1/e.
        probe: (hidden,) cross-validated score of a linear probe on each unit's last state; None
            where no target was given.
        ranked: (hidden,) units, best probe first; by leak time where no target was given.
        groups: the best 1, 2, 4, ... units by the probe, as groups; none without a target.
    """

    name: str
    kept: np.ndarray
    leak_time: np.ndarray
    shut: np.ndarray
    open: np.ndarray
    reset_shut: np.ndarray | None
    reset_open: np.ndarray | None
    lags: np.ndarray
    gradient: np.ndarray
    gradient_by_unit: np.ndarray
    tried: np.ndarray
    swap: np.ndarray
    flip: np.ndarray
    reach: np.ndarray
    probe: np.ndarray | None
    ranked: np.ndarray
    groups: tuple[Group, ...]

    @property
    def words(self) -> str:
        """The name as a reader is shown it."""
        return layer_in_words(self.name)

    def falls_under(self, share: float) -> int | None:
        """The first lag at which the gradient's norm is under `share`; None if it never is."""
        under = np.flatnonzero(self.gradient < share)
        return int(self.lags[under[0]]) if len(under) else None

    def __repr__(self) -> str:
        leak = np.median(self.leak_time)
        last = self.lags[-1] if len(self.lags) else 0
        return (
            f"LayerMemory({self.name!r}, {len(self.kept)} units, median carry-gate leak time "
            f"{leak:.3g} steps, gradient at lag {last}: {self.gradient[-1]:.2g})"
        )


@dataclass(frozen=True, eq=False)
class Memory:
    """How long every unit of every layer remembers.

    Attributes:
        layers: as in `Gates`.
        score: what the probe's score is: "accuracy" or "share of the variance"; "" without one.
        chance: the score of a probe that sees nothing.
    """

    layers: tuple[LayerMemory, ...]
    score: str
    chance: float

    def __getitem__(self, key: int | str) -> LayerMemory:
        """A layer by place or name."""
        return find(self.layers, key, "layer")

    def __len__(self) -> int:
        return len(self.layers)

    def to_frame(self) -> pd.DataFrame:
        """A row for each unit of each layer."""
        parts: dict[str, list[np.ndarray]] = {}
        for layer in self.layers:
            unknown = np.full(len(layer.kept), np.nan)
            columns = {
                "layer": np.full(len(layer.kept), layer.name, object),
                "unit": np.arange(len(layer.kept)),
                "kept": layer.kept,
                "leak_time": layer.leak_time,
                "shut": layer.shut,
                "open": layer.open,
                "reset_shut": unknown if layer.reset_shut is None else layer.reset_shut,
                "reset_open": unknown if layer.reset_open is None else layer.reset_open,
                "reach": layer.reach,
                "probe": unknown if layer.probe is None else layer.probe,
            }
            for name, column in columns.items():
                parts.setdefault(name, []).append(column)
        return frame({name: np.concatenate(columns) for name, columns in parts.items()})

    def __repr__(self) -> str:
        return "Memory:" + "".join(f"\n  {layer!r}" for layer in self.layers)


@torch.inference_mode(False)  # gradients are needed
def memory(
    model: Any,
    x: Any = None,
    labels: Labels | None = None,
    *,
    target: Any = None,
    lags: int | None = None,
    flip: Callable[[Tensor], Tensor] | None = None,
) -> Memory:
    """How long a GRU remembers: by its gates, by its gradient, and by what a disturbance does.

    The carry-gate leak time alone misleads: a network can hold a fact for fifty steps with leak
    times under two, in its recurrent candidate, spread over units. So the causal measures stand
    beside it, and a probe, if there is a `target`, says which units hold what you ask for.

    The causal measures are means over up to 16 rows, whose lags are counted back from their own
    ends (from the beginning of the sequence, for a reverse direction).

    Of very many rows, some are taken, evenly chosen, so that memory stays bounded; a single row of
    more than some hundred million gates is refused.

    Args:
        model: as for `gates`.
        x: as for `gates`.
        labels: as for `gates`.
        target: what a probe is to read from the last state of each row: (batch,) classes as whole
            numbers, words or truth values, or numbers as floats; or (batch, time) of every step.
        lags: the largest lag; the number of steps, or 200 if they are more, when not given.
        flip: makes another input, (time, batch, features), of the GRU's; by default each feature
            is mirrored at its mean, and a text's token replaced by one half the text away.

    Raises:
        TypeError: `model` or `x` is of the wrong type.
        ValueError: the model holds no GRU, `target` does not fit the rows, or a row is too long.

    Example:
        >>> import torch
        >>> gru = torch.nn.GRU(1, 4)
        >>> with torch.no_grad():  # all gates at one half
        ...     for parameter in gru.parameters():
        ...         _ = parameter.zero_()
        >>> found = memory(gru, torch.zeros(6, 1, 1))["l0"]
        >>> found.leak_time.round(3)  # 1 / ln 2
        array([1.443, 1.443, 1.443, 1.443])
        >>> found.gradient.round(3)
        array([1.   , 0.5  , 0.25 , 0.125, 0.062, 0.031])
    """
    return memory_of(read_input(model, x, labels), target=target, lags=lags, flip=flip)


def memory_of(
    item: Inspectable,
    *,
    target: Any = None,
    lags: int | None = None,
    flip: Callable[[Tensor], Tensor] | None = None,
) -> Memory:
    """As `memory`, of what was read already."""
    _, calls = capture(item.module, item.inputs)
    labels = None if target is None else np.asarray(target)
    usual = half_away if item.tokens else mirrored
    layers, score, chance = [], "", 0.0
    for call in calls:
        replay = replay_of(call)
        batch, rows = replay.batch, evenly(replay.batch, replay.affordable())
        replay = replay.rows(rows).checked()
        traces = replay.run().each
        steps = int(replay.lengths[some_rows(replay.batch)].max())
        longest = max(min(steps - 1, 200 if lags is None else lags), 0)
        x = replay.inputs.x
        other = usual(x, replay.lengths) if flip is None else flip(x)
        flips = flip_effects(replay, traces, longest, other)
        for index, trace in enumerate(traces):
            layer = _layer(trace, longest, flips[index])
            if labels is not None and replay.time:
                mine = labels[rows.numpy()] if len(labels) == batch else labels
                found = probed(replay, index, trace, mine)
                score, chance = found.target.score, found.target.chance
                layer = replace(layer, probe=found.scores, ranked=found.ranked, groups=found.groups)
            layers.append(layer)
    return Memory(tuple(layers), score, chance)


def _layer(trace: Trace, longest: int, flip: tuple[np.ndarray, np.ndarray]) -> LayerMemory:
    strand, run = trace.strand, trace.run
    inside = inside_rows(strand)
    z = run.gates[strand.gates.index("z")]
    r = run.gates[strand.gates.index("r")] if "r" in strand.gates else None
    some = some_rows(strand.start.size(0))
    columns = sensitivity(
        strand.rows(some).step, run.states[:, some], longest if strand.time else 0
    )
    known = torch.arange(len(columns))[:, None] < strand.lengths[some].clamp(min=1)
    tried, flipped = flip
    by_unit = _mean(columns.square(), known[..., None]).sqrt()
    leak_time = _leak_time(z, inside)
    return LayerMemory(
        name=strand.name,
        kept=mean_of_units(z, inside),
        leak_time=leak_time,
        shut=mean_of_units((z < SHUT).double(), inside),
        open=mean_of_units((z > OPEN).double(), inside),
        reset_shut=None if r is None else mean_of_units((r < SHUT).double(), inside),
        reset_open=None if r is None else mean_of_units((r > OPEN).double(), inside),
        lags=np.arange(len(columns)),
        gradient=_mean(norm(columns).square(), known).sqrt().numpy(),
        gradient_by_unit=by_unit.numpy(),
        tried=tried,
        swap=swap_effect(strand.rows(some), run.states[:, some], tried),
        flip=flipped,
        reach=_reach(by_unit.numpy()),
        probe=None,
        ranked=np.argsort(-leak_time, kind="stable"),
        groups=(),
    )


def _leak_time(z: Tensor, inside: Tensor) -> np.ndarray:
    """-1 / mean(ln z): infinite where all of the past is always kept, 0 where it once was lost."""
    mean = mean_of_units(torch.where(inside, z, 1.0).log(), inside)
    with np.errstate(divide="ignore"):
        return -1 / np.minimum(mean, -0.0)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the rows that are known, axis 1."""
    known = known.expand(values.shape)
    return torch.where(known, values, 0.0).sum(1) / known.sum(1)


def _reach(by_unit: np.ndarray) -> np.ndarray:
    """The last lag before the first at which a column is at 1/e or under."""
    under = by_unit <= np.exp(-1)
    first = np.where(under.any(0), under.argmax(0), len(by_unit))
    return np.maximum(first - 1, 0)
