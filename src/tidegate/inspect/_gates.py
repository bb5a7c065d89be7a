"""`gates`: what every gate of every unit did at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._inspectable import Inspectable
from ._capture import capture
from ._frame import frame, shape_of
from ._input import Labels, read_input
from ._min_replay import replay_of
from ._replay import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class LayerGates:
    """The gates of one direction of one layer; NaN past a row's end.

    Attributes:
        name: such as "encoder.l0" or "l1_reverse": the module's name, then torch's for the layer.
        reset: (time, batch, hidden) how much of the state the candidate saw; None without one.
        update: (time, batch, hidden) the share of the past kept: `z` in torch's convention,
            `h = (1 - z) * new + z * h`, whatever the library or paper that the model came from.
        new: (time, batch, hidden) the candidate, of which the rest was taken.
        state: (time, batch, hidden) the state after the step.
        before: (time, batch, hidden) the state that the step found, after `keep`.
    """

    name: str
    reset: np.ndarray | None
    update: np.ndarray
    new: np.ndarray
    state: np.ndarray
    before: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        """(time, batch, hidden) what the step added: the rest of the share, times the candidate."""
        return (1 - self.update) * self.new

    @property
    def words(self) -> str:
        """The name as a reader is shown it: "encoder, layer 1, reverse"."""
        return layer_in_words(self.name)

    def __repr__(self) -> str:
        gates = "" if self.reset is not None else ", no reset gate"
        kept = np.nanmean(self.update) if self.update.size else np.nan
        shape = shape_of(self.update)
        return f"LayerGates({self.name!r}, {shape}{gates}, share of the past kept {kept:.2f})"


@dataclass(frozen=True, eq=False)
class Gates:
    """The gates of every layer, step and unit.

    Attributes:
        layers: each direction of each layer of each GRU in the model, in the order in which they
            run.
        lengths: (batch,) steps of each row.
        labels: for each row, a name for every step; numbers where the caller gave none.
        names: of the rows.
    """

    layers: tuple[LayerGates, ...]
    lengths: np.ndarray
    labels: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]

    def __getitem__(self, key: int | str) -> LayerGates:
        """A layer by place or name."""
        return find(self.layers, key, "layer")

    def __len__(self) -> int:
        return len(self.layers)

    def to_frame(self) -> pd.DataFrame:
        """A row for each layer, row, step and unit; steps past a row's end are left out."""
        parts: dict[str, list[np.ndarray]] = {}
        for layer in self.layers:
            time, batch, hidden = layer.update.shape
            step, row, unit = (axis.ravel() for axis in np.indices((time, batch, hidden)))
            inside = step < self.lengths[row]
            label = np.array(
                [[self.labels[b][t] for b in range(batch)] for t in range(time)], object
            ).reshape(time, batch)
            columns = {
                "layer": np.full(inside.sum(), layer.name, object),
                "row": np.array(self.names, object)[row[inside]],
                "step": step[inside],
                "label": label[step[inside], row[inside]],
                "unit": unit[inside],
            }
            values = {"update": layer.update, "new": layer.new, "state": layer.state}
            reset = np.full_like(layer.update, np.nan) if layer.reset is None else layer.reset
            for name, value in ({"reset": reset} | values).items():
                columns[name] = value.ravel()[inside]
            for name, column in columns.items():
                parts.setdefault(name, []).append(column)
        return frame({name: np.concatenate(columns) for name, columns in parts.items()})

    def __repr__(self) -> str:
        lines = "".join(f"\n  {layer!r}" for layer in self.layers)
        return f"Gates of {len(self.lengths)} rows:{lines}"


def gates(model: Any, x: Any = None, labels: Labels | None = None) -> Gates:
    """What the gates of a GRU did with an input.

    Computed in float64, in evaluation mode, by the equations. All options of `tidegate.nn.GRU` are
    followed; a `torch.nn.GRU` is read as it is. Of a `MinGRU` too the update gate is the share of
    the past kept, which the paper writes 1 - z. Nothing is left out: what would not fit in memory
    (some hundred million gates) is refused, where `report` takes a part.

    Args:
        model: a GRU, ours or torch's; a module that holds one or several, which are found; or a
            fitted estimator.
        x: the module's input, as it takes it (a tuple for several arguments), or what the
            estimator's user gives it.
        labels: names of the steps, such as dates or tokens: one sequence for all rows, or one each.

    Raises:
        TypeError: `model` or `x` is of the wrong type.
        ValueError: the model holds no GRU, the labels are not as many as the steps, or the input
            is too long.

    Example:
        >>> import torch
        >>> found = gates(torch.nn.GRU(3, 5), torch.zeros(4, 1, 3), labels=["a", "b", "c", "d"])
        >>> found["l0"].update.shape, found.labels[0]
        ((4, 1, 5), ('a', 'b', 'c', 'd'))
    """
    return gates_of(read_input(model, x, labels))


