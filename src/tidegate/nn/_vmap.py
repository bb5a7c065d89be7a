"""A layer over a mapped axis: folded into the batch where the weights are shared, else a loop.

A loop over members costs what the members cost one by one, which on a CPU is what there is to win:
the kernels already fill the vector units with a single member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tidegate.nn._layer import Plan, Wanted

# Axis of the batch in x, h_0, keep, mask, zone, lengths; batch_sizes and weights have none.
BATCH_AXIS = (1, 1, 1, 1, 1, 0)
OUTPUT_AXIS = (1, 1, 2)  # output, h_n, gates
GRADIENT_AXIS = (1, 1, 1)  # d_x, d_h_0, d_keep


def forward(
    apply: Callable,
    size: int,
    dims: Sequence[int | None],
    plan: Plan,
    tensors: Sequence[Tensor | None],
):
    """The outputs of a layer and their mapped axes."""
    if not _folds(dims, tensors):
        return _loop(lambda *member: apply(plan, *member), size, dims, tensors)
    folded = fold(size, dims, tensors, BATCH_AXIS)
    return unfold(size, apply(plan, *folded), OUTPUT_AXIS)


def backward(
    apply: Callable,
    size: int,
    dims: Sequence[int | None],
    plan: Plan,
    wanted: Wanted,
    tensors: Sequence[Tensor | None],
):
    """The gradients of a layer; `tensors` are output, its gradients, and the layer."""
    if wanted.weights or not _folds(dims[4:], tensors[4:]):
        return _loop(lambda *member: apply(plan, wanted, *member), size, dims, tensors)
    axes = (1, *OUTPUT_AXIS, *BATCH_AXIS)
    folded = fold(size, dims, tensors, axes)
    return unfold(size, apply(plan, wanted, *folded), GRADIENT_AXIS)


def _folds(dims: Sequence[int | None], tensors: Sequence[Tensor | None]) -> bool:
    """Whether members may lie side by side in one batch: same weights, and not packed."""
    beyond = len(BATCH_AXIS)
    return tensors[beyond] is None and all(dim is None for dim in dims[beyond:])


def fold(size, dims, tensors, axes) -> list[Tensor | None]:
    axes = (*axes, *(None,) * (len(tensors) - len(axes)))
    return [
        tensor if tensor is None or axis is None else _side_by_side(size, tensor, dim, axis)
        for tensor, dim, axis in zip(tensors, dims, axes, strict=True)
    ]


def _side_by_side(size: int, tensor: Tensor, dim: int | None, axis: int) -> Tensor:
    if dim is None:
        shape = (*tensor.shape[:axis], size, *tensor.shape[axis:])
        mapped = tensor.unsqueeze(axis).expand(shape)
    else:
        mapped = tensor.movedim(dim, axis)
    return mapped.flatten(axis, axis + 1)


def unfold(size: int, results: Sequence[Tensor | None], axes: Sequence[int]):
    axes = (*axes, *(0,) * (len(results) - len(axes)))
    mapped = tuple(
        None if result is None else result.unflatten(axis, (size, result.size(axis) // size))
        for result, axis in zip(results, axes, strict=True)
    )
    dims = tuple(None if r is None else axis for r, axis in zip(results, axes, strict=True))
    return mapped, dims


def _member(tensor: Tensor | None, dim: int | None, index: int) -> Tensor | None:
    return tensor if tensor is None or dim is None else tensor.select(dim, index)


def _loop(apply: Callable, size: int, dims: Sequence[int | None], tensors: Sequence[Tensor | None]):
    members = [
        apply(*(_member(t, d, i) for t, d in zip(tensors, dims, strict=True))) for i in range(size)
    ]
    stacked = tuple(
        None if parts[0] is None else torch.stack(parts) for parts in zip(*members, strict=True)
    )
    return stacked, tuple(None if result is None else 0 for result in stacked)
