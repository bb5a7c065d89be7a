"""Writers killed at any moment leave each file old or new, and never a part of one."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from writers import calls

KILLS = 200


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def write_for_ever(write, folder, version, told):
    """Write one version and the other in turn, and tell before each."""
    while True:
        os.write(told, b".")
        write(folder, version)
        version = 1 - version


def killed(write, folder, version, begun, seconds):
    """Fork a process that writes, and kill it so long after it began a file for the n-th time."""
    tells, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            write_for_ever(write, folder, version, told)
        finally:
            os._exit(1)
    for _ in range(begun):
        os.read(tells, 1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(tells)
    os.close(told)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_hundred_kills_leave_whole_files_of_every_writer(tmp_path):
    (tmp_path / "read").mkdir()
    writers, moments = calls(tmp_path / "read"), random.Random(0)
    left = 0
    for number, (name, write) in enumerate(writers.items()):
        folder = tmp_path / name
        folder.mkdir()
        versions = []
        for version in (1, 0):
            begun = time.perf_counter()
            write(folder, version)
            versions.insert(0, files(folder))
        seconds = time.perf_counter() - begun
        assert all(versions[0][file] != versions[1][file] for file in versions[0]), name
        before, changes = versions[0], 0
        for kill in range(number, KILLS, len(writers)):
            begun = 1 + kill // len(writers) % 2
            killed(write, folder, int(before == versions[0]), begun, moments.uniform(0, seconds))
            found = files(folder)
            assert found.keys() == before.keys(), name
            for file, content in found.items():
                assert content in (versions[0][file], versions[1][file]), f"{name}: {file} in part"
            changes, before = changes + (found != before), found
        assert changes, f"{name} wrote nothing"
        left += len(list(folder.glob(".tidegate-part-*")))
    assert left > KILLS // 5, "hardly any writer was killed in the midst of a file"
