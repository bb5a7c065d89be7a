"""Runs that were done, one line of JSON each, so that a long benchmark goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


class Journal:
    """A file of finished runs; a run is known by its settings, which are part of its line."""

    def __init__(self, path: Path):
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.lines: list[Facts] = [json.loads(line) for line in text.splitlines()]

    def find(self, settings: Facts) -> Facts | None:
        """The line of the run with these settings, if it was done."""
        same = (line for line in self.lines if settings.items() <= line.items())
        return next(same, None)

    def run_all(
        self, runs: Iterable[Facts], run: Callable[..., Facts], seconds: float = float("inf")
    ) -> int:
        """Do those runs that were not done yet; begin none after so many seconds.

        Returns:
            How many are left.
        """
        begun, left = time.perf_counter(), 0
        for settings in runs:
            if self.find(settings) is not None:
                continue
            if time.perf_counter() - begun > seconds:
                left += 1
                continue
            self._add(settings | run(**settings))
        return left

    def _add(self, line: Facts) -> None:
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
