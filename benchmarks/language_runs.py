"""Language models on real texts: the cells at equal parameters and equal time.

    python benchmarks/language_runs.py FOLDER --only shakespeare

The folder holds tinyshakespeare.txt; fa_hafez.txt, fa_saadi.txt and fa_khayyam.txt; and
perdt_train.txt, perdt_dev.txt and perdt_test.txt; a text that is not there is left out.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from harness import machine
from harness.tables import Table, markdown_of

from tidegate.language import LanguageModel

app = App(help=__doc__)
_PROBE = 12  # steps that tell how long a step takes
_WARM = 3
_HELD_BACK = 0.1


@dataclass(frozen=True)
class Text:
    """A corpus in two parts, and perhaps a third that nothing was chosen by."""

    name: str
    training: str
    validation: str
    test: str | None = None


@dataclass(frozen=True)
class Run:
    """A model to train for so many seconds of processor time."""

    text: str
    label: str
    seconds: float
    options: dict[str, Any] = field(default_factory=dict)


_SHAKESPEARE = {"dropout": 0.1, "context_length": 100, "batch_size": 32}
_VERSE = _SHAKESPEARE | {"normalize": "persian"}
_WORDS = {
    "tokens": "words",
    "vocab_size": 8000,
    "dropout": 0.4,
    "context_length": 35,
    "batch_size": 20,
}
# Hidden sizes at which the cells have the same number of parameters: of characters, of words.
_CELLS = {"gru": 256, "lstm": 222, "rnn": 441, "mingru": 441}
_WORD_CELLS = {"gru": 256, "lstm": 245, "rnn": 285, "mingru": 285}


def runs(seconds: float) -> Iterator[Run]:
    """All of them; `seconds` is the time of a cell in the comparison."""
    for text, options in (("shakespeare", _SHAKESPEARE), ("verse", _VERSE)):
        for cell, hidden in _CELLS.items():
            yield Run(text, cell, seconds, options | {"cell": cell, "hidden_size": hidden})
        large = {"hidden_size": 512, "dropout": 0.4, "learning_rate": 2e-3}
        yield Run(text, "gru, large", 4 * seconds, options | large)
    for cell, hidden in _WORD_CELLS.items():
        yield Run("words", cell, 2 * seconds, _WORDS | {"cell": cell, "hidden_size": hidden})


def texts(folder: Path) -> dict[str, Text]:
    """The corpora that are there."""
    found = {}
    if (folder / "tinyshakespeare.txt").exists():
        found["shakespeare"] = _split("shakespeare", [folder / "tinyshakespeare.txt"])
    poets = [folder / f"fa_{name}.txt" for name in ("hafez", "saadi", "khayyam")]
    if all(path.exists() for path in poets):
        found["verse"] = _split("verse", poets)
    parts = [folder / f"perdt_{part}.txt" for part in ("train", "dev", "test")]
    if all(path.exists() for path in parts):
        found["words"] = Text("words", *(path.read_text("utf-8") for path in parts))
    return found


def _split(name: str, paths: list[Path]) -> Text:
    """The last tenth of each file is held back, as its characters count."""
    both: tuple[list[str], list[str]] = ([], [])
    for path in paths:
        text = path.read_text("utf-8")
        cut = text.index("\n", round(len(text) * (1 - _HELD_BACK))) + 1
        both[0].append(text[:cut])
        both[1].append(text[cut:])
    return Text(name, *("".join(part) for part in both))


def train(run: Run, text: Text, threads: int) -> list[str]:
    """Train one model for its time; a row of the table."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        training, validation = Path(folder) / "training.txt", Path(folder) / "validation.txt"
        training.write_text(text.training, "utf-8")
        validation.write_text(text.validation, "utf-8")
        marks: list[float] = []
        LanguageModel(**run.options, steps=_PROBE, validation_share=0).fit(
            training, progress=lambda _: marks.append(time.process_time())
        )
        a_step = (marks[-1] - marks[_WARM]) / (len(marks) - 1 - _WARM)
        steps = max(20, round(run.seconds / a_step))
        begun = time.process_time()
        model = LanguageModel(**run.options, steps=steps).fit(training, validation)
        spent = time.process_time() - begun
    loss = math.log(model.perplexity_ or math.nan)
    row = [
        run.text,
        run.label,
        f"{model.network_.shape.parameters:,}",
        f"{steps:,}",
        f"{spent:.0f}",
        f"{loss:.3f}",
        f"{model.bits_per_character_:.3f}",
        f"{math.exp(loss):.2f}",
        "" if text.test is None else f"{model.perplexity(text.test):.1f}",
    ]
    print(" | ".join(row), flush=True)
    print(model.sample(length=300, temperature=0.7), flush=True)
    return row


@app.default
def main(folder: Path, *, only: str = "", seconds: float = 60.0, threads: int = 1) -> None:
    """Train the models and print a table.

    Args:
        folder: Where the texts are.
        only: Runs whose text and label match this pattern, such as "verse (gru$|rnn)".
        seconds: Processor time of a cell in the comparison.
        threads: Number of threads.
    """
    there = texts(folder)
    rows = [
        train(run, there[run.text], threads)
        for run in runs(seconds)
        if run.text in there and re.match(only, f"{run.text} {run.label}")
    ]
    print(". ".join(machine.describe().values()) + f". {threads} threads.\n")
    heads = ["text", "cell", "parameters", "steps", "seconds of processor time"]
    heads += ["nats a token", "bits a character", "perplexity", "of the test part"]
    print(markdown_of(Table("Real texts, the part held back", heads, rows)))


if __name__ == "__main__":
    app()
