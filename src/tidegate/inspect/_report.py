"""`report`: all of it on one page that opens offline."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .._files import replacing
from .._inspectable import Inspectable
from ..errors import InputError
from ..nn import MinGRU
from . import _sections
from ._ablate import Ablation, Loss, ablation_of
from ._backtest import judge
from ._calibration import calibration_of
from ._capture import GRUS
from ._carry import Carry, carry_of
from ._findings import Finding, findings
from ._flow import GradientFlow, flow_of
from ._gates import Gates, gates_of
from ._heat import ROWS, heat_map
from ._input import Labels, read_input
from ._memory import Memory, memory_of
from ._page import page

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

    from ..train import History


# What the page looks into at most: characters of a text, steps of an array; rows of the heat map.
LONGEST_TEXT, LONGEST, MOST_ROWS = 2000, 2000, ROWS


@dataclass(frozen=True, eq=False)
class Report:
    """A page, and the arrays that it was made from.

    Attributes:
        html: the page: one file, under 2 MB, that fetches nothing.
        findings: what the numbers show, in words.
        gates: as `gates` returns it, of the first rows.
        memory: as `memory` returns it.
        flow: as `gradient_flow` returns it.
        ablation: as `ablate` returns it.
        carry: as `carry` returns it, of the first row; None where there is nothing to explain.
    """

    html: str
    findings: tuple[Finding, ...]
    gates: Gates
    memory: Memory
    flow: GradientFlow
    ablation: Ablation
    carry: Carry | None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file; whoever reads it meanwhile sees the old one or the new one.

        Raises:
            InputError: the file cannot be written.
        """
        with replacing(Path(path)) as file:
            file.write_text(self.html, encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        """The page inside a notebook, apart from the notebook's own style."""
        return (
            '<iframe title="Gate report" sandbox="allow-scripts" loading="lazy" '
            'style="box-sizing:border-box;width:100%;height:42rem;border:1px solid #ccd5da;'
            'border-radius:10px" '
            f'srcdoc="{escape(self.html, quote=True)}"></iframe>'
        )

    def __repr__(self) -> str:
        lines = "".join(f"\n  - {finding}" for finding in self.findings)
        return f"Report of {len(self.html) / 1000:.0f} kB:{lines}"


@torch.inference_mode(False)  # gradients are needed
def report(
    model: Any,
    x: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    labels: Labels | None = None,
    target: Any = None,
    loss: Loss | None = None,
    title: str | None = None,
    backtest: IntoFrame | None = None,
    history: History | dict[str, History] | None = None,
    lags: int | None = None,
) -> Report:
    """Look into a GRU, and put what was found on one page.

    The page opens in any browser without a network, on a phone too, light or dark. Large inputs are
    summarised: the first rows, some of the units, and means of neighbouring steps.

    Args:
        model: as for `gates`.
        x: as for `gates`.
        path: where to write the page; not written when not given.
        labels: names of the steps, such as dates or tokens.
        target: what a probe is to read, as for `memory`.
        loss: what each gate is worth is measured by, as for `ablate`; an estimator has its own.
        title: the model in one line.
        backtest: what `GRUForecaster.backtest` returned, to show errors and calibration.
        history: of the training, for a module; an estimator has its own.
        lags: the largest lag.

    Raises:
        InputError: an input or the file cannot be used.
        TypeError: `model` or `x` is of the wrong type.
        ValueError: the model holds no GRU, its gates are no numbers, or arguments do not fit each
            other.

    Example:
        >>> import torch
        >>> made = report(torch.nn.GRU(2, 6), torch.randn(30, 4, 2))
        >>> made.html[:15], len(made.html) < 2_000_000
        ('<!doctype html>', True)
    """
    x, said_of_x = _bounded(model, x)
    item = read_input(model, x, labels)
    gates = gates_of(item, MOST_ROWS)
    if not gates.lengths.any():
        raise ValueError("x has no steps: there is nothing to look into")
    _check_finite(gates)
    memory = memory_of(item, target=target, lags=lags)
    flow = flow_of(item, lags=lags)
    ablation = _ablation(model, x, item, loss)
    carry = _carry(item, gates)
    histories = item.history if history is None else history
    if histories is not None and not isinstance(histories, dict):
        histories = {"training": histories}
    judgement = None if backtest is None else judge(backtest)
    shown = _named_shortly(gates, memory, flow, ablation)
    calibration = calibration_of(item)
    said = findings(*shown, carry, histories, calibration, _cure(model), item.tokens)
    data = heat_map(
        item, shown[0], _count_rows(item, gates), [_by_memory(layer) for layer in memory.layers]
    )
    notes = [*said_of_x, *item.notes]
    notes = "".join(f'<p class="lead">{escape(note)}</p>' for note in notes)
    head = notes + _sections.drawing(item, shown[0]) + _sections.facts(memory)
    sections = [
        _sections.found(said),
        _sections.heat(data, shown[0], item),
        _sections.outcomes(item),
        _sections.came_from(carry, item),
        _sections.flow_back(shown[2], shown[1]),
        _sections.remembered(shown[1]),
        _sections.saturated(shown[1]),
        _sections.worth(shown[3]),
        _sections.trained(histories),
        _sections.judged(judgement),
        _sections.calibrated(calibration, item),
        _sections.WORDS,
    ]
    html = page(_title(item, gates, title), head, sections, data)
    made = Report(html, said, gates, memory, flow, ablation, carry)
    if path is not None:
        made.save(path)
    return made


def _check_finite(gates: Gates) -> None:
    """Refuse what no page could show.

    Raises:
        ValueError: a gate is no number.
    """
    for layer in gates.layers:
        inside = np.arange(len(layer.update))[:, None] < gates.lengths
        places = np.argwhere(inside[..., None] & ~np.isfinite(layer.update + layer.state))
        if len(places):
            step, row, _ = places[0]
            raise ValueError(
                f"the gates of {layer.words} are no numbers from step {step} of row {row} on: x or "
                "the weights have NaN or infinity"
            )


def _bounded(model: Any, x: Any) -> tuple[Any, list[str]]:
    """The input, cut where it is so long that a page could not show it, and a sentence if so.

    What an estimator cuts into rows of its own is as long as these.
    """
    if isinstance(x, str) and len(x) > LONGEST_TEXT:
        said = f"The first {LONGEST_TEXT:,} of {len(x):,} characters were looked into."
        return x[:LONGEST_TEXT], [said]
    if not isinstance(model, GRUS) or not hasattr(x, "shape") or len(x.shape) not in (2, 3):
        return x, []
    axis = 1 if model.batch_first and len(x.shape) == 3 else 0
    if x.shape[axis] <= LONGEST:
        return x, []
    said = f"The last {LONGEST:,} of {x.shape[axis]:,} steps were looked into."
    return (x[:, -LONGEST:] if axis else x[-LONGEST:]), [said]


def _cure(model: Any) -> str:
    """What gives a network of the user's own a longer memory."""
    module = model.module if isinstance(model, Inspectable) else model
    if not isinstance(module, nn.Module):
        return ""
    if any(isinstance(part, MinGRU) for part in module.modules()):
        return "MinGRU(chrono_range=(2, {}))"
    return 'GRU(init="chrono", chrono_range=(2, {}))'


def _named_shortly(
    gates: Gates, memory: Memory, flow: GradientFlow, ablation: Ablation
) -> tuple[Gates, Memory, GradientFlow, Ablation]:
    """The same, layers without the name of their GRU where there is one only."""
    modules = {layer.name.rpartition(".")[0] for layer in gates.layers}
    if len(modules) > 1:
        return gates, memory, flow, ablation
    start = f"{modules.pop()}."

    def short(entries: tuple, name: str = "name") -> tuple:
        return tuple(replace(e, **{name: getattr(e, name).removeprefix(start)}) for e in entries)

    return (
        replace(gates, layers=short(gates.layers)),
        replace(memory, layers=short(memory.layers)),
        replace(flow, curves=short(flow.curves)),
        replace(ablation, held=short(ablation.held, "layer")),
    )


def _count_rows(item: Inspectable, gates: Gates) -> int:
    """Rows of the input, of which the first are shown."""
    if item.names is not None:
        return len(item.names)
    first = item.inputs[0]
    bare = isinstance(item.module, GRUS) and not item.module.batch_first
    shape = getattr(first, "shape", ())
    return max(shape[1 if bare else 0] if len(shape) > 2 else 0, len(gates.lengths))


def _title(item: Inspectable, gates: Gates, title: str | None) -> str:
    if title is not None:
        return title
    if item.title != type(item.module).__name__ or not isinstance(item.module, GRUS):
        return item.title
    layers = len({layer.name.removesuffix("_reverse") for layer in gates.layers})
    units = gates.layers[0].update.shape[-1]
    cell = "minGRU" if isinstance(item.module, MinGRU) else "GRU"
    return f"A {cell} of {layers} layer{'s' if layers > 1 else ''} of {units} units"


def _by_memory(layer: Any) -> np.ndarray:
    """Units by leak time: those that kept their past longest come first."""
    return np.argsort(-layer.leak_time, kind="stable")


def _ablation(model: Any, x: Any, item: Inspectable, loss: Loss | None) -> Ablation:
    """With the truth known, if the estimator has one to show."""
    if loss is None and item.loss is None and not isinstance(model, (nn.Module, Inspectable)):
        try:
            item = read_input(model, x, known=True)
        except InputError:
            return ablation_of(item, None)
    return ablation_of(item, loss)


def _carry(item: Inspectable, gates: Gates) -> Carry | None:
    row = int(np.flatnonzero(gates.lengths)[0])
    try:
        return carry_of(item, row=row)
    except ValueError:  # the module's result has no rows that could be explained
        return None
