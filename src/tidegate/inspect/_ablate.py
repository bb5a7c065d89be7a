"""`ablate`: what is lost when a gate is held open or shut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .._inspectable import Inspectable
from ._capture import Call, capture
from ._frame import frame
from ._gates import layer_in_words
from ._input import at_rest, forward_replaced, read_input
from ._min_replay import replay_of
from ._strand import Strand

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[Any], Tensor]

# In words, what holding a gate means; z is the share of the past kept.
HOLDS = {
    ("z", 0): "keeps nothing of the past",
    ("z", 1): "keeps all of the past and takes nothing",
    ("r", 0): "proposes without seeing the past",
    ("r", 1): "proposes with all of the past in sight",
}


@dataclass(frozen=True)
class Held:
    """What came of holding one gate of one layer.

    Attributes:
        layer: as in `Gates`; "all layers" where the gate of every layer was held.
        gate: "update" or "reset".
        value: 0 or 1; an update gate at 1 keeps all of the past.
        loss: with the gate held; NaN without a loss.
        moved: how far the module's output moved, root mean square, in units of its spread.
    """

    layer: str
    gate: str
    value: int
    loss: float
    moved: float

    @property
    def words(self) -> str:
        """What was done, in words."""
        layer = self.layer if self.layer == "all layers" else layer_in_words(self.layer)
        return f"{layer} {HOLDS[self.gate[0].replace('u', 'z'), self.value]}"


@dataclass(frozen=True, eq=False)
class Ablation:
    """What each gate is worth: the loss with it held at 0 and at 1.

    Attributes:
        loss: of the model as it is; NaN without a loss.
        held: one entry for each layer, gate and value.
    """

    loss: float
    held: tuple[Held, ...]

    def to_frame(self) -> pd.DataFrame:
        """A row for each gate that was held."""
        columns = ("layer", "gate", "value", "loss", "moved")
        return frame({name: [getattr(held, name) for held in self.held] for name in columns})

    def __repr__(self) -> str:
        lines = "".join(
            f"\n  {h.layer} {h.gate} at {h.value}: loss {h.loss:.4g}, output moved {h.moved:.3g}"
            for h in self.held
        )
        return f"Ablation: loss {self.loss:.4g}{lines}"


def ablate(
    model: Any, x: Any = None, loss: Loss | None = None, *, values: Sequence[int] = (0, 1)
) -> Ablation:
    """Hold one gate at 0 or at 1 in every step, and see what becomes of the output and the loss.

    Args:
        model: as for `gates`.
        x: as for `gates`.
        loss: from the module's result to one number. An estimator knows its own; without one, only
            how far the output moved is told.
        values: at which to hold.

    Raises:
        TypeError: `model` or `x` is of the wrong type.
        ValueError: the model holds no GRU, a value is neither 0 nor 1, or the loss is not one
            number.

    Example:
        >>> gru = torch.nn.GRU(2, 4)
        >>> found = ablate(gru, torch.randn(9, 3, 2), lambda result: result[0].square().mean())
        >>> all_kept = next(h for h in found.held if (h.gate, h.value) == ("update", 1))
        >>> all_kept.loss  # the state stays what it was in the beginning: zero
        0.0
    """
    if not set(values) <= {0, 1}:
        raise ValueError(f"values must be 0, 1 or both, but they are {tuple(values)}")
    return ablation_of(read_input(model, x, known=True), loss, values=values)


def ablation_of(
    item: Inspectable, loss: Loss | None = None, *, values: Sequence[int] = (0, 1)
) -> Ablation:
    """As `ablate`, of what was read already."""
    loss = item.loss if loss is None else loss
    result, calls = capture(item.module, item.inputs)
    replays: dict[nn.Module, list[Strand]] = {}
    for call in calls:
        if call.module not in replays:
            first = replay_of(call).rows(torch.arange(1))  # one row tells the strands
            replays[call.module] = [trace.strand for trace in first.run().each]
    strands = [(module, strand) for module, found in replays.items() for strand in found]
    tried = [
        ({module: {strand.name}}, strand.name, gate, value)
        for module, strand in strands
        for gate in ("z", "r")
        for value in values
        if gate in strand.gates
    ]
    if len(strands) > 1:
        everywhere = {module: {s.name for s in found} for module, found in replays.items()}
        tried += [(everywhere, "all layers", "z", value) for value in values]
    names = {"z": "update", "r": "reset"}
    held = []
    for which, name, gate, value in tried:
        other = _run_holding(item, {call.module: call.name for call in calls}, which, gate, value)
        held.append(Held(name, names[gate], value, _number(loss, other), _distance(other, result)))
    return Ablation(_number(loss, result), tuple(held))


def _run_holding(
    item: Inspectable,
    names: dict[nn.Module, str],
    which: Mapping[nn.Module, set[str]],
    gate: str,
    value: int,
) -> Any:
    """The module's result with a gate held in some strands."""

    def edited(module: nn.Module, strands: set[str]) -> Callable[..., Any]:
        def edit(strand: Strand) -> Strand:
            return strand.holding(gate, value) if strand.name in strands else strand

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(("input", "hx", "lengths", "keep"), args, strict=False)) | kwargs
            return_gates = given.pop("return_gates", False)
            call = Call(names[module], module, **given)
            replay = replay_of(call)
            return replay.answer(edit, call, return_gates)

        return forward

    replaced = {module: edited(module, strands) for module, strands in which.items()}
    with at_rest(item.module), torch.no_grad(), forward_replaced(replaced):
        return item.module(*item.inputs)


def _number(loss: Loss | None, result: Any) -> float:
    if loss is None:
        return float("nan")
    with torch.no_grad():
        number = torch.as_tensor(loss(result))
    if number.numel() != 1:
        raise ValueError(f"loss must give one number, but it gives {tuple(number.shape)}")
    return float(number)


def _distance(other: Any, result: Any) -> float:
    """Root mean square of the change of the output, in units of its own spread."""
    before, after = _first_tensor(result), _first_tensor(other)
    if before is None or after is None or before.shape != after.shape:
        return float("nan")
    spread = before.double().std(correction=0)
    change = (after.double() - before.double()).square().mean().sqrt()
    return float(change / spread) if spread > 0 else float(np.inf if change > 0 else 0.0)


def _first_tensor(result: Any) -> Tensor | None:
    while isinstance(result, (tuple, list)) and not isinstance(result, PackedSequence):
        if not result:
            return None
        result = result[0]
    if isinstance(result, PackedSequence):
        return result.data
    return result if isinstance(result, Tensor) else None
