"""A process killed at any moment leaves the old file or the new one, and never a part of one."""

import os
import random
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tidegate._files import replacing

KILLS = 200
SIZE = 200_000  # numbers in a file: large enough that a write takes longer than a time slice


def write_for_ever(path, first):
    """Replace the file by ever newer versions, each full of its own number."""
    version = first
    while True:
        with replacing(path) as file:
            save_file({"w": np.full(SIZE, version, np.float32)}, file)
        version += 1


def killed_writer(path, first, seconds):
    """Fork a writer, let it run for so long, and kill it."""
    child = os.fork()
    if not child:
        try:
            write_for_ever(path, first)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_hundred_kills_leave_a_whole_file_each_time(tmp_path):
    path, moments, last, moved = tmp_path / "model.safetensors", random.Random(0), 0, 0
    save_file({"w": np.zeros(SIZE, np.float32)}, path)
    for _ in range(KILLS):
        killed_writer(path, last + 1, moments.uniform(0, 0.02))
        numbers = load_file(path)["w"]
        assert numbers.shape == (SIZE,)
        assert (numbers == numbers[0]).all(), "two versions in one file"
        assert numbers[0] >= last, "an older version came back"
        moved += numbers[0] > last
        last = int(numbers[0])
    assert 0 < moved < KILLS, f"{moved} of {KILLS} writers finished a file: nothing was interrupted"
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == [path.name]
