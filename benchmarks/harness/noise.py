"""Whether others use the machine while we measure."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple, Self

TICK = os.sysconf("SC_CLK_TCK")
QUIET = 0.1  # cores that others may use
PATIENCE = 30.0  # seconds that a row may wait for that


class Busy(NamedTuple):
    """A reading of the machine's counters: seconds since it started, all cores together."""

    wall: float
    used: float  # by anybody
    stolen: float  # by the hypervisor

    @classmethod
    def now(cls) -> Self:
        """Read them."""
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _, _, irq, softirq, steal = (int(field) / TICK for field in fields)
        return cls(time.monotonic(), user + nice + system + irq + softirq, steal)


def foreign(before: Busy, after: Busy, own: float) -> float:
    """Cores used by others or stolen between two readings; `own` is our processor time."""
    used = after.used - before.used + after.stolen - before.stolen - own
    return max(0.0, used - 1 / TICK) / (after.wall - before.wall)  # the counters step by a tick


def wait_until_quiet(until: float) -> None:
    """Wait while others use the machine, at most until that moment of `time.monotonic`."""
    while time.monotonic() < until:
        before = Busy.now()
        time.sleep(0.1)
        if foreign(before, Busy.now(), 0.0) <= QUIET:
            return
