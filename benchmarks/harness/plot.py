"""How many times as long as Tidegate each peer takes, one dot a shape."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from harness.cases import threads_text
from harness.rows import Row

MARKS = {"torch": "o", "ONNX Runtime": "s", "OpenVINO": "^", "JAX": "D"}
TITLES = {"inference": "Inference", "training": "Training step"}


def save_plot(rows: list[Row], path: Path) -> None:
    """Write a picture of the rows at the most threads, instruction sets as each peer chooses."""
    threads = max(row.case.threads for row in rows)
    by_mode = {
        mode: [r for r in rows if (r.case.mode, r.case.threads, r.case.isa) == (mode, threads, "")]
        for mode in TITLES
    }
    by_mode = {mode: members for mode, members in by_mode.items() if members}
    if not by_mode:
        return
    height = 1 + 0.3 * max(map(len, by_mode.values()))
    figure, axes = plt.subplots(
        1, len(by_mode), figsize=(5.5 * len(by_mode), height), squeeze=False, layout="constrained"
    )
    for (mode, members), axis in zip(by_mode.items(), axes[0], strict=True):
        _panel(axis, members, f"{TITLES[mode]}, {threads_text(threads)}")
    figure.savefig(path)
    plt.close(figure)


def _panel(axis: Axes, rows: list[Row], title: str) -> None:
    ours = next(name for name in rows[0].timings if name.startswith("Tidegate"))
    for name, mark in MARKS.items():
        places = [i for i, row in enumerate(rows) if name in row.timings]
        if places:
            axis.plot([rows[i].times(name, ours) for i in places], places, mark, label=name)
    axis.axvline(1, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(rows)), [row.case.shape for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="x", which="both", alpha=0.3)
    axis.set_xlabel(f"time / time of {ours}")
    axis.set_title(title)
    axis.legend(fontsize=8)
