"""How long units remember, and how far back the gradient reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._chart import Axis, Line, line_chart, number, percent
from .._gates import layer_in_words
from .._page import Section, figure, table, titled
from ._limits import FEW, LOOKS, ROWS

if TYPE_CHECKING:
    from .._flow import GradientFlow
    from .._memory import Memory


def remembered(memory: Memory) -> Section:
    """Units by memory, and the causal measures beside them."""
    figures = []
    for layer in memory.layers[:FEW]:
        order = np.argsort(-layer.leak_time, kind="stable")
        rank = np.arange(1, len(order) + 1)
        leak, reach = np.minimum(layer.leak_time[order], 1e4), layer.reach[order].astype(float)
        wide = max(leak.max(initial=0.0), reach.max(initial=0.0)) > 30  # needs a logarithm
        if wide:
            leak, reach = np.maximum(leak, 0.1), np.maximum(reach, 0.5)
        lines = [
            Line("carry-gate leak time", rank, leak),
            Line("reach of the gradient", rank, reach, "second", alone=True),
        ]
        median = number(float(np.median(layer.leak_time)))
        says = (
            f"Units of {layer.words} sorted by carry-gate leak time, from "
            f"{number(float(leak[0]))} to {number(float(leak[-1]))} steps, half over {median}."
        )
        chart = line_chart(
            lines, Axis("units, sorted"), Axis("steps", log=wide, low=None if wide else 0.0), says
        )
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
            for unit in (order if layer.probe is None else layer.ranked)[:ROWS]
        ]
        heads = ["unit", "leak time", "reach", "past kept", "nearly shut", "nearly open"]
        heads += [] if layer.probe is None else [f"probe, {memory.score}"]
        caption = f"Half of the units have a leak time over {median} steps."
        if wide and (layer.reach < 1).any():
            caption += " A reach of less than one step is drawn at 0.5."
        name = f"<h3>{titled(layer.words)}</h3>" if len(memory.layers) > 1 else ""
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
    for curve, look in zip(models[:FEW], LOOKS, strict=False):
        name = layer_in_words(curve.name) if len(models) > 1 else "this GRU"
        lines.append(Line(name, curve.lags, curve.norm, look))
    for name in ("plain RNN, untrained", "GRU, untrained"):
        for curve in (c for c in flow.curves if c.name == name):
            look = "quiet" if "plain" in name else "truth"
            lines.append(Line(name, curve.lags, curve.norm, look))
    floor = max(1e-6, min(float(np.nanmin(np.where(li.y > 0, li.y, 1))) for li in lines))
    lines = [Line(li.name, li.x, np.where(li.y < floor, np.nan, li.y), li.look) for li in lines]
    lines = _while_something_is_left(lines, floor)
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
    causal = _while_something_is_left(causal, 0.005)
    top = max(1.0, float(np.nanmax([np.nanmax(line.y) for line in causal])))
    grows = top > 2  # then a logarithm shows both what grew and what was lost
    axis = Axis("still there at the end", grows, low=0.01 if grows else 0.0, high=top, percent=True)
    says = f"What is left of a disturbance. {says}."
    right = line_chart(causal, Axis("lag, in steps"), axis, says)
    caption = (
        "Swapped: the state was replaced by that of another row, and so much of the difference is "
        "left. Flipped: one input was changed; 100% is the distance between two rows' last states."
    )
    body = f'<div class="pair"><div>{left}</div><div>{figure(right, caption)}</div></div>'
    return Section("How far back it reaches", _FLOW_LEAD, body)


def _while_something_is_left(lines: list[Line], size: float) -> list[Line]:
    """Curves up to a little beyond the last lag at which one of them is over `size`."""
    there = [line.x[np.nan_to_num(line.y) > size] for line in lines]
    last = 1.3 * max((float(x[-1]) for x in there if len(x)), default=0.0) + 4
    return [
        Line(line.name, line.x[line.x <= last], line.y[line.x <= last], line.look) for line in lines
    ]


_FLOW_LEAD = (
    "To learn from a step, its gradient must arrive; to use it, its trace must. First, how the "
    "gradient fades, beside untrained cells of the same size; then what is left of a disturbance."
)
