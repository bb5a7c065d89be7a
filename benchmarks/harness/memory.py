"""Bytes that a process holds, asked of the C library and of Linux."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path


class _Mallinfo(ctypes.Structure):
    """The C library's counters, in its order."""

    _fields_ = [
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


_mallinfo2 = ctypes.CDLL(None).mallinfo2  # glibc 2.33 and later
_mallinfo2.restype = _Mallinfo


def held() -> int:
    """Bytes that malloc has given out and not got back, of any thread."""
    info = _mallinfo2()
    return info.uordblks + info.hblkhd


def kept_by(call: Callable[[], object]) -> int:
    """Bytes that the result of a call keeps alive, itself included.

    Results of calls before live on meanwhile, so that their memory cannot serve again unseen.
    """
    results = [call()]
    gc.collect()
    grown = []
    for _ in range(4):
        before = held()
        results.append(call())
        grown.append(held() - before)
    return max(grown)


def peak_of(call: Callable[[], object]) -> int:
    """Bytes by which the process grows during a call, at most."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)
