"""The network, four numbers, what was found, and the words that are used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..._inspectable import Inspectable
from ...nn import MinGRU
from .._capture import GRUS
from .._chart import number, percent
from .._input import at_rest
from .._page import Section, isolated, titled

if TYPE_CHECKING:
    from .._findings import Finding
    from .._gates import Gates, LayerGates
    from .._memory import Memory

# Parts beside the GRUs that are drawn, and where their sizes are; so many at most.
_SIZES: dict[type[nn.Module], tuple[str, str]] = {
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.Linear: ("in_features", "out_features"),
    nn.Conv1d: ("in_channels", "out_channels"),
}
_PARTS = 5


def drawing(item: Inspectable, gates: Gates) -> str:
    """The network as boxes in the order in which they run, and what each layer keeps."""
    parts, result = _in_order(item)
    waiting, boxes, others = _by_layer(gates), [_input_box(item)], 0
    several = len(waiting) > 1
    for name, part in parts:
        if not isinstance(part, GRUS):
            others += 1
            boxes += [_part_box(name, part)] if others <= _PARTS else []
            continue
        for layer in [one for one in waiting if one[0] in ("", name) or f"{name}#" in one[0]]:
            waiting.remove(layer)
            boxes.append(_layer_box(layer[1], several, part))
    if others > _PARTS:
        boxes.append(_box("and", f"{others - _PARTS} more parts"))
    boxes.append(_box("Output", _output_words(item, result)))
    return (
        '<ol class="drawing" aria-label="The network, from input to output">'
        f"{''.join(f'<li>{box}</li>' for box in boxes)}</ol>"
    )


def _in_order(item: Inspectable) -> tuple[list[tuple[str, nn.Module]], Any]:
    """The parts that ran, each once, and what came out."""
    names = {
        part: name
        for name, part in item.module.named_modules()
        if isinstance(part, (*GRUS, *_SIZES))
    }
    ran: dict[nn.Module, str] = {}

    def note(part: nn.Module, *_: Any) -> None:
        ran.setdefault(part, names[part])

    handles = [part.register_forward_hook(note) for part in names]
    try:
        with at_rest(item.module), torch.no_grad():
            result = item.module(*item.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [(name, part) for part, name in ran.items()], result


def _by_layer(gates: Gates) -> list[tuple[str, list[LayerGates]]]:
    """Each layer's module and its directions."""
    layers: dict[str, list[LayerGates]] = {}
    for layer in gates.layers:
        layers.setdefault(layer.name.removesuffix("_reverse"), []).append(layer)
    return [(name.rpartition(".")[0], directions) for name, directions in layers.items()]


def _layer_box(directions: Sequence[LayerGates], several: bool, part: nn.Module) -> str:
    cell = "minGRU" if isinstance(part, MinGRU) else "GRU"
    name = f"{cell}, {directions[0].words}" if several else cell
    each_way = "2 × " if len(directions) > 1 else ""
    units = f"{each_way}{directions[0].update.shape[-1]} units"
    sizes = [layer.update.size for layer in directions]
    kept = float(np.nanmean([layer.update for layer in directions])) if all(sizes) else np.nan
    meter = f'<i class="meter" aria-hidden="true"><i style="width:{100 * kept:.0f}%"></i></i>'
    about = f"{units}, {percent(kept)} of the past kept" if np.isfinite(kept) else units
    return _box(name, about, "gru", meter if np.isfinite(kept) else "")


def _part_box(name: str, part: nn.Module) -> str:
    kind = type(part).__name__
    first, last = next(
        (getattr(part, names[0]), getattr(part, names[1]))
        for of, names in _SIZES.items()
        if isinstance(part, of)
    )
    short = name.rpartition(".")[2].replace("_", " ")
    if not short or short.isdigit() or short.lower() == kind.lower():
        return _box(kind, f"{first:,} to {last:,}")
    return _box(titled(short), f"{kind}, {first:,} to {last:,}")


def _box(name: str, about: str, kind: str = "", meter: str = "") -> str:
    said = f"<span>{escape(about)}</span>" if about else ""
    return f'<div class="box {kind}"><b>{escape(name)}</b>{said}{meter}</div>'


def _input_box(item: Inspectable) -> str:
    given = item.inputs[0]
    shape = getattr(getattr(given, "data", given), "shape", ())
    if item.tokens:
        return _box("Input", "tokens, one after the other")
    return _box("Input", f"{_numbers(shape[-1])} a step" if len(shape) > 2 else "a sequence")


def _output_words(item: Inspectable, result: Any) -> str:
    first = result[0] if isinstance(result, tuple) else result
    shape = getattr(getattr(first, "data", first), "shape", ())
    if item.foresees:
        return "chances of the next token"
    if len(shape) > 2:
        return f"{_numbers(shape[-1])} a {'token' if item.tokens else 'step'}"
    return _numbers(shape[-1]) if len(shape) == 2 else ""


def _numbers(count: int) -> str:
    return f"{count:,} number{'' if count == 1 else 's'}"


def facts(memory: Memory) -> str:
    """Four numbers to begin with."""
    layers = memory.layers
    kept = float(np.mean(np.concatenate([layer.kept for layer in layers])))
    leak = np.concatenate([layer.leak_time for layer in layers])
    dead = [lag for layer in layers if (lag := layer.falls_under(0.01)) is not None]
    last = int(layers[0].lags[-1]) if len(layers[0].lags) else 0
    reach = f"{max(dead)}" if len(dead) == len(layers) else f"all {last}"
    steps = "step" if reach in ("1", "all 1") else "steps"
    stuck = float(np.mean(np.concatenate([layer.shut + layer.open for layer in layers])))
    entries = [
        ("Share of the past kept", escape(percent(kept)), "on the average"),
        ("Carry-gate leak time", number(float(np.median(leak))), "steps, the median"),
        ("The gradient reaches back", reach, f"{steps} from the last"),
        ("Nearly shut or open", escape(percent(stuck)), "of update gates"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value} <small>{of}</small></dd></div>"
        for name, value, of in entries
    )
    return f'<dl class="facts">{cells}</dl>'


def found(findings: Sequence[Finding]) -> Section:
    """What the numbers show."""
    entries = "".join(
        f"<li><b>{isolated(one.head)}</b><p>{isolated(one.detail)}</p>"
        + (f'<p class="do">{_code(escape(one.advice))}</p>' if one.advice else "")
        + "</li>"
        for one in findings
    )
    body = f'<ul class="findings">{entries}</ul>' if entries else ""
    return Section(
        "What was found", "Measured on this input; other inputs may show other things.", body
    )


def _code(text: str) -> str:
    """Calls and arguments in the type of a program."""
    argument = r"[a-z_]+=(?:&quot;\w+&quot;|\([\d, ]*\)|[\d.]*\d)"
    return re.sub(rf"\w+\({argument}(?:, {argument})*\)|\b{argument}", r"<code>\g<0></code>", text)


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
