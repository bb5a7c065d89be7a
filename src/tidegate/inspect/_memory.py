"""`memory`: how long each unit remembers, by its gate and by what happens when it is disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._inspectable import Inspectable
from ..nn._layer import valid_steps
from ._capture import capture
from ._frame import frame
from ._gates import _find, layer_in_words
from ._input import Labels, read_input
from ._jacobian import norm, sensitivity
from ._probe import Target
from ._replay import Replay, Trace
from ._strand import Strand, some_rows

if TYPE_CHECKING:
    import pandas as pd

SHUT, OPEN = 0.1, 0.9
# Numbers that all copies of a state together may be.
_SIZE = 2**22


@dataclass(frozen=True, eq=False)
class Group:
    """Units that were tried together.

    Attributes:
        units: their numbers.
        alone: score of a probe that sees these units only.
        without: score of a probe on all units, learnt anew, of a run in which these are held at
            their mean: what the others know.
    """

    units: tuple[int, ...]
    alone: float
    without: float


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
        return _find(self.layers, key)

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
        ValueError: the model holds no GRU, or `target` does not fit the rows.

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
    usual = _half_away if item.tokens else _mirrored
    layers, score, chance = [], "", 0.0
    for call in calls:
        replay = Replay.of(call)
        traces = replay.run().each
        longest = max(min(replay.time - 1, 200 if lags is None else lags), 0)
        x = replay.inputs.x
        other = usual(x, replay.lengths) if flip is None else flip(x)
        flips = _flip_effects(replay, traces, longest, other)
        for index, trace in enumerate(traces):
            layer = _layer(trace, longest, flips[index])
            if labels is not None and replay.time:
                layer, probe = _probed(layer, replay, index, trace, labels)
                score, chance = probe.score, probe.chance
            layers.append(layer)
    return Memory(tuple(layers), score, chance)


def _layer(trace: Trace, longest: int, flip: tuple[np.ndarray, np.ndarray]) -> LayerMemory:
    strand, run = trace.strand, trace.run
    inside = _inside(strand)
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
        kept=_share(z, inside),
        leak_time=leak_time,
        shut=_share((z < SHUT).double(), inside),
        open=_share((z > OPEN).double(), inside),
        reset_shut=None if r is None else _share((r < SHUT).double(), inside),
        reset_open=None if r is None else _share((r > OPEN).double(), inside),
        lags=np.arange(len(columns)),
        gradient=_mean(norm(columns).square(), known).sqrt().numpy(),
        gradient_by_unit=by_unit.numpy(),
        tried=tried,
        swap=_swap_effect(strand.rows(some), run.states[:, some], tried),
        flip=flipped,
        reach=_reach(by_unit.numpy()),
        probe=None,
        ranked=np.argsort(-leak_time, kind="stable"),
        groups=(),
    )


def _inside(strand: Strand) -> Tensor:
    """(time, batch, 1) whether a step is one of the row's own, in the strand's order."""
    first = strand.time - strand.lengths
    return (torch.arange(strand.time)[:, None] >= first)[..., None]


def _share(values: Tensor, inside: Tensor) -> np.ndarray:
    """Mean over the steps of all rows, (hidden,); NaN where there is none."""
    total = torch.where(inside, values, 0.0).sum((0, 1))
    return (total / inside.sum()).numpy()


def _leak_time(z: Tensor, inside: Tensor) -> np.ndarray:
    """-1 / mean(ln z): infinite where all of the past is always kept, 0 where it once was lost."""
    mean = _share(torch.where(inside, z, 1.0).log(), inside)
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


def _chosen_lags(longest: int, copies: int) -> np.ndarray:
    """Lags from 0 to the longest: all, or so many, closer together where they are small."""
    if longest + 1 <= copies:
        return np.arange(longest + 1)
    lags = np.unique(np.geomspace(1, longest, max(copies - 1, 2)).round().astype(int))
    return np.concatenate([[0], lags])


def _another(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For states (time + 1, rows, hidden), those of another row, and how far back they are known.

    Where there is one row only, its own states half the row before.
    """
    if states.size(1) > 1:
        return states.roll(1, 1), torch.minimum(lengths, lengths.roll(1))
    return states.roll((len(states) - 1) // 2, 0), lengths - (lengths // 2)


def _swap_effect(strand: Strand, states: Tensor, lags: np.ndarray) -> np.ndarray:
    """Share of the difference between two states that is there k steps later, (lags,)."""
    other, known_to = _another(states, strand.lengths)
    time, rows = strand.time, states.size(1)
    effects = np.full(len(lags), np.nan)
    size = states[0].numel() * max(len(lags), 1)
    parts = np.array_split(np.arange(len(lags)), max(1, size // _SIZE))
    for part in parts:
        order = part[np.argsort(-lags[part])]  # the largest lag begins first
        h = states.new_zeros(0, states.size(-1))
        begun = 0
        for t in range(time - int(lags[part].max(initial=0)), time + 1):
            while begun < len(order) and time - lags[order[begun]] == t:
                h = torch.cat((h, other[t]))
                begun += 1
            if t < time:
                h = strand.step(h, t, begun)
        ends = h.view(-1, rows, h.size(-1))
        for place, index in enumerate(order):
            lag = int(lags[index])
            known = (known_to > lag)[:, None]
            moved = torch.where(known, ends[place] - states[-1], 0.0).square().sum()
            put_in = torch.where(known, other[time - lag] - states[time - lag], 0.0).square().sum()
            if put_in > 0:
                effects[index] = float((moved / put_in).sqrt())
    return effects


def _flip_effects(
    replay: Replay, traces: list[Trace], longest: int, flipped: Tensor
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each strand, lags and how far its last state moves when one input is flipped."""
    if not replay.time:
        return [(np.arange(1), np.zeros(1))] * len(traces)
    rows = some_rows(replay.batch)
    widest = max(trace.strand.start.size(-1) for trace in traces)
    lags = _chosen_lags(longest, int(np.clip(_SIZE // (len(rows) * widest), 8, 64)))
    small, lengths = _rows_of(replay, rows), replay.lengths[rows]
    x, flipped = small.inputs.x, flipped[:, rows]
    effects = {}
    for reverse in {trace.strand.reverse for trace in traces}:
        at = torch.as_tensor(lags)[:, None].expand(-1, len(rows))
        at = at if reverse else lengths - 1 - at
        chosen = torch.arange(replay.time)[:, None, None] == at  # (time, lags, rows)
        copies = torch.where(chosen[..., None], flipped[:, None], x[:, None])
        ends = small.run(x=copies.flatten(1, 2)).each
        known = (torch.as_tensor(lags)[:, None] < lengths)[..., None]
        for index, trace in enumerate(traces):
            if trace.strand.reverse == reverse:
                last = trace.run.states[-1][rows]
                end = ends[index].run.states[-1].view(len(lags), len(rows), -1)
                other = _another(trace.run.states[:, rows], lengths)[0][-1]
                unit = (other - last).square().sum(-1).mean().sqrt()
                moved = torch.where(known, end - last, 0.0).square().sum((1, 2))
                moved = (moved / known.sum((1, 2))).sqrt()
                effects[index] = (moved / unit).numpy() if unit > 0 else moved.numpy() * np.nan
    return [(lags, effects[index]) for index in range(len(traces))]


def _rows_of(replay: Replay, rows: Tensor) -> Replay:
    """The replay of some rows."""
    inputs = replay.inputs
    return replace(
        replay,
        inputs=inputs._replace(
            x=inputs.x[:, rows],
            states=[None if h is None else h[:, rows] for h in inputs.states],
            keep=None if inputs.keep is None else inputs.keep[:, rows],
            lengths=replay.lengths[rows],
        ),
    )


def _mirrored(x: Tensor, lengths: Tensor) -> Tensor:
    """Each feature on the other side of its mean."""
    inside = valid_steps(x, lengths)
    return 2 * torch.where(inside, x, 0.0).sum((0, 1)) / inside.sum() - x


def _half_away(x: Tensor, lengths: Tensor) -> Tensor:
    """At each step the input of one half the row away."""
    step, length = torch.arange(len(x))[:, None], lengths.clamp(min=1)
    source = torch.where(step < lengths, (step + (length + 1) // 2) % length, step)
    return x[source, torch.arange(x.size(1))]


def _probed(
    layer: LayerMemory, replay: Replay, index: int, trace: Trace, labels: np.ndarray
) -> tuple[LayerMemory, Target]:
    pick = _labelled(labels, trace.strand)
    target = Target(pick.labels, pick.rows)
    states = pick.states(trace)
    scores = target.read_each(states)
    ranked = np.argsort(-scores, kind="stable")
    hidden = len(ranked)
    sizes = [*(2**i for i in range(hidden.bit_length()) if 2**i < hidden), hidden]
    groups = []
    for size in sizes:
        units = ranked[:size]
        groups.append(
            Group(
                tuple(units.tolist()),
                target.read(states[:, units]),
                target.read(_without(replay, index, trace, units, pick)),
            )
        )
    return replace(layer, probe=scores, ranked=ranked, groups=tuple(groups)), target


def _without(
    replay: Replay, index: int, trace: Trace, units: np.ndarray, pick: _Pick
) -> np.ndarray:
    """The states that a probe sees when some units are held at their mean."""
    mean = torch.as_tensor(_share(trace.run.states[1:], _inside(trace.strand)))[units]
    name = trace.strand.name

    def hold(strand: Strand) -> Strand:
        return strand.with_state_held(units.tolist(), mean) if strand.name == name else strand

    return pick.states(replay.run(hold).each[index])


@dataclass(frozen=True)
class _Pick:
    """Which states have a label: the last of each row, or all."""

    labels: np.ndarray
    rows: np.ndarray
    steps: np.ndarray | None

    def states(self, trace: Trace) -> np.ndarray:
        if self.steps is None:
            return trace.run.states[-1][self.rows].numpy()
        return trace.natural(trace.run.states[1:])[self.steps, self.rows].numpy()


def _labelled(labels: np.ndarray, strand: Strand) -> _Pick:
    lengths = strand.lengths.numpy()
    batch, time = len(lengths), strand.time
    if labels.shape == (batch,):
        return _Pick(labels, np.arange(batch), None)
    if labels.shape != (batch, time):
        raise ValueError(
            f"target must be ({batch},), one for each row, or ({batch}, {time}), one for each "
            f"step, but it is {labels.shape}"
        )
    rows, steps = np.nonzero(np.arange(time) < lengths[:, None])
    return _Pick(labels[rows, steps], rows, steps)
