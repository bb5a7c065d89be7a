"""Prove and time the GPU kernels: `python benchmarks/gpu/run.py`, one call, under ten minutes.

Each kernel, that is each kind of number and hidden size, runs in a process of its own with a time
limit, and is compiled while the one before is measured. Ours is compared with float64 on fresh
inputs, with outputs that start as NaN, and a hundred times with itself; then it is timed beside
`torch.nn.GRU`, the same in a CUDA graph, and FlashRNN where it is installed. What is wrong is not
timed, and is never chosen by the package's table.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from results import Kernel, calls, faster, kernels, lines_of, plot, read_csv, write_csv
from torch import cuda

from tidegate.nn.gpu import _table

HERE = Path(__file__).parent
TABLE = Path(_table.__file__).with_name("table.json")
NO_GPU = 2

app = App(help=__doc__)


@app.default
def main(
    *,
    out: Path = HERE / "results",
    minutes: float = 9.5,
    limit: float = 45.0,
    hidden: Annotated[tuple[int, ...], Parameter(negative="")] = (),
    keep: bool = False,
) -> int:
    """Run every kernel that fits the time, the most telling first, and write what was found.

    Args:
        out: Folder for `times.csv`, `table.json` and `times.svg`.
        minutes: Begin no kernel that might end later.
        limit: Seconds that one kernel may take.
        hidden: Hidden sizes to measure; all of them where none is given.
        keep: Write the table into the package too, so that it is chosen by from now on.
    """
    if not cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.", file=sys.stderr)
        return NO_GPU
    device, end = cuda.get_device_name(), time.monotonic() + 60 * minutes
    print(f"{device}, torch {sys.modules['torch'].__version__}")
    print(sanitize(limit=60.0))
    rows = []
    with contextlib.closing(in_turn(kernels(hidden))) as turns:
        for kernel, process in turns:
            if time.monotonic() + limit > end:
                print(f"the time is up: {kernel} and what follows were not measured")
                break
            found = measure(kernel, process, limit)
            rows += found
            print(*lines_of(found), sep="\n", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "times.csv", rows)
    rows = read_csv(out / "times.csv")
    table = _table.read(TABLE) | {device: faster(rows)}
    (out / "table.json").write_text(_table.text_of(table), "utf-8")
    if keep:
        TABLE.write_text(_table.text_of(table), "utf-8")
    plot(rows, device, out / "times.svg")
    wrong = [row for row in rows if row["fault"]]
    print(f"{len(rows)} calls, {len(wrong)} not right; written to {out}")
    return 1 if wrong else 0


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
            process.kill()
            process.communicate()


def measure(kernel: Kernel, process: subprocess.Popen[str], limit: float) -> list[dict]:
    """Let a kernel's process measure: a row for each call, and one for what went wrong."""
    printed, fault = _end(process, limit)
    rows = [json.loads(line) for line in printed if line.startswith("{")]
    told = {(row["training"], row["packed"], row["batch"]) for row in rows}
    missing = [c for c in calls(kernel) if (c.training, c.packed, c.batch) not in told]
    return rows + [c._asdict() | {"fault": fault or "no answer"} for c in missing]


def sanitize(limit: float) -> str:
    """What compute-sanitizer says of tiny layers."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer: not found"
    found = []
    for check in ("memcheck", "racecheck", "synccheck"):
        before = [tool, "--tool", check, "--error-exitcode", "9"]
        _, fault = _end(_begin([str(HERE / "one.py"), "tiny"], before), limit)
        found.append(f"{check} {fault or 'clean'}")
    return f"compute-sanitizer: {', '.join(found)}"


def _script(kernel: Kernel) -> list[str]:
    return [str(HERE / "one.py"), kernel.kind, str(kernel.hidden)]


def _begin(script: list[str], before: Sequence[str] = ()) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [*before, sys.executable, *script]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _end(process: subprocess.Popen[str], limit: float) -> tuple[list[str], str]:
    """Let a process go on: the lines that it prints, and what was at fault, if anything."""
    fault = ""
    try:
        printed, said = process.communicate("\n", timeout=limit)
        if process.returncode:
            last = (said.strip() or f"exit code {process.returncode}").splitlines()[-1]
            fault = last[:200]
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
        fault = f"did not end within {limit:g} s"
    return printed.splitlines(), fault


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
