"""The sections of the page, each from arrays to HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .._inspectable import Ahead, Choices, Inspectable
from ._chart import Axis, Line, bars_over_steps, line_chart, number, percent
from ._gates import layer_in_words
from ._heat import STEPS, parts_of, right_to_left
from ._page import Section, figure, table, unfold

if TYPE_CHECKING:
    from ..train import History
    from ._ablate import Ablation
    from ._backtest import Judgement
    from ._carry import Carry
    from ._findings import Finding
    from ._flow import GradientFlow
    from ._gates import Gates
    from ._memory import Memory

_LOOKS = ("main", "second", "third", "fourth")
_FEW = 4  # layers, forecasts or rows that are shown one by one
_ROWS = 60  # of a table


def drawing(item: Inspectable, gates: Gates) -> str:
    """The network as boxes in a row, and what each layer keeps on the average."""
    from torch import nn

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
        (_title(n), _part_words(p), "", None) for n, p in others if isinstance(p, nn.Embedding)
    ]
    for layer in gates.layers:
        kept = float(np.nanmean(layer.update)) if layer.update.size else float("nan")
        words = f"GRU, {layer.words}" if len(gates.layers) > 1 else "GRU"
        about = f"{layer.update.shape[-1]} units keep {percent(kept)} of the past a step"
        boxes.append((words[:1].upper() + words[1:], about, "gru", kept))
    tail = [(n, p) for n, p in others if not isinstance(p, nn.Embedding)]
    boxes += [(_title(n), _part_words(p), "", None) for n, p in tail[:_FEW]]
    if len(tail) > _FEW:
        boxes.append(("and", f"{len(tail) - _FEW} more parts", "", None))
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


def heat(data: dict[str, Any], gates: Gates, item: Inspectable) -> Section:
    """The heat map, its controls, and its numbers as a table."""
    rows, layers = data["rows"], data["layers"]
    controls = []
    if len(rows) > 1:
        what = "Text" if item.tokens else "Series" if item.names else "Row"
        options = "".join(
            f'<option value="{i}">{escape(row["name"])}</option>' for i, row in enumerate(rows)
        )
        controls.append(f'<label>{what}<select id="row">{options}</select></label>')
    if len(layers) > 1:
        options = "".join(
            f'<option value="{i}">{escape(layer["words"])}</option>'
            for i, layer in enumerate(layers)
        )
        controls.append(f'<label>Layer<select id="layer">{options}</select></label>')
    shown = {"kept": "Past kept", "state": "State", "new": "Candidate"}
    if any(layer["reset"] for layer in layers):
        shown["reset"] = "Past in sight"
    radios = "".join(
        f'<label><input type="radio" name="show" value="{key}"'
        f"{' checked' if key == 'kept' else ''}><span>{name}</span></label>"
        for key, name in shown.items()
    )
    controls.append(
        '<fieldset id="show"><legend>Colour shows</legend>'
        f'<div class="choices">{radios}</div></fieldset>'
    )
    step = "token" if item.tokens else "step"
    body = (
        f'<figure class="heat"><div class="controls">{"".join(controls)}</div>'
        '<p class="text" id="words" hidden></p><div class="scroll">'
        '<div class="field" id="field" tabindex="0" role="application" '
        f'aria-roledescription="heat map" aria-label="Gates of every unit at every {step}. Left '
        f"and right choose a {step}, up and down a unit, Home and End the first and the last "
        f"{step}. What is chosen is read out; "
        'the numbers are in the table below." aria-describedby="said">'
        '<div class="names" id="names" aria-hidden="true" hidden></div>'
        '<canvas id="series" aria-hidden="true" hidden></canvas>'
        '<canvas id="heat" aria-hidden="true"></canvas></div></div>'
        '<div class="ruler" id="ruler" aria-hidden="true"></div>'
        '<div class="scale" aria-hidden="true"><span id="from"></span><canvas id="bar"></canvas>'
        '<span id="to"></span></div>'
        '<p id="said" aria-live="polite" class="skip"></p>'
        f'<div class="readout" id="readout"><p class="hint">Point at a {step}, or press Tab and '
        "the arrow keys, to see what was kept, forgotten and taken there.</p></div>"
        "<noscript><p>The heat map needs JavaScript; its numbers are in the table.</p></noscript>"
        f"<figcaption>{_heat_caption(data, gates, item)}</figcaption>"
        f"{unfold(_heat_table(gates, item))}</figure>"
    )
    lead = (
        "One line a unit, the longest memory on top; one column a "
        f"{step}. The stronger the colour, the more of the past was kept; where it fades, the unit "
        "let go of its past and took something new."
    )
    return Section("What the gates did", lead, body)


def _heat_caption(data: dict[str, Any], gates: Gates, item: Inspectable) -> str:
    parts = []
    if data["of"] > len(data["rows"]):
        parts.append(f"The first {len(data['rows'])} of {data['of']} rows.")
    if any(len(layer["units"]) < layer["of"] for layer in data["layers"]):
        layer = data["layers"][0]
        parts.append(f"{len(layer['units'])} of {layer['of']} units, evenly chosen.")
    longest = int(gates.lengths.max(initial=0))
    if longest > STEPS:
        parts.append(f"Columns are means of {-(-longest // STEPS)} neighbouring steps.")
    if item.tokens:
        parts.append("In the text above, the more colour, the more was taken at a token.")
    return " ".join(parts)


def _heat_table(gates: Gates, item: Inspectable) -> str:
    row = int(np.flatnonzero(gates.lengths)[0]) if gates.lengths.any() else 0
    labels = gates.labels[row][: int(gates.lengths[row])]
    begun = next((t for t, label in enumerate(labels) if label), 0)
    parts = [(begun + a, begun + b) for a, b in parts_of(len(labels) - begun)]
    thin = -(-len(parts) // _ROWS)
    lines = []
    for start, stop in parts[::thin]:
        cells = [f"{labels[start]}{'' if stop - start == 1 else ' …'}"]
        for layer in gates.layers[:_FEW]:
            kept = float(np.nanmean(layer.update[start:stop, row]))
            moved = layer.state[start:stop, row] - layer.before[start:stop, row]
            cells += [percent(kept), f"{float(np.sqrt(np.nanmean(moved**2))):.2f}"]
        lines.append(cells)
    heads = ["token" if item.tokens else "step"]
    for layer in gates.layers[:_FEW]:
        name = f", {layer.words}" if len(gates.layers) > 1 else ""
        heads += [f"past kept{name}", f"state moved{name}"]
    return table(heads, lines, f"Mean over the units of {gates.names[row]}")


def remembered(memory: Memory) -> Section:
    """Units by memory, and the causal measures beside them."""
    figures = []
    for layer in memory.layers[:_FEW]:
        order = np.argsort(-layer.leak_time, kind="stable")
        rank = np.arange(1, len(order) + 1)
        leak = np.minimum(layer.leak_time[order], 1e4)
        lines = [
            Line("carry-gate leak time", rank, np.maximum(leak, 1e-2)),
            Line(
                "reach of the gradient",
                rank,
                np.maximum(layer.reach[order], 0.5),
                "second",
                alone=True,
            ),
        ]
        median = number(float(np.median(layer.leak_time)))
        says = (
            f"Units of {layer.words} sorted by carry-gate leak time, from "
            f"{number(float(leak[0]))} to {number(float(leak[-1]))} steps, half over {median}."
        )
        chart = line_chart(lines, Axis("units, sorted"), Axis("steps", log=True), says)
        top = [
            [
                f"unit {unit}",
                number(float(layer.leak_time[unit])),
                str(int(layer.reach[unit])),
                percent(float(layer.kept[unit])),
                percent(float(layer.shut[unit])),
                percent(float(layer.open[unit])),
                *([] if layer.probe is None else [percent(float(layer.probe[unit]))]),
            ]
            for unit in (order if layer.probe is None else layer.ranked)[:_ROWS]
        ]
        heads = ["unit", "leak time", "reach", "past kept", "nearly shut", "nearly open"]
        heads += [] if layer.probe is None else [f"probe, {memory.score}"]
        caption = f"Half of the units have a leak time over {median} steps."
        name = f"<h3>{_title(layer.words)}</h3>" if len(memory.layers) > 1 else ""
        figures.append(name + figure(chart, caption, table(heads, top, f"Units of {layer.words}")))
    lead = (
        "The carry-gate leak time says after how many steps the gate alone has let a unit fall to "
        "1/e. Memory can also sit in the candidate; so beside it stands the reach of the gradient: "
        "the last lag at which a small change of the unit still has 1/e of its size."
    )
    body = f'<div class="pair">{"".join(f"<div>{one}</div>" for one in figures)}</div>'
    return Section("Units by their memory", lead, body + _groups(memory))


def _groups(memory: Memory) -> str:
    lines = [
        [
            f"{layer.words}: best {len(group.units)}",
            percent(max(group.alone, 0.0)),
            percent(max(group.without, 0.0)),
        ]
        for layer in memory.layers
        for group in layer.groups
    ]
    if not lines:
        return ""
    heads = ["units", "read from them alone", "read from the others, these held still"]
    return (
        f"<h3>What a linear probe reads ({memory.score}; by chance {percent(memory.chance)})</h3>"
        + table(heads, lines, "What a linear probe reads from groups of units")
    )


def flow_back(flow: GradientFlow, memory: Memory) -> Section:
    """The gradient against the lag, beside other cells; and what disturbances do."""
    lines = []
    models = [curve for curve in flow.curves if curve.kind != "untrained"]
    for curve, look in zip(models[:_FEW], _LOOKS, strict=False):
        name = layer_in_words(curve.name) if len(models) > 1 else "this GRU"
        lines.append(Line(name, curve.lags, curve.norm, look))
    for name in ("plain RNN, untrained", "GRU, untrained"):
        for curve in (c for c in flow.curves if c.name == name):
            look = "quiet" if "plain" in name else "truth"
            lines.append(Line(name, curve.lags, curve.norm, look))
    floor = max(1e-6, min(float(np.nanmin(np.where(li.y > 0, li.y, 1))) for li in lines))
    lines = [Line(li.name, li.x, np.where(li.y < floor, np.nan, li.y), li.look) for li in lines]
    axis = Axis("norm of the gradient, 1 = nothing lost", log=True, low=floor)
    ends = "; ".join(f"{curve!r}" for curve in flow.curves)
    chart = line_chart(lines, Axis("lag, in steps"), axis, f"Gradient against lag. {ends}.")
    lags = [lag for lag in (1, 2, 5, 10, 20, 50, 100, 200) if lag < len(flow.curves[0].lags)]
    rows = [
        [c.name, *(number(float(c.norm[lag])) if lag < len(c.norm) else "" for lag in lags)]
        for c in flow.curves
    ]
    numbers = table(["", *(f"lag {lag}" for lag in lags)], rows, "Norm of the gradient by lag")
    left = figure(
        chart,
        "Norm of ∂h<sub>T</sub>/∂h<sub>T−k</sub> against the lag k, by exact products.",
        numbers,
    )
    causal = []
    for layer, look in zip(
        memory.layers[:2], (("main", "second"), ("third", "fourth")), strict=False
    ):
        name = f", {layer.words}" if len(memory.layers) > 1 else ""
        causal.append(Line(f"state swapped{name}", layer.tried, layer.swap, look[0]))
        causal.append(Line(f"input flipped{name}", layer.tried, layer.flip, look[1]))
    causal = [line for line in causal if np.isfinite(line.y).any()]
    if not causal:
        return Section("How far back it reaches", _FLOW_LEAD, left)
    says = "; ".join(
        f"{line.name}: {percent(float(line.y[np.isfinite(line.y)][-1]))} at lag "
        f"{int(line.x[np.isfinite(line.y)][-1])}"
        for line in causal
    )
    top = max(1.0, float(np.nanmax([np.nanmax(line.y) for line in causal])))
    right = line_chart(
        causal,
        Axis("lag, in steps"),
        Axis("still there at the end", low=0.0, high=top, percent=True),
        f"What is left of a disturbance. {says}.",
    )
    caption = (
        "Swapped: the state was replaced by that of another row, and so much of the difference is "
        "left. Flipped: one input was changed; 100% is the distance between two rows' last states."
    )
    body = f'<div class="pair"><div>{left}</div><div>{figure(right, caption)}</div></div>'
    return Section("How far back it reaches", _FLOW_LEAD, body)


_FLOW_LEAD = (
    "To learn from a step, its gradient must arrive; to use it, its trace must. First, how the "
    "gradient fades, beside untrained cells of the same size; then what is left of a disturbance."
)


def saturated(memory: Memory) -> Section:
    """How often gates are nearly shut, between, and nearly open."""
    lines = []
    for layer in memory.layers:
        kinds = [("update", layer.shut, layer.open), ("reset", layer.reset_shut, layer.reset_open)]
        for gate, shut, opened in kinds:
            if shut is None or opened is None:
                continue
            name = f"{layer.words}, {gate} gate" if len(memory.layers) > 1 else f"{gate} gate"
            lines.append(_share(_title(name), float(np.mean(shut)), float(np.mean(opened))))
    lead = (
        "A gate under 0.1 is nearly shut, over 0.9 nearly open. Open, an update gate keeps the "
        "past; shut, it lets it go; between, it mixes."
    )
    return Section("Saturation", lead, f'<div class="shares">{"".join(lines)}</div>')


def _share(name: str, shut: float, opened: float) -> str:
    between = 1 - shut - opened
    parts = "".join(
        f'<i class="{kind}" style="width:{100 * share:.2f}%">'
        f"{f'{percent(share)} {word}' if share > 0.14 else ''}</i>"
        for kind, share, word in (
            ("shut", shut, "shut"),
            ("mid", between, "between"),
            ("open", opened, "open"),
        )
    )
    says = (
        f"{name}: {percent(shut)} nearly shut, {percent(between)} between, "
        f"{percent(opened)} nearly open"
    )
    return (
        f'<div class="share"><span>{escape(name)}</span>'
        f'<div class="stack" role="img" aria-label="{escape(says, quote=True)}">{parts}</div></div>'
    )


def worth(ablation: Ablation) -> Section:
    """What each gate is worth."""
    known = np.isfinite(ablation.loss)
    lines = []
    for held in ablation.held:
        change = _signed(held.loss / ablation.loss - 1) if known and ablation.loss else "—"
        lines.append(
            [
                held.layer if held.layer == "all layers" else layer_in_words(held.layer),
                f"{held.gate} gate at {held.value}",
                *([number(held.loss), change] if known else []),
                percent(held.moved) if np.isfinite(held.moved) else "",
            ]
        )
    heads = ["layer", "held", *(["loss", "change"] if known else []), "output moved"]
    loss = f"The loss as it is: {number(ablation.loss)}. " if known else ""
    lead = (
        f"{loss}One gate is held at 0 or 1 at every step. An update gate at 1 keeps all of the "
        "past and takes nothing; at 0 it keeps nothing; a reset gate at 1 leaves all of the past "
        "in sight. How far the output moved is in units of its spread."
    )
    body = f'<div class="wide" style="overflow-x:auto">{table(heads, lines, "Gates held")}</div>'
    return Section("What each gate is worth", lead, body)


def came_from(carry: Carry | None, item: Inspectable) -> Section:
    """Which steps an output came from."""
    if carry is None:
        return Section("Where it came from", "", "")
    labels, values = carry.labels, carry.integrated
    begun = next((t for t, label in enumerate(labels) if label), 0)
    labels, values = labels[begun:], values[begun:]
    parts = parts_of(len(labels))
    sums = np.array([values[a:b].sum() for a, b in parts])
    names = [labels[a] for a, _ in parts]
    share = carry.share()[begun:]
    most = np.argsort(-share)[:5]
    best = ", ".join(f"{labels[t].strip()} ({percent(float(share[t]))})" for t in most)
    says = f"Integrated gradients of {carry.words} over the steps. Most came from {best}."
    if item.tokens and right_to_left("".join(labels)):
        sums, names = sums[::-1], names[::-1]
    chart = bars_over_steps(sums, names, "for it (up), against it (down)", says)
    rows = [
        [
            labels[t],
            f"{values[t]:+.3g}",
            f"{carry.gradient[begun + t]:+.3g}",
            percent(float(share[t])),
        ]
        for t in sorted(np.argsort(-share)[:_ROWS])
    ]
    heads = ["step", "integrated gradients", "gradient × input", "share"]
    of = f", for {escape(carry.row)}" if carry.row else ""
    caption = (
        f"{_title(carry.words)}{of}: {number(carry.score)}. "
        f"From an input of nothing it would be {number(carry.baseline)}; the bars add up to the "
        "difference."
    )
    lead = "Integrated gradients: how much each step pushed what came out, up or down."
    return Section(
        "Where it came from", lead, figure(chart, caption, table(heads, rows, "Parts of the steps"))
    )


def outcomes(item: Inspectable) -> Section:
    """What came out: forecasts, or probabilities."""
    if not item.outcomes:
        return Section("What came out", "", "")
    names = item.names or [str(i) for i in range(len(item.outcomes))]
    shown = list(zip(names, range(len(item.outcomes)), item.outcomes, strict=True))[:_FEW]
    figures = [
        _ahead(name, row, outcome, item)
        if isinstance(outcome, Ahead)
        else _choices(name, row, outcome, item)
        for name, row, outcome in shown
    ]
    more = len(item.outcomes) - len(shown)
    some = f"The first {len(shown)} of {len(item.outcomes)}. " if more > 0 else ""
    body = f'<div class="pair">{"".join(f"<div>{one}</div>" for one in figures)}</div>'
    return Section("What came out", some, body)


def _ahead(name: str, row: int, ahead: Ahead, item: Inspectable) -> str:
    steps = len(ahead.median)
    past = (
        np.asarray(item.values[row], float)[-max(3 * steps, 12) :]
        if item.values is not None
        else np.zeros(0)
    )
    labels = list(item.labels[row])[-len(past) :] if item.labels is not None and len(past) else []
    labels = labels or [str(t - len(past)) for t in range(len(past))]
    here = np.arange(len(past))
    there = len(past) - 1 + np.arange(steps + 1) if len(past) else np.arange(steps)
    known = past[np.isfinite(past)]
    start = known[-1:] if len(past) else np.zeros(0)
    lines = [
        Line("history", here, past, "truth"),
        Line(
            f"forecast, {ahead.band}",
            there,
            np.concatenate([start, ahead.median]),
            low=np.concatenate([start, ahead.low]),
            high=np.concatenate([start, ahead.high]),
        ),
    ]
    if ahead.truth is not None:
        lines.append(Line("what came", there, np.concatenate([start, ahead.truth]), "second"))
    axis = Axis("", names=[*labels, *ahead.labels], low=0, high=len(labels) + steps - 1)
    says = (
        f"{name}: from {number(float(start[0])) if len(start) else 'nothing'} to a forecast of "
        f"{number(float(ahead.median[-1]))} at {ahead.labels[-1]}, {ahead.band} from "
        f"{number(float(ahead.low[-1]))} to {number(float(ahead.high[-1]))}."
    )
    chart = line_chart(lines, axis, Axis(""), says, marks=[max(len(past) - 1, 0)])
    rows = [
        [label, *(number(float(v)) for v in numbers)]
        for label, *numbers in zip(ahead.labels, ahead.median, ahead.low, ahead.high, strict=True)
    ]
    numbers = table(["step", "median", "low", "high"], rows, f"Forecast of {name}")
    return f'<h3 dir="auto">{escape(name)}</h3>' + figure(chart, "", numbers)


def _choices(name: str, row: int, choices: Sequence[Choices], item: Inspectable) -> str:
    last = choices[-1]
    bars = "".join(
        f'<div class="choice{" came" if word == last.truth else ""}">'
        f'<b dir="auto">{escape(_seen(word))}</b>'
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * chance:.1f}%"></i></div>'
        f"<span>{percent(chance)}</span></div>"
        for word, chance in zip(last.names[:8], last.chances[:8], strict=True)
    )
    labels = item.labels[row] if item.labels is not None else []
    rows = []
    for choice in choices if len(choices) > 1 else ():
        at = labels[choice.step] if len(labels) > max(choice.step, -1) and len(labels) else ""
        best = ", ".join(
            f"{_seen(n)} {percent(c)}"
            for n, c in list(zip(choice.names, choice.chances, strict=True))[:3]
        )
        rows.append([_seen(at), best, "" if choice.truth is None else _seen(choice.truth)])
    heads = ["after", "likeliest next", "what came"]
    numbers = table(heads, rows[-_ROWS * 2 :], "Next-token probabilities") if rows else ""
    title = "After the last token" if item.tokens and len(choices) > 1 else name
    return f'<h3 dir="auto">{escape(title)}</h3>' + figure(bars, "", numbers)


def _seen(token: str) -> str:
    """A token that can be seen: a space or a line's end is named."""
    return {" ": "␣", "\n": "⏎", "\t": "⇥", "": "∅"}.get(token, token)


