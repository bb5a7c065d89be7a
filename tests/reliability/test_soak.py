"""Streams of every thread go on for long in memory that does not grow; `soak.py` goes on longer."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import soak


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_eight_threads_of_streams_need_no_more_memory_as_they_go_on():
    memory = []
    runs = soak.soak(160_000, lambda steps, resident: memory.append(resident))
    # Eight bytes a step would be 640 kB over the second half.
    assert memory[-1] - memory[len(memory) // 2] < 500_000, memory
    # Threads that took the same steps stand at the same place.
    assert {run.taken for run in runs} == {160_000 // soak.THREADS}
    assert len({run.sum for run in runs}) == 1
    assert np.isfinite(runs[0].sum)


def test_a_leak_would_be_seen(monkeypatch):
    kept, take = [], soak.Soak.run

    def leaking(run, steps):
        take(run, steps)
        kept.append(np.ones(100 * steps, np.uint8))

    monkeypatch.setattr(soak.Soak, "run", leaking)
    memory = []
    soak.soak(160_000, lambda steps, resident: memory.append(resident))
    assert memory[-1] - memory[len(memory) // 2] > 5_000_000
