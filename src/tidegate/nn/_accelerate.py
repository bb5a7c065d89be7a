"""`accelerate`: every `torch.nn.GRU` of a model becomes ours, in place."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from tidegate.nn._cell import GRUCell
from tidegate.nn._gru import GRU

OURS: dict[type, type] = {nn.GRU: GRU, nn.GRUCell: GRUCell}


class Acceleration(NamedTuple):
    """What `accelerate` did, by the names of the modules: what each became, or why it stayed."""

    changed: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        """One line a module."""
        if not (self.changed or self.left):
            return "no GRU in this model"
        lines = [f"{name or 'the model'}: now {became}" for name, became in self.changed.items()]
        return "\n".join(
            lines + [f"{name or 'the model'}: left, {why}" for name, why in self.left.items()]
        )


def accelerate(model: nn.Module) -> Acceleration:
    """Turn every `torch.nn.GRU` and `GRUCell` inside `model`, or itself, into ours.

    The modules stay the objects that they are: parameters, buffers, hooks, device, dtype, mode and
    whatever refers to them are untouched, and so are `state_dict` and optimisers. On a GPU, and in
    a `GRUCell`, torch's kernels go on running.

    Raises:
        TypeError: `model` is no module.

    Example:
        >>> model = nn.Sequential(nn.GRU(3, 8))
        >>> print(accelerate(model))
        0: now tidegate.nn.GRU
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, but it is a {type(model).__name__}")
    changed, left = {}, {}
    for name, module in model.named_modules():
        kind = type(module)
        base = kind.__base__
        parametrized = base in OURS and parametrize.is_parametrized(module)
        if "forward" in module.__dict__ and (kind in OURS or parametrized):
            left[name] = "its forward was replaced"
        elif kind in OURS:
            module.__class__ = OURS[kind]
            changed[name] = _name(OURS[kind])
        elif parametrized and base:  # a class that was made for this module alone
            ours = OURS[base]
            kind.__bases__ = (ours,)
            changed[name] = f"{_name(ours)}, parametrized"
        elif not isinstance(module, tuple(OURS.values())) and (why := _why_left(module)):
            left[name] = why
    return Acceleration(changed, left)


def _name(ours: type) -> str:
    return f"tidegate.nn.{ours.__name__}"


def _why_left(module: nn.Module) -> str | None:
    """Why a module that is some kind of GRU stays as it is; None for every other module."""
    kind = type(module).__name__
    if isinstance(module, tuple(OURS)):
        return f"{kind} is a class of its own"
    if getattr(module, "original_name", None) in {"GRU", "GRUCell"}:
        return "it is compiled by TorchScript"
    if kind in {"GRU", "GRUCell"} and not any(module.children()):
        return f"{type(module).__module__}.{kind} is not torch.nn's"
    return None
