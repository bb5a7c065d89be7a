"""Runs the Python of a page and writes what it prints into the page: `python docs/run.py PAGE…`.

A block of `python` is followed, where it prints, by a block of `text` with the output. The blocks
of a page share their names, as a reader's session would.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def run(page: str) -> str:
    """The page with the output of each of its blocks."""
    names: dict[str, object] = {}
    return BLOCK.sub(lambda match: _with_output(match[1], names), page)


def _with_output(code: str, names: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    block = f"```python\n{code}```\n"
    output = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
    return f"{block}\n```text\n{output}\n```\n" if output else block


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(run(path.read_text("utf-8")), "utf-8")
