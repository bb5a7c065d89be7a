"""The weights of a layer, packed for the kernels; kept for short calls, where packing would tell.

A packed copy serves again only if the parameters still hold the same bytes: versions and addresses
miss writes through `.data`, through NumPy and from other processes. Comparing costs an eighth of
packing and stops at the first byte that differs.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch

from tidegate import _kernels
from tidegate.nn._layer import GATES, Direction, Layer, Plan, directions

RESETS = {
    "after": _kernels.RESET_AFTER,
    "before": _kernels.RESET_BEFORE,
    "none": _kernels.RESET_NONE,
}
Packed = tuple[_kernels.Weights, _kernels.Weights | None]  # the second direction may be absent
# Above so many rows (steps times batch) packing is under a twentieth of the work.
KEEP_UP_TO_ROWS = 512


class _Entry(NamedTuple):
    weight_hh: weakref.ref  # whose number the entry goes by
    reset: str
    backward: bool
    dtype: torch.dtype
    shapes: tuple[torch.Size | None, ...]
    sizes: tuple[int, int]
    packed: _kernels.Weights

    def serves(self, weights: Direction, reset: str, backward: bool, sizes: tuple) -> bool:
        if (
            self.weight_hh() is not weights.weight_hh
            or self.reset != reset
            or self.backward < backward
            or self.sizes != sizes
        ):
            return False
        addresses = []
        for weight, shape in zip(weights, self.shapes, strict=True):
            if weight is None or shape is None:
                if weight is not shape:
                    return False
                addresses.append(0)
                continue
            if weight.shape != shape or weight.dtype is not self.dtype:
                return False
            if not weight.is_contiguous():
                return False
            addresses.append(weight.data_ptr())
        return self.packed.is_of(*addresses)


_kept: dict[int, _Entry] = {}  # by id of weight_hh


def pack(layer: Layer, plan: Plan, backward: bool) -> Packed:
    """Packed weights of both directions; the second is None in a layer of one."""
    sizes = layer.x.size(-1), layer.weights[1].size(0) // len(GATES[plan.reset])
    rows = layer.x.numel() // max(1, sizes[0])
    first, *second = (
        pack_direction(weights, plan.reset, rows, backward, sizes)
        for weights in directions(layer.weights, plan)
    )
    return first, second[0] if second else None


def pack_direction(
    weights: Direction, reset: str, rows: int, backward: bool, sizes: tuple[int, int]
) -> _kernels.Weights:
    """Weights and biases of one direction, packed for a call of so many `rows`.

    Raises:
        RuntimeError: their shapes are not those of `sizes`, features of the input and units.
    """
    if rows > KEEP_UP_TO_ROWS:
        check_shapes(weights, reset, sizes)
        return _pack(weights, reset, backward)
    key = id(weights.weight_hh)
    entry = _kept.get(key)
    if entry is not None and entry.serves(weights, reset, backward, sizes):
        return entry.packed
    check_shapes(weights, reset, sizes)
    packed = _pack(weights, reset, backward, True)
    alive = weakref.ref(weights.weight_hh, lambda _: _kept.pop(key, None))
    shapes = tuple(None if w is None else w.shape for w in weights)
    _kept[key] = _Entry(alive, reset, backward, weights.weight_hh.dtype, shapes, sizes, packed)
    return packed


def check_shapes(weights: Direction, reset: str, sizes: tuple[int, int]) -> None:
    """Raise unless the kernels would find every number that they read."""
    features, hidden = sizes
    gates = len(GATES[reset]) * hidden
    columns = {"weight_hh": (hidden,), "weight_ih": (features,)}
    for name in (*columns, *(name for name in weights._fields if name not in columns)):
        weight, shape = getattr(weights, name), (gates, *columns.get(name, ()))
        if weight is not None and weight.shape != shape:
            raise RuntimeError(f"{name} must be {shape}, but it is {tuple(weight.shape)}")


def _pack(
    weights: Direction, reset: str, backward: bool, keep_source: bool = False
) -> _kernels.Weights:
    weights = Direction._make(None if w is None else w.contiguous() for w in weights)
    weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh = (
        0 if w is None else w.data_ptr() for w in weights
    )
    return _kernels.Weights(
        weights.weight_hh.dtype == torch.float64,
        RESETS[reset],
        weights.weight_ih.size(1),
        weights.weight_hh.size(1),
        weight_ih,
        weight_hh,
        bias_ih,
        bias_hh,
        backward,
        keep_source,
        norm_ih,
        norm_hh,
        torch.get_num_threads(),
    )