def gates_of(item: Inspectable, most: int | None = None) -> Gates:
    """As `gates`, of what was read already, and of the first rows: at most so many."""
    _, calls = capture(item.module, item.inputs)
    replays = [replay_of(call) for call in calls]
    lengths = replays[0].lengths.numpy()
    labels = step_labels(item, replays[0].time, lengths)
    names = row_names(item, len(lengths))
    if most is not None:
        replays = [replay.rows(torch.arange(min(most, replay.batch))) for replay in replays]
    layers = tuple(_layer(trace) for replay in replays for trace in replay.checked().run().each)
    return Gates(layers, lengths[:most], labels[:most], names[:most])


def _layer(trace: Trace) -> LayerGates:
    strand, run = trace.strand, trace.run
    found = run.states[:-1]
    if strand.steps.keep is not None:
        found = strand.steps.keep * found
    past = _past_the_end(trace)
    by_letter = dict(zip(strand.gates, run.gates, strict=True))

    def known(sequence: Tensor) -> np.ndarray:
        return trace.natural(sequence).masked_fill(past, float("nan")).numpy()

    return LayerGates(
        name=strand.name,
        reset=known(by_letter["r"]) if "r" in by_letter else None,
        update=known(by_letter["z"]),
        new=known(by_letter["n"]),
        state=known(run.states[1:]),
        before=known(found),
    )


def _past_the_end(trace: Trace) -> Tensor:
    """(time, batch, 1) whether a step lies past its row's end, in the order of the sequence."""
    time = torch.arange(trace.strand.time)
    return (time[:, None] >= trace.strand.lengths)[..., None]


def step_labels(item: Inspectable, time: int, lengths: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """Labels of each row, checked against the number of steps; numbers where there are none."""
    batch = len(lengths)
    if item.labels is None:
        return (tuple(map(str, range(time))),) * batch
    given = list(item.labels) * (batch if len(item.labels) == 1 else 1)
    if len(given) != batch:
        raise ValueError(f"labels must be for {batch} rows, or one for all, but are {len(given)}")
    for row, (labels, length) in enumerate(zip(given, lengths, strict=True)):
        if len(labels) not in (time, length):
            raise ValueError(
                f"labels of row {row} must be {length}, one a step, but they are {len(labels)}"
            )
    return tuple((*labels, *[""] * (time - len(labels))) for labels in given)


def row_names(item: Inspectable, batch: int) -> tuple[str, ...]:
    """Names of the rows; numbers where there are none."""
    return tuple(map(str, range(batch) if item.names is None else item.names))


def layer_in_words(name: str) -> str:
    """A strand's name for a reader.

    Example:
        >>> layer_in_words("encoder.l0_reverse")
        'encoder, layer 1, reverse'
    """
    module, _, layer = name.rpartition(".")
    number, _, reverse = layer.removeprefix("l").partition("_")
    return ", ".join(filter(None, [module, f"layer {int(number) + 1}", reverse]))


def seen(token: str, bare: bool = False) -> str:
    """A token that can be seen: a blank or a line's end is named; `bare` has none at its ends."""
    token = (token.strip() or token) if bare else token
    return {" ": "␣", "\n": "⏎", "\t": "⇥", "": "∅"}.get(token, token)


def find(named: Sequence[Any], key: int | str, kind: str) -> Any:
    """The one at a place, or of a name.

    Raises:
        IndexError: there is none at that place.
        KeyError: there is none of that name.
    """
    if isinstance(key, int):
        return named[key]
    for one in named:
        if one.name == key:
            return one
    raise KeyError(f"there is no {kind} {key!r}, only {', '.join(one.name for one in named)}")
