"""What came out, and which steps it came from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ..._inspectable import Ahead, Choices, Inspectable, Numbers
from .._chart import Axis, Line, bars_over_steps, line_chart, minus, number, percent
from .._gates import seen
from .._heat import parts_of, right_to_left
from .._page import Section, figure, isolated, table, titled
from ._limits import FEW, ROWS

if TYPE_CHECKING:
    from .._carry import Carry


_ANSWERS = ("likeliest", "what is right")


def came_from(carry: Carry | None, item: Inspectable) -> Section:
    """Which steps an output came from."""
    if carry is None:
        return Section("Where it came from", "", "")
    labels, values = carry.labels, carry.integrated
    begun = next((t for t, label in enumerate(labels) if label), 0)
    labels, values = labels[begun:], values[begun:]
    share = carry.share()[begun:]
    first = _first_that_counts(share)
    parts = [(first + a, first + b) for a, b in parts_of(len(labels) - first)]
    sums = np.array([values[a:b].sum() for a, b in parts])
    names = [labels[a] for a, _ in parts]
    most = np.argsort(-share)[:5]
    best = ", ".join(f"{seen(labels[t], bare=True)} ({percent(float(share[t]))})" for t in most)
    says = f"Integrated gradients of {carry.words} over the steps. Most came from {best}."
    if item.tokens and right_to_left("".join(labels)):
        sums, names = sums[::-1], names[::-1]
    chart = bars_over_steps(sums, names, "for it (up), against it (down)", says)
    rows = [
        [
            labels[t],
            minus(f"{values[t]:+.3g}"),
            minus(f"{carry.gradient[begun + t]:+.3g}"),
            percent(float(share[t])),
        ]
        for t in sorted(np.argsort(-share)[:ROWS])
    ]
    heads = ["step", "integrated gradients", "gradient × input", "share"]
    of = f", for {escape(carry.row)}" if carry.row else ""
    caption = (
        f"{isolated(titled(carry.words))}{of}: {number(carry.score)}. "
        f"From an input of nothing it would be {number(carry.baseline)}; the bars add up to the "
        "difference."
    )
    if first:
        word = "tokens" if item.tokens else "steps"
        caption += (
            f" The first {first:,} {word}, which add {number(float(values[:first].sum()))}, are "
            "left out."
        )
    lead = "Integrated gradients: how much each step pushed what came out, up or down."
    return Section(
        "Where it came from", lead, figure(chart, caption, table(heads, rows, "Parts of the steps"))
    )


def _first_that_counts(share: np.ndarray) -> int:
    """Where to begin, so that no more than the last steps are shown if nothing comes from others.

    Of 60 steps or fewer all are shown; else at least 40.
    """
    if len(share) <= 60:
        return 0
    before = np.cumsum(share)
    return int(min(np.searchsorted(before, 0.005 * before[-1]), len(share) - 40))


def outcomes(item: Inspectable) -> Section:
    """What came out: forecasts, or probabilities."""
    if not item.outcomes:
        return Section("What came out", "", "")
    names = item.names or [str(i) for i in range(len(item.outcomes))]
    answers = [one for one in item.outcomes if isinstance(one, Numbers) and len(one.values) == 1]
    if len(answers) == len(item.outcomes):
        return _one_number_a_row(answers, names)
    shown = list(zip(names, range(len(item.outcomes)), item.outcomes, strict=True))[:FEW]
    figures = [_outcome(name, row, outcome, item) for name, row, outcome in shown]
    more = len(item.outcomes) - len(shown)
    some = f"The first {len(shown)} of {len(item.outcomes)}. " if more > 0 else ""
    body = f'<div class="pair">{"".join(f"<div>{one}</div>" for one in figures)}</div>'
    return Section("What came out", some, body)


def _outcome(
    name: str, row: int, outcome: Ahead | Numbers | Sequence[Choices], item: Inspectable
) -> str:
    if isinstance(outcome, Ahead):
        return _ahead(name, row, outcome, item)
    if isinstance(outcome, Numbers):
        return _numbers(name, row, outcome, item)
    return _choices(name, row, outcome, item)


def _one_number_a_row(answers: Sequence[Numbers], names: Sequence[str]) -> Section:
    rows = []
    for name, one in list(zip(names, answers, strict=True))[:ROWS]:
        came = "" if one.truth is None else number(float(one.truth[0]))
        rows.append([name, number(float(one.values[0])), came])
    some = f"The first {len(rows)} of {len(names)}." if len(rows) < len(names) else ""
    return Section("What came out", some, table(["row", "answer", "what came"], rows, "Answers"))


def _numbers(name: str, row: int, numbers: Numbers, item: Inspectable) -> str:
    """A number a step, beside what came."""
    values = np.asarray(numbers.values, float)
    labels = list(item.labels[row])[: len(values)] if item.labels is not None else []
    labels = labels or [str(step) for step in range(len(values))]
    here = np.arange(len(values))
    lines = [Line("answer", here, values)]
    if numbers.truth is not None:
        lines.append(Line("what came", here, np.asarray(numbers.truth, float), "second"))
    says = (
        f"{name}: answers from {number(float(np.nanmin(values)))} to "
        f"{number(float(np.nanmax(values)))}, {number(float(values[-1]))} at the last step."
    )
    axis = Axis("", names=labels, low=0, high=max(len(values) - 1, 1))
    chart = line_chart(lines, axis, Axis(""), says)
    return f'<h3 dir="auto">{escape(name)}</h3>' + figure(chart, "")


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
    known = past[np.isfinite(past)]
    start = past[-1:] if np.isfinite(past[-1:]).all() else past[:0]  # where the lines meet
    there = len(past) - len(start) + np.arange(len(start) + steps)
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
        f"{name}: from {number(float(known[-1])) if len(known) else 'nothing'} to a forecast of "
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
        f'<b data-came="{"came" if item.foresees else "is right"}">'
        f"<bdi>{escape(seen(word))}</bdi></b>"
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * chance:.1f}%"></i></div>'
        f"<span>{escape(percent(chance))}</span></div>"
        for word, chance in zip(last.names[:8], last.chances[:8], strict=True)
    )
    labels = item.labels[row] if item.labels is not None else []
    rows = []
    for choice in choices if len(choices) > 1 else ():
        at = labels[choice.step] if len(labels) > max(choice.step, -1) and len(labels) else ""
        best = ", ".join(
            f"{seen(n)} {percent(c)}"
            for n, c in list(zip(choice.names, choice.chances, strict=True))[:3]
        )
        rows.append([seen(at), best, "" if choice.truth is None else seen(choice.truth)])
    heads = ["after", "likeliest next", "what came"] if item.foresees else ["at", *_ANSWERS]
    what = "Next-token probabilities" if item.foresees else "Answers by step"
    numbers = table(heads, rows[-ROWS * 2 :], what) if rows else ""
    title = "After the last token" if item.foresees else name
    step = "token" if item.tokens else "step"
    others = f"For another {step}, point at it in the figure above." if rows else ""
    return f'<h3 dir="auto">{escape(title)}</h3>' + figure(bars, others, numbers)
