"""What a table was measured on, when and with what."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path


def describe() -> dict[str, str]:
    """The machine, the date and the command."""
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": "python " + shlex.join(sys.argv),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
