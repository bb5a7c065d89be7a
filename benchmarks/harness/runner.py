"""How one process times its own calls."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

WARM = 0.005  # seconds of calls before the first that counts
GROUP = 0.0002  # seconds that one sample takes at least: shorter calls are timed together


class Runner(NamedTuple):
    """One way in which a peer computes a case."""

    call: Callable[[], object]
    results: Callable[[], list[np.ndarray]]  # to be compared before anything is timed
    kept: Callable[[], int] | None = None  # bytes held between forward and backward


class Slice(NamedTuple):
    """Samples taken in one turn."""

    seconds: list[float]  # of one call, one number a sample
    wall: float  # of the whole turn
    cpu: float  # seconds of processor time that the process used meanwhile


def sample(call: Callable[[], object], seconds: float) -> Slice:
    """Call for a while, timing each call, or short ones in groups."""
    gc.collect()
    gc.disable()
    cpu, start = time.process_time(), time.perf_counter()
    once = _warm(call, start + WARM)
    group = max(1, round(GROUP / once))
    samples: list[float] = []
    begun = time.perf_counter()
    while not samples or time.perf_counter() < begun + seconds:
        at = time.perf_counter()
        for _ in range(group):
            call()
        samples.append((time.perf_counter() - at) / group)
    gc.enable()
    return Slice(samples, time.perf_counter() - start, time.process_time() - cpu)


def _warm(call: Callable[[], object], until: float) -> float:
    """Call until caches are filled and threads awake; return the time of the last call."""
    while True:
        at = time.perf_counter()
        call()
        now = time.perf_counter()
        if now >= until:
            return now - at
