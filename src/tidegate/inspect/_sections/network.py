"""The network, four numbers, what was found, and the words that are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ..._inspectable import Inspectable
from .._chart import number, percent
from .._page import Section, titled
from ._limits import FEW

if TYPE_CHECKING:
    from .._findings import Finding
    from .._gates import Gates
    from .._memory import Memory


def drawing(item: Inspectable, gates: Gates) -> str:
    """The network as boxes in a row, and what each layer keeps on the average."""
    given = item.inputs[0]
    shape = getattr(getattr(given, "data", given), "shape", ())
    boxes: list[tuple[str, str, str, float | None]] = [
        ("Input", f"{_input_words(item, shape)}", "", None)
    ]
    others = [
        (name, part)
        for name, part in item.module.named_modules()
        if isinstance(part, (nn.Embedding, nn.Linear, nn.Conv1d))
    ]
    boxes += [
        (titled(n), _part_words(p), "", None) for n, p in others if isinstance(p, nn.Embedding)
    ]
    for layer in gates.layers:
        kept = float(np.nanmean(layer.update)) if layer.update.size else float("nan")
        words = f"GRU, {layer.words}" if len(gates.layers) > 1 else "GRU"
        about = f"{layer.update.shape[-1]} units keep {percent(kept)} of the past a step"
        boxes.append((words[:1].upper() + words[1:], about, "gru", kept))
    tail = [(n, p) for n, p in others if not isinstance(p, nn.Embedding)]
    boxes += [(titled(n), _part_words(p), "", None) for n, p in tail[:FEW]]
    if len(tail) > FEW:
        boxes.append(("and", f"{len(tail) - FEW} more parts", "", None))
    items = "".join(
        f'<li><div class="box {kind}"><b>{escape(name)}</b><span>{escape(about)}</span>'
        f"{_meter(kept)}</div></li>"
        for name, about, kind, kept in boxes
    )
    return f'<ol class="drawing" aria-label="The network, from input to output">{items}</ol>'


def _meter(kept: float | None) -> str:
    if kept is None or not np.isfinite(kept):
        return ""
    return f'<i class="meter" aria-hidden="true"><i style="width:{100 * kept:.0f}%"></i></i>'


def _input_words(item: Inspectable, shape: Sequence[int]) -> str:
    if item.tokens:
        return "tokens, one after the other"
    return f"{shape[-1]} numbers a step" if len(shape) > 2 else "a sequence"


def _part_words(part: Any) -> str:
    kind = type(part).__name__
    sizes = {
        "Embedding": ("num_embeddings", "embedding_dim"),
        "Linear": ("in_features", "out_features"),
        "Conv1d": ("in_channels", "out_channels"),
    }
    first, last = (getattr(part, name) for name in sizes.get(kind, sizes["Linear"]))
    return f"{kind}, {first} to {last}"


def facts(memory: Memory) -> str:
    """Four numbers to begin with."""
    layers = memory.layers
    kept = float(np.mean(np.concatenate([layer.kept for layer in layers])))
    leak = np.concatenate([layer.leak_time for layer in layers])
    dead = [lag for layer in layers if (lag := layer.falls_under(0.01)) is not None]
    last = int(layers[0].lags[-1]) if len(layers[0].lags) else 0
    reach = (
        f"{max(dead)} <small>steps</small>"
        if len(dead) == len(layers)
        else f"all {last} <small>steps</small>"
    )
    stuck = float(np.mean(np.concatenate([layer.shut + layer.open for layer in layers])))
    entries = [
        ("Share of the past kept, mean", percent(kept)),
        (
            "Carry-gate leak time, median",
            f"{number(float(np.median(leak)))} <small>steps</small>",
        ),
        ("The gradient reaches back", reach),
        ("Update gates nearly shut or open", percent(stuck)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in entries)
    return f'<dl class="facts">{cells}</dl>'


def found(findings: Sequence[Finding]) -> Section:
    """What the numbers show."""
    entries = "".join(
        f"<li><b>{escape(one.head)}</b><p>{escape(one.detail)}</p>"
        + (f'<p class="do">{_code(escape(one.advice))}</p>' if one.advice else "")
        + "</li>"
        for one in findings
    )
    body = f'<ul class="findings">{entries}</ul>' if entries else ""
    return Section(
        "What was found", "Measured on this input; other inputs may show other things.", body
    )


def _code(text: str) -> str:
    """Arguments in the type of a program."""
    return re.sub(
        r"\b[a-z_]+=(?:&quot;\w+&quot;|\([\d, ]*\)|[\d.]*\d)", r"<code>\g<0></code>", text
    )


WORDS = Section(
    "The words",
    "",
    '<dl class="words">'
    "<dt>Share of the past kept</dt><dd>The update gate, read one way: 100% keeps the old state, "
    "0% replaces it by the candidate. Papers and libraries write <i>z</i> in opposite ways; here "
    "h<sub>t</sub> = (1 − z) · candidate + z · h<sub>t−1</sub>.</dd>"
    "<dt>Candidate</dt><dd>What a unit would be if it kept nothing. It sees the step's input, and "
    "as much of the past as the reset gate leaves in sight.</dd>"
    "<dt>Carry-gate leak time</dt><dd>−1 / mean(ln z) steps: after so long the gate alone has let "
    "a unit's state fall to 1/e. It says nothing of what comes back through the candidate.</dd>"
    "<dt>Norm of the gradient at lag k</dt><dd>How much of a small change of the state, in the "
    "mean over directions, is left k steps later. 1 is neither loss nor gain.</dd>"
    "<dt>Nearly shut, nearly open</dt><dd>A gate under 0.1 or over 0.9.</dd></dl>",
)
