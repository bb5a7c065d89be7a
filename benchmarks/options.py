"""What each option of the layer costs over the plain layer: `python benchmarks/options.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter
from harness import machine
from harness.cases import Case, threads_text
from harness.compare import ALLOWED, DisagreementError, error
from harness.measure import interleave, timing
from harness.peers.options import OPTIONS, PLAIN, RAGGED, ragged
from harness.rows import Timing
from harness.tables import Table, markdown_of
from harness.worker import Worker

MODES = ("inference", "training")

app = App(help=__doc__)
Shape = Annotated[tuple[int, int, int, int], Parameter(negative="")]


@app.default
def main(
    *,
    shape: Shape = (32, 100, 64, 64),
    threads: int = 2,
    seconds: float = 20.0,
    quiet: bool = False,
) -> None:
    """Time every option by turns, forward and training, and print a table.

    Args:
        shape: Batch, time, input and hidden.
        threads: Number of threads.
        seconds: How long to time each of the two.
        quiet: Count only turns in which nobody else uses the machine.
    """
    case = Case(MODES[0], *shape, threads=threads)
    with Worker("options", threads) as worker:
        found = {mode: _measure(worker, replace(case, mode=mode), seconds, quiet) for mode in MODES}
    title = f"Cost of each option, B,T,I,H = {case.shape}, {threads_text(threads)}"
    print(f"{'. '.join(machine.describe().values())}.\n\n{markdown_of(_table(title, case, found))}")


def _measure(worker: Worker, case: Case, seconds: float, quiet: bool) -> dict[str, Timing]:
    names = worker.ask("prepare", case)
    plain = worker.ask("results", PLAIN)
    for name in names:
        if OPTIONS[name].neutral and not error(worker.ask("results", name), plain) <= ALLOWED:
            raise DisagreementError(
                f"{case.label}: {name} does not compute what the plain layer does"
            )
    turns = interleave(dict.fromkeys(names, worker), seconds, quiet)
    return {name: timing(taken) for name, taken in turns.items()}


def _table(title: str, case: Case, found: dict[str, dict[str, Timing]]) -> Table:
    headings = ["", *(word for mode in MODES for word in (f"{mode}, ms", "cost"))]
    cells = [[name, *_cells(name, found)] for name in found[MODES[0]]]
    steps = sum(ragged(case)) / case.time / case.batch
    return Table(f"{title}; {RAGGED}: {steps:.2f} of the steps", headings, cells)


def _cells(name: str, found: dict[str, dict[str, Timing]]) -> list[str]:
    cells = []
    for timings in found.values():
        median, beside = timings[name].median, timings[OPTIONS[name].beside].median
        cells += [f"{1e3 * median:.3f}", f"{100 * (median / beside - 1):+.0f}%"]
    return cells


if __name__ == "__main__":
    app()