def trained(history: dict[str, History] | None) -> Section:
    """The loss over the training."""
    figures = []
    for name, one in list((history or {}).items())[:_FEW]:
        if not one.losses:
            continue
        losses = np.asarray(one.losses)
        steps = np.arange(1, len(losses) + 1)
        lines = [
            Line("loss", steps, losses, "quiet"),
            Line("its running mean", steps, _running_mean(losses)),
        ]
        if one.validations:
            at, values = (
                np.asarray(column, float) for column in zip(*one.validations, strict=True)
            )
            lines.append(Line("validation", at, values, "second", dots=len(at) < 60))
        best = (
            ""
            if one.best is None
            else f" The best validation was {number(one.best[1])} at step {one.best[0]}."
        )
        says = (
            f"Loss of {name} from {number(losses[0])} to {number(losses[-1])} in {len(losses)} "
            f"steps.{best}"
        )
        top = float(np.quantile(losses, 0.98))
        chart = line_chart(
            lines, Axis("step"), Axis("loss", high=max(top, float(losses.min()) + 1e-9)), says
        )
        seconds = f" {number(one.seconds)} seconds." if one.seconds else ""
        figures.append(
            f"<h3>{escape(_title(name))}</h3>"
            + figure(chart, f"{len(losses)} steps.{seconds}{best}")
        )
    if not figures:
        return Section("Training", "", "")
    body = f'<div class="pair">{"".join(f"<div>{one}</div>" for one in figures)}</div>'
    return Section("Training", "", body)


