"""Prove and time the GPU kernels: `python benchmarks/gpu/run.py`, one call, under ten minutes.

First, a check of every option on small layers (`checks.py`). Then each kernel, that is each kind of
number and hidden size, runs in a process of its own with a time limit, and is compiled while the
one before is measured. Ours is compared with float64 on fresh inputs, with outputs that start as
NaN, and a hundred times with itself; then it is timed beside `torch.nn.GRU` and the same in a CUDA
graph, by turns. What is wrong is not timed, and is never chosen by the package's table. At the end
FlashRNN is timed where it is installed, and compute-sanitizer runs the checks again.

The most telling comes first, and what is known is on disk after each kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from results import (
    HIDDEN,
    LARGEST,
    Kernel,
    calls,
    faster,
    kernels,
    lines_of,
    plot,
    read_csv,
    with_flashrnn,
    write_csv,
)
from torch import cuda

from tidegate._files import replacing
from tidegate.nn.gpu import _table

HERE = Path(__file__).parent
TABLE = Path(_table.__file__).with_name("table.json")
NO_GPU = 2
CHECKS = 90.0  # seconds
SHORTEST = 10.0  # a kernel is not begun for less
SANITIZER = 60.0
FLASHRNN = 90.0  # it compiles itself for each size
LOG = "log.txt"
TOOLS = ("memcheck", "racecheck", "synccheck")


class Ended(NamedTuple):
    """What a process printed, what was at fault if anything, and all that it said of it."""

    lines: list[str]
    fault: str
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what fits the time, and write what was found."""
    asked = _parser().parse_args(arguments)
    if not cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.", file=sys.stderr)
        return NO_GPU
    device, end = cuda.get_device_name(), time.monotonic() + 60 * asked.minutes
    print(f"{device}, torch {sys.modules['torch'].__version__}", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / LOG).unlink(missing_ok=True)
    passed, failed = check(asked.out)
    if not passed:
        print("not one check passed: nothing was timed", *failed, sep="\n")
        return 1
    rows: list[dict] = []
    save(rows, device, asked.out)
    sanitizer, flash = shutil.which("compute-sanitizer"), importlib.util.find_spec("flashrnn")
    until = end - (SANITIZER if sanitizer else 0) - (FLASHRNN if flash else 0)
    with contextlib.closing(in_turn(kernels(asked.hidden))) as turns:
        for kernel, process in turns:
            left = until - time.monotonic()
            if left < SHORTEST:
                print(f"the time is up: {kernel} and what follows were not measured")
                break
            found = measure(kernel, process, min(asked.limit, left), asked.out, left < asked.limit)
            rows += found
            print(*lines_of(found), sep="\n", flush=True)
            save(rows, device, asked.out)
    if flash:
        rows = with_flashrnn(rows, time_flashrnn(asked.hidden, FLASHRNN, asked.out))
        save(rows, device, asked.out)
    print(sanitize(sanitizer, SANITIZER, asked.out) if sanitizer else "no compute-sanitizer")
    if asked.keep and rows:
        shutil.copyfile(asked.out / "table.json", TABLE)
    rows = read_csv(asked.out / "times.csv")
    wrong = [row for row in rows if row["fault"]]
    print(f"{len(rows)} calls, {len(wrong)} not right; written to {asked.out}", flush=True)
    plot(rows, device, asked.out / "times.svg")
    return 1 if wrong or failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=HERE / "results", help="folder for all that is written")
    add("--minutes", type=float, default=9.5, help="for all together")
    add("--limit", type=float, default=45.0, help="seconds that one kernel may take")
    add("--hidden", type=int, nargs="+", default=(), help="sizes to measure; else all")
    add("--keep", action="store_true", help="choose by the table from now on, in this package")
    return parser


def check(out: Path) -> tuple[list[str], list[str]]:
    """Lines of the checks of every option that passed, and of those that did not."""
    ended = _end(_begin([str(HERE / "checks.py")]), CHECKS)
    _log(out, "checks", ended)
    found = [json.loads(line) for line in ended.lines if line.startswith("{")]
    passed = [row["check"] for row in found if not row["fault"]]
    failed = [f"{row['check']}: {row['fault']}" for row in found if row["fault"]]
    failed += [f"the checks: {ended.fault}"] if ended.fault else []
    print(f"{len(passed)} checks passed, {len(failed)} did not", *failed, sep="\n", flush=True)
    return passed, failed


