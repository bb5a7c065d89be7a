"""Every peer side by side on this machine's processor: `python benchmarks/cpu.py --help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from harness import machine
from harness.accuracy import Accuracy
from harness.cases import Case, all_cases
from harness.compare import DisagreementError
from harness.goals import goals
from harness.measure import rows
from harness.plot import save_plot
from harness.rows import Run
from harness.tables import accuracy_table, goal_table, kept_table, markdown_of, print_rich, tables
from harness.worker import Worker
from rich.console import Console

Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Counts = Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative="")]

WIDTH = 130  # characters that the widest table needs
messages = Console(stderr=True, highlight=False)
app = App(help=__doc__)


@app.default
def main(
    *,
    only: Words = (),
    seconds: float = 5.0,
    threads: Counts = (1, 2),
    quiet: bool = False,
    markdown: bool = False,
    json: bool = False,
    read: Path | None = None,
    output: Path = Path("build/benchmarks"),
) -> None:
    """Time every peer on every row, equal threads, by turns; print tables and write files.

    Before a row is timed, what each peer computes is compared with float64; none is timed if one
    is wrong. A tilde marks a time during most of which others used the machine.

    Args:
        only: Time only rows whose label has all these words: training 64,200,256,256 threads=2.
        seconds: How long to time a row, all peers together.
        threads: Numbers of threads.
        quiet: Wait for turns in which nobody else uses the machine, and count only those.
        markdown: Print the tables as benchmarks/README.md has them.
        json: Print everything as JSON.
        read: Time nothing, show a `cpu.json` of before.
        output: The folder for cpu.json, cpu.csv and cpu.svg.
    """
    if read:
        run = Run.read(read)
    else:
        run = Run(machine.describe())
        cases = [case for case in all_cases(threads) if all(word in case.label for word in only)]
        try:
            _measure(run, cases, seconds, quiet, output)
        except DisagreementError as error:
            sys.exit(f"nothing more is timed: {error}")
    if json:
        print(run.json())
    else:
        _show(run, markdown)


def _measure(run: Run, cases: list[Case], seconds: float, quiet: bool, folder: Path) -> None:
    """Fill `run`, saving it after each row."""
    if not cases:
        sys.exit("no row has all the words of --only")
    run.accuracy = _accuracy()
    for row in rows(cases, seconds, quiet, run.versions):
        run.rows.append(row)
        run.save(folder)
        messages.print(f"{len(run.rows)}/{len(cases)} {row.case.label}")
    save_plot(run.rows, folder / "cpu.svg")


def _accuracy() -> dict[str, list[Accuracy]]:
    """Of the activations, with each instruction set that this machine has."""
    with Worker("kernels", 1) as worker:
        isas = worker.ask("tell", "instruction_sets")
    found = {}
    for isa in isas:
        with Worker("kernels", 1, isa) as worker:
            found[isa] = worker.ask("tell", "accuracy")
    return found


def _show(run: Run, as_markdown: bool) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    about = ". ".join([*run.about.values(), ", ".join(run.versions.values())])
    found = [*tables(run.rows), kept_table(run.rows), accuracy_table(run.accuracy)]
    found = [table for table in [*found, goal_table(goals(run))] if table.cells]
    if as_markdown:
        print("\n".join([f"{about}.", "", *map(markdown_of, found)]))
        return
    console.print(f"{about}.")
    for table in found:
        print_rich(console, table)


if __name__ == "__main__":
    app()