def judged(judgement: Judgement | None) -> Section:
    """A backtest: how large the errors were, and whether the bands held what they promised."""
    if judgement is None:
        return Section("Backtest", "", "")
    steps = np.arange(1, len(judgement.error) + 1)
    chart = line_chart(
        [Line("mean absolute error", steps, judgement.error, dots=len(steps) < 40)],
        Axis("steps ahead"),
        Axis("error", low=0.0),
        f"Mean absolute error from {number(judgement.error[0])} one step ahead to "
        f"{number(judgement.error[-1])} {len(steps)} steps ahead.",
    )
    left = figure(chart, f"{judgement.forecasts:,} forecasts from {judgement.origins:,} origins.")
    if not len(judgement.levels):
        return Section("Backtest", "", left)
    promised, held = judgement.levels / 100, judgement.coverage
    says = "; ".join(
        f"the {level:g}% band held {percent(float(c))}"
        for level, c in zip(judgement.levels, held, strict=True)
    )
    right = line_chart(
        [
            Line("as promised", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "quiet"),
            Line("measured", promised, held, dots=True),
        ],
        Axis("share that the band promises to hold", low=0.0, high=1.0, percent=True),
        Axis("share that it held", low=0.0, high=1.0, percent=True),
        f"Calibration: {says}.",
    )
    rows = [
        [f"{level:g}% band", percent(float(c))]
        for level, c in zip(judgement.levels, held, strict=True)
    ]
    caption = "On the line, a band holds what it promises; under it, too little."
    right = figure(right, caption, table(["band", "held"], rows, "Calibration"))
    body = (
        f'<div class="pair"><div><h3>Error by step</h3>{left}</div><div><h3>Calibration</h3>'
        f"{right}</div></div>"
    )
    return Section("Backtest", "Forecasts from the past, as if what came had not been known.", body)


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


def _signed(share: float) -> str:
    return f"{share:+.1%}".replace("-", "−")


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = max(len(values) // 40, 1)
    total = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)
