"""`tidegate stream`: a line in, a line out, until the input ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from .._files import replacing, require_apart, require_writable
from ..errors import InputError
from ..runtime import load
from ..runtime._lines import fields_of, is_heading
from ._answers import Answers, Columns, answers_of
from ._guard import INTERRUPTED

_TERMINATED = 143
_LONGEST = 2**20  # bytes of a line


def run_stream(path: Path, state: Path | None, every: float, columns: Columns) -> None:
    """Answer each line of standard input on standard output.

    Args:
        path: the model.
        state: where its state is kept; the stream goes on from it where it is there.
        every: seconds after which the state is written at the next line.
        columns: what the columns of the lines are called.

    Raises:
        InputError: a file cannot be read or written, or does not fit the model; or the heading
            lacks a column.
    """
    if state is not None:
        require_apart(state, "--state", path)
        require_writable(state.parent)
    answers = answers_of(load(path), columns)
    lines = _Lines(answers, state, every)
    lines.begin()
    with _stoppable(lines) as stopped:
        _answer(lines, sys.stdin.buffer)
    lines.save()
    if stopped:
        raise SystemExit(stopped[0])


@dataclass
class _Lines:
    """What answers, how many lines it has read, and the file of its state."""

    answers: Answers
    file: Path | None
    every: float
    heading: list[str] = field(default_factory=list)
    count: int = 0
    saved: float = 0.0
    waiting: bool = False
    stopped: bool = False

    def begin(self) -> None:
        """Go on from the file of the state, if it is there."""
        self.saved = time.monotonic()
        if self.file is None or not self.file.exists():
            return
        try:
            notes = self.answers.from_bytes(self.file.read_bytes())
            self.count = int(notes["lines"])
            self.heading = json.loads(notes["heading"])
            if self.heading:
                self.answers.begin(self.heading)
        except OSError as error:
            raise InputError(f"{self.file} cannot be read: {error.strerror}") from None
        except (InputError, KeyError, ValueError) as error:
            said = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise InputError(f"{self.file}: {said}") from None
        _tell(f"{self.file}: going on after line {self.count:,}")

    def save(self) -> None:
        """Write the state; whoever reads the file sees the old one or the new one."""
        if self.file is None:
            return
        with replacing(self.file) as part:
            notes = {"lines": str(self.count), "heading": json.dumps(self.heading)}
            part.write_bytes(self.answers.to_bytes(notes))
        self.saved = time.monotonic()


class _Stopped(BaseException):
    """Raised by a signal while the next line is waited for."""


@contextmanager
def _stoppable(lines: _Lines) -> Iterator[list[int]]:
    """Let SIGTERM and Ctrl-C stop between two lines, never within one; yields the exit code."""
    codes: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        codes.append(INTERRUPTED if number == signal.SIGINT else _TERMINATED)
        lines.stopped = True
        if lines.waiting:
            raise _Stopped

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield codes
    except _Stopped:
        pass
    except BrokenPipeError:
        lines.save()
        raise
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _answer(lines: _Lines, source: BinaryIO) -> None:
    answers = lines.answers
    first, fresh = True, lines.count == 0
    sys.stdout.flush()
    out = sys.stdout.fileno()
    if fresh and answers.texts:
        _write(out, ",".join(answers.begin([])) + "\n")
    while not lines.stopped:
        lines.waiting = True
        line = _read(source)
        lines.waiting = False
        if not line:
            return
        lines.count += 1  # of those that the state has seen, also where nobody takes the answer
        heading = [] if answers.texts or not first else _heading(line)
        if first and fresh and not heading:
            answers.plain()
        first = False
        if heading and fresh:
            _write(out, ",".join(answers.begin(heading)) + "\n")
            lines.heading = heading
        elif not heading or heading != lines.heading:
            try:
                answer = answers.answer(line)
            except ValueError as why:
                _tell(f"line {lines.count:,}: {why}: skipped")
            else:
                _write(out, answer + "\n")
        if lines.file is not None and time.monotonic() - lines.saved > lines.every:
            lines.save()


def _heading(line: bytes) -> list[str]:
    """The names in a line; none where it has numbers."""
    text = line.decode(errors="replace").removeprefix("\ufeff").strip()
    return fields_of(text) if is_heading(text) else []


def _read(source: BinaryIO) -> bytes:
    """The next line; of one that has no end in sight, no more than is needed to refuse it."""
    line = source.readline(_LONGEST)
    if len(line) == _LONGEST:
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(_LONGEST)
    return line


def _write(out: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(out, left) :]


def _tell(sentence: str) -> None:
    print(f"tidegate: {sentence}", file=sys.stderr, flush=True)
