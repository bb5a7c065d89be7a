"""What is left of a disturbance: a state that was swapped, an input that was flipped."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..nn._layer import valid_steps
from ._replay import Replay, Trace
from ._strand import Strand, some_rows

# Numbers that all copies of a state together may be.
_SIZE = 2**22


def swap_effect(strand: Strand, states: Tensor, lags: np.ndarray) -> np.ndarray:
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


def flip_effects(
    replay: Replay, traces: list[Trace], longest: int, flipped: Tensor
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each strand, lags and how far its last state moves when one input is flipped."""
    if not replay.time:
        return [(np.arange(1), np.zeros(1))] * len(traces)
    rows = some_rows(replay.batch)
    small, flipped = replay.rows(rows), flipped[:, rows]
    # What comes before the first flip is known.
    small = small.tail(longest + 1, [trace.run.states[:, rows] for trace in traces])
    flipped = flipped[replay.time - small.time :]
    # All lags are tried at once where that is no more than a run of these rows may take.
    together = max(small.affordable() // len(rows), 1)
    widest = max(trace.strand.start.size(-1) for trace in traces)
    lags = _chosen_lags(longest, int(np.clip(_SIZE // (len(rows) * widest), 8, 64)))
    effects = {index: np.full(len(lags), np.nan) for index in range(len(traces))}
    for reverse in {trace.strand.reverse for trace in traces}:
        for part in np.array_split(np.arange(len(lags)), -(-len(lags) // together)):
            ends = _ends_after_flips(small, flipped, lags[part], reverse)
            for index, trace in enumerate(traces):
                if trace.strand.reverse == reverse:
                    end = ends[index].view(len(part), len(rows), -1)
                    effects[index][part] = _moved(
                        trace.strand.rows(rows), trace.run.states[:, rows], end, lags[part]
                    )
    return [(lags, effects[index]) for index in range(len(traces))]


def _ends_after_flips(
    replay: Replay, flipped: Tensor, lags: np.ndarray, reverse: bool
) -> list[Tensor]:
    """Last states of every strand, (lags * rows, hidden), each after one flip."""
    x, lengths = replay.inputs.x, replay.lengths
    at = torch.as_tensor(lags)[:, None].expand(-1, replay.batch)
    at = at if reverse else lengths - 1 - at
    chosen = torch.arange(replay.time)[:, None, None] == at  # (time, lags, rows)
    copies = torch.where(chosen[..., None], flipped[:, None], x[:, None])
    return [trace.run.states[-1] for trace in replay.run(x=copies.flatten(1, 2)).each]


def _moved(strand: Strand, states: Tensor, ends: Tensor, lags: np.ndarray) -> np.ndarray:
    """How far (lags, rows, hidden) are from the last states, in distances between two rows."""
    last = states[-1]
    known = (torch.as_tensor(lags)[:, None] < strand.lengths)[..., None]
    unit = (_another(states, strand.lengths)[0][-1] - last).square().sum(-1).mean().sqrt()
    moved = torch.where(known, ends - last, 0.0).square().sum((1, 2))
    moved = (moved / known.sum((1, 2))).sqrt()
    return (moved / unit).numpy() if unit > 0 else moved.numpy() * np.nan


def mirrored(x: Tensor, lengths: Tensor) -> Tensor:
    """Each feature on the other side of its mean."""
    inside = valid_steps(x, lengths)
    return 2 * torch.where(inside, x, 0.0).sum((0, 1)) / inside.sum() - x


def half_away(x: Tensor, lengths: Tensor) -> Tensor:
    """At each step the input of one half the row away."""
    step, length = torch.arange(len(x))[:, None], lengths.clamp(min=1)
    source = torch.where(step < lengths, (step + (length + 1) // 2) % length, step)
    return x[source, torch.arange(x.size(1))]


def _another(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For states (time + 1, rows, hidden), those of another row, and how far back they are known.

    Where there is one row only, its own states half the row before.
    """
    if states.size(1) > 1:
        return states.roll(1, 1), torch.minimum(lengths, lengths.roll(1))
    return states.roll((len(states) - 1) // 2, 0), lengths - (lengths // 2)


def _chosen_lags(longest: int, copies: int) -> np.ndarray:
    """Lags from 0 to the longest: all, or so many, closer together where they are small."""
    if longest + 1 <= copies:
        return np.arange(longest + 1)
    lags = np.unique(np.geomspace(1, longest, max(copies - 1, 2)).round().astype(int))
    return np.concatenate([[0], lags])
