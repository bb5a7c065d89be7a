"""What the commands print: results on standard output, all else on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from ..train import Progress

# Names of files and series are printed as they are, brackets too.
_PLAIN = {"highlight": False, "markup": False, "soft_wrap": True}
output = Console(**_PLAIN)
messages = Console(stderr=True, **_PLAIN)


@contextmanager
def training_bar(
    what: str, state: Callable[[Progress], str] | None = None
) -> Iterator[Callable[[int, Progress], None]]:
    """A progress bar for the training loop; nothing where standard error is no terminal.

    Args:
        what: the word before the bar.
        state: what stands after it; loss, validation and rate when not given.
    """
    described = state or _state
    with _bar("{task.fields[state]}") as bar:
        task = bar.add_task(what, total=None, state="")

        def show(member: int, progress: Progress) -> None:
            bar.update(
                task, completed=progress.step, total=progress.steps, state=described(progress)
            )

        yield show


@contextmanager
def searching_bar(what: str) -> Iterator[Callable[[int, int, float | None], None]]:
    """A progress bar for a search; nothing where standard error is no terminal."""
    with _bar("{task.fields[state]}") as bar:
        task = bar.add_task(what, total=None, state="")

        def show(done: int, total: int, best: float | None) -> None:
            state = "" if best is None else f"best MASE {best:.3f}"
            bar.update(task, completed=done, total=total, state=state)

        yield show


@contextmanager
def rows_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for rows that are read; nothing where standard error is no terminal."""
    with _bar("rows") as bar:
        task = bar.add_task(what, total=total)
        yield lambda rows: bar.advance(task, rows)


@contextmanager
def _bar(after: str) -> Iterator[Bar]:
    """A progress bar, begun where it is seen; rich before 14.3 ends others with an empty line."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(after),
        TimeRemainingColumn(compact=True),
        console=messages,
        disable=not messages.is_terminal,
        transient=True,
    )
    with nullcontext() if bar.disable else bar:
        yield bar


def _state(progress: Progress) -> str:
    validation = "" if progress.validation is None else f"  validation {progress.validation:.4f}"
    return f"loss {progress.loss:.4f}{validation}  rate {progress.rate:.1e}"
