"""Streams of every thread go on for long in memory that does not grow; `soak.py` goes on longer."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import soak

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
STEPS = 160_000
# A float a step, the least that Python can leave behind, is 24 bytes: 1.9 MB over the second half.
# Without a leak it was 0.15 to 0.52 MB in fifteen runs, while the memory of eight threads settles.
SETTLING = 1_500_000


def growth(leaked: int = 0) -> tuple[int, set[tuple[int, float]]]:
    """Bytes more at the end than at half of the steps; and what differs between threads.

    In a process of its own: what an older one has freed takes a leak in, unseen.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        memory, threads = process.submit(soak.measured, STEPS, leaked).result()
    return memory[-1] - memory[len(memory) // 2], set(threads)


def test_eight_threads_of_streams_need_no_more_memory_as_they_go_on():
    more, threads = growth()
    assert more < SETTLING
    # Threads that took the same steps stand at the same place.
    [(taken, total)] = threads
    assert taken == STEPS // soak.THREADS
    assert np.isfinite(total)


def test_a_leak_would_be_seen():
    more, _ = growth(leaked=24)
    assert more > SETTLING
