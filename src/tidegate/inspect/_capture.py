"""The GRUs inside a module, and what each is given when the module runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ..nn import GRU, MinGRU
from ._input import at_rest

# What is looked into; a minGRU is called as a GRU is.
GRUS: tuple[type[nn.Module], ...] = (nn.GRU, MinGRU)
RECURRENT = (nn.RNNBase, MinGRU)


@dataclass(frozen=True)
class Call:
    """One call of a recurrent module, with the arguments that `GRU` takes."""

    name: str
    module: Any
    input: Tensor | PackedSequence
    hx: Any = None
    lengths: Any = None
    keep: Tensor | None = None

    @property
    def time_axis(self) -> int:
        """Which axis of a padded input counts the steps."""
        batched = isinstance(self.input, Tensor) and self.input.dim() == 3
        return 1 if self.module.batch_first and batched else 0


def capture(
    module: nn.Module,
    inputs: tuple[Any, ...],
    kinds: tuple[type[nn.Module], ...] = GRUS,
) -> tuple[Any, list[Call]]:
    """Run a module, without gradients, and say how its recurrent parts were called.

    Calls that go on where the one before ended, as those of a decoder that runs step by step, are
    one call.

    Raises:
        ValueError: the module has no part of this kind, or calls none.
    """
    names = {part: name for name, part in module.named_modules() if isinstance(part, kinds)}
    if not names:
        raise ValueError(
            f"{type(module).__name__} contains no {kinds[0].__name__}: nothing to look into"
        )
    calls: list[Call] = []
    ends: list[Any] = []
    with at_rest(module), _listening(names, calls, ends), torch.no_grad():
        result = module(*inputs)
    if not calls:
        raise ValueError(f"{type(module).__name__} did not call {', '.join(names.values())}")
    return result, _told_apart(_joined(calls, ends))


@contextmanager
def _listening(names: dict[nn.Module, str], calls: list[Call], ends: list[Any]) -> Iterator[None]:
    def listen(part: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
        given = dict(zip(("input", "hx", "lengths", "keep"), args, strict=False)) | kwargs
        given.pop("return_gates", None)
        calls.append(Call(names[part], part, **given))
        ends.append(result[1])

    handles = [part.register_forward_hook(listen, with_kwargs=True) for part in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _joined(calls: list[Call], ends: list[Any]) -> list[Call]:
    joined: list[tuple[Call, Any]] = []
    for call, end in zip(calls, ends, strict=True):
        last = next((j for j in reversed(range(len(joined))) if _goes_on(call, *joined[j])), None)
        if last is None:
            joined.append((call, end))
        else:
            before = joined[last][0]
            parts = [part.input for part in (before, call) if isinstance(part.input, Tensor)]
            joined[last] = (replace(before, input=torch.cat(parts, call.time_axis)), end)
    return [call for call, _ in joined]


def _goes_on(call: Call, before: Call, end: Any) -> bool:
    """Whether a call starts from the state in which an earlier one ended."""
    tensors = (call.hx, end, call.input, before.input)
    if call.module is not before.module or not all(isinstance(t, Tensor) for t in tensors):
        return False
    options = (call.lengths, call.keep, before.lengths, before.keep)
    if call.module.bidirectional or any(option is not None for option in options):
        return False
    return call.hx.shape == end.shape and torch.equal(call.hx, end)


def _told_apart(calls: list[Call]) -> list[Call]:
    """Names that differ: a module that was called several times gets numbers."""
    counts: dict[str, int] = {}
    names = [call.name for call in calls]
    told = []
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
        more = f"#{counts[call.name]}" if names.count(call.name) > 1 else ""
        told.append(replace(call, name=call.name + more))
    return told


def as_ours(call: Call) -> tuple[GRU, tuple[Tensor, Any, Any, Tensor | None]]:
    """A `tidegate.nn.GRU` with the parameters of a call's module, and its arguments, padded.

    All in float64 on the CPU.
    """
    module = call.module
    gru = GRU.__new__(GRU)  # whatever class it has, also one that a parametrization made
    gru.__dict__ = dict(module.__dict__)
    for name in (*module._flat_weights_names, *_initial(module)):
        gru.__dict__[name] = as_double(getattr(module, name))
    (inputs, lengths), hx = padded(call), call.hx
    if hx is not None:
        hx = as_double(hx) if isinstance(hx, Tensor) else tuple(as_double(h) for h in hx)
    keep = None if call.keep is None else as_double(call.keep)
    return gru, (as_double(as_numbers(inputs, module)), hx, lengths, keep)


def padded(call: Call) -> tuple[Tensor, Tensor | None]:
    """The input of a call, its packed rows laid out; and the steps of each row, on the CPU."""
    inputs, lengths = call.input, call.lengths
    if isinstance(inputs, PackedSequence):
        inputs, lengths = pad_packed_sequence(inputs, batch_first=bool(call.module.batch_first))
    return inputs, None if lengths is None else torch.as_tensor(lengths).cpu()


def as_numbers(inputs: Tensor, module: nn.RNNBase) -> Tensor:
    """The input of a GRU as it multiplies its weights; whole numbers name one feature each."""
    if inputs.is_floating_point():
        return inputs
    weight = getattr(module, module._flat_weights_names[0])
    return F.one_hot(inputs.long(), module.input_size).to(weight.dtype)


def _initial(module: nn.RNNBase) -> list[str]:
    """Names of a learnt initial state."""
    return [name for name, _ in module.named_parameters() if name.startswith("hx_")]


def as_double(tensor: Tensor) -> Tensor:
    """Without its graph, in float64 on the CPU."""
    return tensor.detach().to("cpu", torch.float64)
