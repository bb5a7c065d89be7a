"""The data of the heat map: gates of some rows, steps and units, a byte a number."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._inspectable import Choices, Inspectable
from ._gates import Gates, LayerGates

# What is shown at most: rows, steps and units; and bytes of all gates together.
ROWS, STEPS, UNITS, MAY_COME = 6, 240, 64, 5
_BYTES = 900_000


def heat_map(
    item: Inspectable, gates: Gates, of: int, order: Sequence[np.ndarray]
) -> dict[str, Any]:
    """What the page's script draws, as JSON takes it.

    Steps beyond 240 are means of neighbours; of more than 64 units every so-manieth is shown, in
    the order of their memory.

    Args:
        item: what is looked into.
        gates: its gates.
        of: how many rows the input has.
        order: of each layer, its units by memory.
    """
    shown = [row for row in range(len(gates.lengths)) if gates.lengths[row]][:ROWS]
    steps = min(STEPS, int(gates.lengths[shown].max(initial=1)))
    units = UNITS
    while len(shown) * steps * units * len(gates.layers) * 4 > _BYTES and units > 16:
        units //= 2
    while len(shown) * steps * units * len(gates.layers) * 4 > _BYTES and len(shown) > 1:
        shown = shown[:-1]
    chosen = [_spread(ranked, units) for ranked in order]
    scales = [_scale(layer, shown) for layer in gates.layers]
    return {
        "layers": [
            {
                "name": layer.name,
                "words": layer.words,
                "units": units.tolist(),
                "of": layer.update.shape[-1],
                "reset": layer.reset is not None,
                "scale": scale,
            }
            for layer, units, scale in zip(gates.layers, chosen, scales, strict=True)
        ],
        "rows": [_row(item, gates, row, chosen, scales) for row in shown],
        "of": of,
        "tokens": item.tokens,
        "foresees": item.foresees,
    }


def right_to_left(text: str) -> bool:
    """Whether most letters of a text are of a script that runs from right to left."""
    kinds = [unicodedata.bidirectional(letter) for letter in text]
    return sum(kind in ("R", "AL") for kind in kinds) > sum(kind == "L" for kind in kinds)


def parts_of(length: int) -> list[tuple[int, int]]:
    """Steps that share a column, from and up to."""
    width = -(-length // STEPS)
    return [(start, min(start + width, length)) for start in range(0, length, width)]


def _scale(layer: LayerGates, rows: Sequence[int]) -> float:
    """The largest size of a state or a candidate: 1, but for a minGRU or a state that was given."""
    sizes = [np.abs(array[:, rows]) for array in (layer.new, layer.before)]
    largest = max(float(np.nanmax(size, initial=1.0)) for size in sizes)
    return float(np.ceil(10 * largest) / 10) if largest > 1 else 1.0


def _row(
    item: Inspectable,
    gates: Gates,
    row: int,
    chosen: Sequence[np.ndarray],
    scales: Sequence[float],
) -> dict[str, Any]:
    length = int(gates.lengths[row])
    labels = gates.labels[row][:length]
    begun = next((t for t, label in enumerate(labels) if label), 0)  # what comes before is padding
    parts = [(begun + a, begun + b) for a, b in parts_of(length - begun)]
    values = None if item.values is None else np.asarray(item.values[row], float)[:length]
    return {
        "name": gates.names[row],
        "labels": [_label(labels, part, item.tokens) for part in parts],
        "width": parts[0][1] - parts[0][0],
        "steps": length - begun,
        "rtl": item.tokens and right_to_left("".join(labels)),
        "values": None if values is None else [_mean(values[a:b]) for a, b in parts],
        "chances": _chances(item, row, length, parts),
        "gates": [
            _bytes_of(layer, row, units, parts, scale)
            for layer, units, scale in zip(gates.layers, chosen, scales, strict=True)
        ],
    }


def _chances(
    item: Inspectable, row: int, length: int, parts: Sequence[tuple[int, int]]
) -> list[Any] | None:
    """What could be at the last step of each column, with its probability, and what came.

    None where there is no answer at each step.
    """
    found = None if item.outcomes is None else item.outcomes[row]
    if not isinstance(found, Sequence) or len(found) < 2:
        return None
    by_step = {c.step % length: c for c in found if isinstance(c, Choices)}
    return [_named(by_step.get(stop - 1)) for _, stop in parts]


def _named(choices: Choices | None) -> dict[str, Any] | None:
    if choices is None:
        return None
    best = list(zip(choices.names, choices.chances, strict=True))[:MAY_COME]
    return {"may": [[str(name), round(float(p), 4)] for name, p in best], "came": choices.truth}


def _label(labels: Sequence[str], part: tuple[int, int], tokens: bool) -> str:
    start, stop = part
    if stop - start == 1:
        return labels[start]
    if tokens:
        return "".join(labels[start:stop])
    return f"{labels[start]} to {labels[stop - 1]}"


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(f"{known.mean():.6g}") if len(known) else None


def _bytes_of(
    layer: LayerGates,
    row: int,
    units: np.ndarray,
    parts: Sequence[tuple[int, int]],
    scale: float,
) -> dict[str, str]:
    """Each quantity as bytes, units by steps: shares from 0 to 1, states within the scale."""
    wanted = {
        "kept": (layer.update, 0, 1),
        "new": (layer.new, -scale, scale),
        "before": (layer.before, -scale, scale),
    }
    if layer.reset is not None:
        wanted["reset"] = (layer.reset, 0, 1)
    coded = {}
    for name, (array, low, high) in wanted.items():
        mine = array[:, row][:, units]
        columns = np.stack([mine[a:b].mean(0) for a, b in parts], 1)
        share = np.clip((columns - low) / (high - low), 0, 1)
        coded[name] = base64.b64encode((share * 254).round().astype(np.uint8).tobytes()).decode()
    return coded


def _spread(ranked: np.ndarray, most: int) -> np.ndarray:
    """All units in their order, or so many of them evenly chosen."""
    if len(ranked) <= most:
        return ranked
    return ranked[np.linspace(0, len(ranked) - 1, most).round().astype(int)]
