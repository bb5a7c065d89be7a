"""What the gates did, how often they are shut or open, and what each is worth."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._inspectable import Inspectable
from .._chart import minus, number, percent
from .._gates import layer_in_words
from .._heat import STEPS, parts_of
from .._page import Section, table, titled, unfold
from ._limits import FEW, ROWS

if TYPE_CHECKING:
    from .._ablate import Ablation
    from .._gates import Gates
    from .._memory import Memory


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
        "the arrow keys, to see what was kept, forgotten and taken there. Until then, where most "
        "was taken:</p></div>"
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
        word = "tokens" if item.tokens else "steps"
        parts.append(f"Columns are means of {-(-longest // STEPS)} neighbouring {word}.")
    if item.tokens:
        parts.append("In the text above, the more colour, the more was taken at a token.")
    return " ".join(parts)


def _heat_table(gates: Gates, item: Inspectable) -> str:
    row = int(np.flatnonzero(gates.lengths)[0]) if gates.lengths.any() else 0
    labels = gates.labels[row][: int(gates.lengths[row])]
    begun = next((t for t, label in enumerate(labels) if label), 0)
    parts = [(begun + a, begun + b) for a, b in parts_of(len(labels) - begun)]
    thin = -(-len(parts) // ROWS)
    lines = []
    for start, stop in parts[::thin]:
        cells = [f"{labels[start]}{'' if stop - start == 1 else ' …'}"]
        for layer in gates.layers[:FEW]:
            kept = float(np.nanmean(layer.update[start:stop, row]))
            moved = layer.state[start:stop, row] - layer.before[start:stop, row]
            cells += [percent(kept), f"{float(np.sqrt(np.nanmean(moved**2))):.2f}"]
        lines.append(cells)
    heads = ["token" if item.tokens else "step"]
    for layer in gates.layers[:FEW]:
        name = f", {layer.words}" if len(gates.layers) > 1 else ""
        heads += [f"past kept{name}", f"state moved{name}"]
    return table(heads, lines, f"Mean over the units of {gates.names[row]}")


def saturated(memory: Memory) -> Section:
    """How often gates are nearly shut, between, and nearly open."""
    lines = []
    for layer in memory.layers:
        kinds = [("update", layer.shut, layer.open), ("reset", layer.reset_shut, layer.reset_open)]
        for gate, shut, opened in kinds:
            if shut is None or opened is None:
                continue
            name = f"{layer.words}, {gate} gate" if len(memory.layers) > 1 else f"{gate} gate"
            lines.append(_share(titled(name), float(np.mean(shut)), float(np.mean(opened))))
    lead = (
        "A gate under 0.1 is nearly shut, over 0.9 nearly open. Open, an update gate keeps the "
        "past; shut, it lets it go; between, it mixes."
    )
    return Section("Saturation", lead, f'<div class="shares">{"".join(lines)}</div>')


def _share(name: str, shut: float, opened: float) -> str:
    between = 1 - shut - opened
    parts = "".join(
        f'<i class="{kind}" style="width:{100 * share:.2f}%">'
        f"{f'{percent(share)} {word}' if share > 0.02 * len(word) + 0.08 else ''}</i>"
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
                held.gate,
                str(held.value),
                *([number(held.loss), change] if known else []),
                percent(held.moved) if np.isfinite(held.moved) else "",
            ]
        )
    heads = ["layer", "gate", "at", *(["loss", "change"] if known else []), "moved"]
    loss = f"The loss as it is: {number(ablation.loss)}. " if known else ""
    lead = (
        f"{loss}One gate is held at 0 or 1 at every step. An update gate at 1 keeps all of the "
        "past and takes nothing; at 0 it keeps nothing; a reset gate at 1 leaves all of the past "
        "in sight. How far that moved the output is in units of its spread."
    )
    body = f'<div class="wide" tabindex="0">{table(heads, lines, "Gates held")}</div>'
    return Section("What each gate is worth", lead, body)


def _signed(share: float) -> str:
    if share > 10:
        return f"×{number(1 + share)}"
    return minus(f"{share:+.1%}")
