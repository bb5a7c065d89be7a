"""The loss over the training, and a backtest."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from .._chart import Axis, Line, line_chart, number, percent
from .._page import Section, figure, table, titled
from ._limits import FEW, ROWS

if TYPE_CHECKING:
    from ..._inspectable import Inspectable
    from ...train import History
    from .._backtest import Judgement
    from .._calibration import Calibration


def trained(history: dict[str, History] | None) -> Section:
    """The loss over the training."""
    figures = []
    for name, one in list((history or {}).items())[:FEW]:
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
            f"<h3>{escape(titled(name))}</h3>"
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
    in_words = percent if judgement.relative else number
    chart = line_chart(
        [Line("mean absolute error", steps, judgement.error, dots=len(steps) < 40)],
        Axis("steps ahead"),
        Axis("error", low=0.0, percent=judgement.relative),
        f"Mean absolute error from {in_words(float(judgement.error[0]))} one step ahead to "
        f"{in_words(float(judgement.error[-1]))} {len(steps)} steps ahead.",
    )
    count = f"{judgement.forecasts:,} numbers that came, in {judgement.origins:,} forecasts."
    share = " Errors are shares of each series' mean size." if judgement.relative else ""
    rows = [[str(step), in_words(float(e))] for step, e in enumerate(judgement.error[:ROWS], 1)]
    left = figure(chart, count + share, table(["steps ahead", "error"], rows, "Error by step"))
    if not len(judgement.levels):
        return Section("Backtest", "", left)
    promised, held = judgement.levels / 100, judgement.coverage
    says = "; ".join(
        f"the {level:g}% band held {percent(float(c))}"
        for level, c in zip(judgement.levels, held, strict=True)
    )
    right = _promise_and_truth(
        promised,
        held,
        "share that the band promises to hold",
        "share that it held",
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


def calibrated(calibration: Calibration | None, item: Inspectable) -> Section:
    """Whether probabilities hold what they promise."""
    if calibration is None:
        return Section("Calibration", "", "")
    promised, held = calibration.promised, calibration.held
    pairs = [(percent(float(p)), percent(float(h))) for p, h in zip(promised, held, strict=True)]
    says = "; ".join(f"said {p}, right {h}" for p, h in pairs)
    chart = _promise_and_truth(
        promised, held, "probability of the likeliest", "share that was right", f"{says}."
    )
    caption = (
        f"{calibration.count:,} answers, in {len(pairs)} groups: {percent(calibration.right)} were "
        f"right, and the mean probability was {percent(calibration.sure)}. On the line, "
        "probabilities hold what they promise; under it, too little."
    )
    what = "the likeliest next token" if item.foresees else "the likeliest answer"
    lead = f"How often {what} was right, beside how likely it was said to be."
    numbers = table(["said", "right"], pairs, "Calibration")
    return Section("Calibration", lead, figure(chart, caption, numbers))


def _promise_and_truth(promised: np.ndarray, held: np.ndarray, x: str, y: str, says: str) -> str:
    lines = [
        Line("as promised", np.array([0.0, 1.0]), np.array([0.0, 1.0]), "quiet"),
        Line("measured", promised, held, dots=True),
    ]
    across, up = (Axis(name, low=0.0, high=1.0, percent=True) for name in (x, y))
    return line_chart(lines, across, up, says)


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = max(len(values) // 40, 1)
    total = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)
