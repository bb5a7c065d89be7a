"""The forecaster's defaults on generated panels of every kind, beside the seasonal naive forecast.

python benchmarks/defaults.py --markdown
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter
from harness.tables import Table, markdown_of, print_rich
from rich.console import Console

from tidegate.data import Panel
from tidegate.forecast import GRUForecaster, coverage, mase, naive_error, seasonal_naive

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from panel_kinds import (  # pyrefly: ignore[missing-import]
    HORIZONS,
    PANELS,
)

app = App(help=__doc__)


@app.default
def main(
    *,
    kinds: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(PANELS),
    markdown: bool = False,
) -> None:
    """Hold the last horizon of each series back, and forecast it.

    Args:
        kinds: Which panels; all when not given.
        markdown: Print the table as benchmarks/README.md has it.
    """
    headings = ["panel", "series", "MASE", "seasonal naive", "bands hold", "trust", "seconds"]
    table = Table("Defaults", headings, [_row(kind) for kind in kinds])
    if markdown:
        print(markdown_of(table))
    else:
        print_rich(Console(width=110), table)


def _row(kind: str) -> list[str]:
    horizon, panel = HORIZONS[kind], Panel.from_frame(PANELS[kind]())
    past = panel.without_last(horizon)
    begun = time.process_time()
    model = GRUForecaster(horizon).fit(past)
    forecast = model.predict()
    seconds = time.process_time() - begun
    season = model.suggestion_.season_length
    truth = np.stack([values[-horizon:] for values in panel.values])
    naive = np.stack([seasonal_naive(values, horizon, season) for values in past.values])
    shortest = min(len(values) for values in past.values)
    unit = naive_error(past.values, season if shortest > season else 1)

    def column(name: str) -> np.ndarray:
        return forecast[name].to_numpy().reshape(truth.shape)

    bands = [(column(f"GRU-lo-{level}"), column(f"GRU-hi-{level}")) for level in (50, 80, 95)]
    held = [coverage(truth, low, high) for low, high in bands]
    return [
        kind,
        f"{len(panel)} x {len(panel.values[0]):,}",
        f"{np.nanmean(mase(truth, column('GRU'), unit)):.3f}",
        f"{np.nanmean(mase(truth, naive, unit)):.3f}",
        ", ".join(f"{share:.0%}" for share in held),
        f"{model.model_.trust:g}",
        f"{seconds:.0f}",
    ]


if __name__ == "__main__":
    app()
