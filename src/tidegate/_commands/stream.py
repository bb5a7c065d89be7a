"""`tidegate stream`: a line of numbers in, a line of numbers out, until the input ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import numpy as np

from .._files import replacing, require_writable
from ..errors import InputError
from ..runtime import Model, Stream, load
from ..runtime._lines import BadLine, is_heading, parse_line
from ._guard import INTERRUPTED

_TERMINATED = 143
_LONGEST = 2**20  # bytes of a line


def run_stream(path: Path, state: Path | None, every: float) -> None:
    """Answer each line of standard input on standard output.

    Args:
        path: the model.
        state: where its state is kept; the stream goes on from it where it is there.
        every: seconds after which the state is written at the next line.

    Raises:
        InputError: a file cannot be read or written, or does not fit the model.
    """
    model = load(path)
    if not isinstance(model, Model):
        raise InputError(
            f"{path} holds a {model.kind}: only stacks of layers take lines of numbers"
        )
    if state is not None:
        require_writable(state.parent)
    lines = _Lines(model.stream(), state, every)
    lines.begin()
    with _stoppable(lines) as stopped:
        _answer(lines, sys.stdin.buffer)
    lines.save()
    if stopped:
        raise SystemExit(stopped[0])


@dataclass
class _Lines:
    """A stream, how many lines it has read, and the file of its state."""

    stream: Stream
    file: Path | None
    every: float
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
            notes = self.stream.from_bytes(self.file.read_bytes())
            self.count = int(notes["lines"])
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
            part.write_bytes(self.stream.to_bytes({"lines": str(self.count)}))
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
    stream, size = lines.stream, lines.stream.stack.input_size
    parse, first = _parser(size), lines.count == 0
    sys.stdout.flush()
    out = sys.stdout.fileno()
    while not lines.stopped:
        lines.waiting = True
        line = _read(source)
        lines.waiting = False
        if not line:
            return
        lines.count += 1  # of those that the state has seen, also where nobody takes the answer
        if first and is_heading(line.decode(errors="replace")):
            _write(out, ",".join(_names(stream.stack.output_size)) + "\n")
        else:
            try:
                answer = stream.step(parse(line))
            except ValueError as why:
                _tell(f"line {lines.count:,}: {why}: skipped")
            else:
                _write(out, ",".join(map(_number, answer.tolist())) + "\n")
        first = False
        if lines.file is not None and time.monotonic() - lines.saved > lines.every:
            lines.save()


def _read(source: BinaryIO) -> bytes:
    """The next line; of one that has no end in sight, no more than is needed to refuse it."""
    line = source.readline(_LONGEST)
    if len(line) == _LONGEST:
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(_LONGEST)
    return line


def _parser(size: int) -> Callable[[bytes], np.ndarray]:
    """What reads a line; the array that it returns is the same each time."""
    numbers = np.zeros(size, np.float64) if size else None

    def parse(line: bytes) -> np.ndarray:
        if numbers is None:
            return parse_line(line.decode(errors="replace").strip(), 1, whole=True)[0]
        try:
            values = list(map(float, line.split(b",")))
        except ValueError:
            values = []
        if len(values) != size:  # other separators, missing values, or a line to refuse
            values = parse_line(line.decode(errors="replace").strip(), size)
        numbers[:] = values
        if not np.isfinite(numbers).all():
            raise BadLine("a number is missing or not finite")
        return numbers

    return parse


def _names(count: int) -> list[str]:
    return ["y"] if count == 1 else [f"y{i}" for i in range(1, count + 1)]


def _number(value: float) -> str:
    return format(value, ".9g")


def _write(out: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(out, left) :]


def _tell(sentence: str) -> None:
    print(f"tidegate: {sentence}", file=sys.stderr, flush=True)
