"""A full disk or a folder that cannot be written to leaves the old files, and says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src"

# In a mount namespace of its own, so that the small file system goes with the process.
SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from tidegate.errors import InputError
import writers

read, disk = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)

def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}

def fill(room):
    with open(disk / "filler", "wb", buffering=0) as filler:
        filler.write(bytes(room))
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    os.truncate(disk / "filler", os.path.getsize(disk / "filler") - room)

def refused(write, folder, version):
    try:
        write(folder, version)
    except InputError as error:
        return str(error)
    return ""

calls, commands = writers.calls(read), writers.commands(read)
for name, write in (calls | commands).items():
    folder = disk / name
    folder.mkdir()
    new = {}
    if name in calls:
        write(folder, 1)
        new = files(folder)
    write(folder, 0)
    old = files(folder)
    # What a command writes goes through the calls: a file begun and not ended is tried with these.
    for room in (0, 4096) if name in calls else (0,):
        fill(room)
        said = refused(write, folder, 1)
        os.unlink(disk / "filler")
        assert said or room, f"{name}: a full disk was not noticed"
        if said:
            assert said.startswith(f"cannot write into {folder}: "), (name, said)
            assert "No space left on device" in said, (name, said)
            now = files(folder)
            assert now.keys() == old.keys(), (name, list(now))
            # Of several files that are written one after the other, the first may have had room.
            assert all(now[file] in (old[file], new.get(file)) for file in now), name
            assert now != new, name
        else:
            write(folder, 0)
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
for name, write in (calls | commands).items():
    old = files(disk / name)
    said = refused(write, disk / name, 0)
    assert said.startswith(f"cannot write into {disk / name}: Read-only file system"), (name, said)
    assert files(disk / name) == old, name
print("whole")
"""


def in_namespace(*command):
    return ["unshare", "--mount", "--map-root-user", *command]


def can_mount():
    if not shutil.which("unshare"):
        return False
    probe = in_namespace("sh", "-c", "mount -t tmpfs tmpfs /tmp")
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace")
def test_every_writer_leaves_the_old_files_on_a_full_or_read_only_disk_and_says_so(tmp_path):
    read, disk = tmp_path / "read", tmp_path / "disk"
    read.mkdir()
    disk.mkdir()
    result = subprocess.run(
        in_namespace(sys.executable, "-c", SCRIPT, str(read), str(disk)),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)])},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("whole\n")