def in_turn(kernels: Sequence[Kernel]) -> Generator[tuple[Kernel, subprocess.Popen[str]]]:
    """Each kernel and its process; the next one's makes itself ready meanwhile."""
    begun = [(kernel, _begin(_script(kernel))) for kernel in kernels[:1]]
    try:
        for kernel in (*kernels[1:], None):
            if kernel is not None:
                begun.append((kernel, _begin(_script(kernel))))
            yield begun[0]
            begun.pop(0)
    finally:
        for _, process in begun:
            _kill(process)


def measure(
    kernel: Kernel, process: subprocess.Popen[str], limit: float, out: Path, last: bool = False
) -> list[dict]:
    """Let a kernel's process measure: a row for each call, and one for what went wrong.

    The `last` one has less than its time: what it does not come to is no fault.
    """
    ended = _end(process, limit)
    _log(out, str(kernel), ended)
    rows = [json.loads(line) for line in ended.lines if line.startswith("{")]
    if last and process.returncode == -signal.SIGKILL:
        return rows
    told = {(row["training"], row["packed"], row["batch"]) for row in rows}
    missing = [c for c in calls(kernel) if (c.training, c.packed, c.batch) not in told]
    return rows + [c._asdict() | {"fault": ended.fault or "no answer"} for c in missing]


def save(rows: Iterable[dict], device: str, out: Path) -> None:
    """Write what is known by now: the times, and the package's table with this device's."""
    write_csv(out / "times.csv", rows)
    table = _table.read(TABLE) | {device: faster(read_csv(out / "times.csv"))}
    with replacing(out / "table.json") as part:
        part.write_text(_table.text_of(table), "utf-8")


def time_flashrnn(hidden: Sequence[int], limit: float, out: Path) -> list[dict]:
    """Rows with FlashRNN's times alone; a process for each size, which it compiles itself for."""
    rows, end = [], time.monotonic() + limit
    for size in [h for h in hidden or HIDDEN if h <= LARGEST]:
        ended = _end(_begin([str(HERE / "one.py"), "flashrnn", str(size)]), end - time.monotonic())
        _log(out, f"FlashRNN, {size} units", ended)
        rows += [json.loads(line) for line in ended.lines if line.startswith("{")]
        if time.monotonic() > end:
            break
    return rows


def sanitize(program: str, limit: float, out: Path) -> str:
    """What compute-sanitizer says of our kernels while the checks run; its tools side by side."""
    # Each tensor is an allocation of its own, so that a step beyond one is seen.
    own = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    options = ["--kernel-name", "kns=gru_", "--error-exitcode", "9", "--tool"]
    checks = [str(HERE / "checks.py"), "sanitized"]
    begun = [_begin(checks, [program, *options, tool], own) for tool in TOOLS]
    end, found = time.monotonic() + limit, []
    for tool, process in zip(TOOLS, begun, strict=True):
        ended = _end(process, max(0.0, end - time.monotonic()))
        _log(out, tool, ended)
        summary = [line.strip("= ") for line in ended.lines if "SUMMARY" in line]
        found.append(f"{tool}: {' '.join(summary) or ended.fault or 'no word'}")
    return f"compute-sanitizer: {', '.join(found)}"


def _script(kernel: Kernel) -> list[str]:
    return [str(HERE / "one.py"), kernel.kind, str(kernel.hidden)]


def _begin(
    script: list[str], before: Sequence[str] = (), environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*before, sys.executable, *script],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=environment,
        process_group=0,  # with what it starts itself
    )


def _end(process: subprocess.Popen[str], limit: float) -> Ended:
    """Let a process go on, for so many seconds at most."""
    fault = ""
    try:
        printed, said = process.communicate("\n", timeout=limit)
        if process.returncode:
            last = (said.strip() or f"exit code {process.returncode}").splitlines()[-1]
            fault = last[:200]
    except subprocess.TimeoutExpired:
        printed, said = _kill(process)
        fault = f"did not end within {limit:.3g} s"
    except BaseException:
        _kill(process)
        raise
    return Ended(printed.splitlines(), fault, said)


def _kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a process and all that it started; what they printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def _log(out: Path, name: str, ended: Ended) -> None:
    """Keep all that a process printed, if it had something to say beside its results."""
    if ended.fault or ended.said.strip():
        with (out / LOG).open("a", encoding="utf-8") as file:
            print(f"--- {name}: {ended.fault}", *ended.lines, ended.said, sep="\n", file=file)


if __name__ == "__main__":
    sys.exit(main())
