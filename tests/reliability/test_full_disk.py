"""A full disk or a folder that cannot be written to leaves the old file, and says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[2] / "src")

# In a mount namespace of its own, so that the small file system goes with the process.
SCRIPT = """
import os, subprocess, sys
import numpy as np
from safetensors.numpy import load_file, save_file
from tidegate._files import replacing, staged
from tidegate.errors import InputError

folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
path = os.path.join(folder, "model.safetensors")

def write(value, size):
    with replacing(path) as file:
        save_file({"w": np.full(size, value, np.float32)}, file)

def refused(work):
    try:
        work()
    except InputError as error:
        return str(error)
    raise AssertionError("a full disk was not noticed")

write(1, 100_000)
print(refused(lambda: write(2, 250_000)))
assert (load_file(path)["w"] == 1).all()
assert os.listdir(folder) == ["model.safetensors"], os.listdir(folder)

def write_set():
    with staged(os.path.join(folder, "out")) as part:
        (part / "a").write_bytes(b"x" * 100_000)
        (part / "b").write_bytes(b"x" * 900_000)

print(refused(write_set))
assert os.listdir(folder) == ["model.safetensors"], os.listdir(folder)
write(3, 100_000)
assert (load_file(path)["w"] == 3).all()
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
def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path):
    result = subprocess.run(
        in_namespace(sys.executable, "-c", SCRIPT, str(tmp_path)),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    assert result.returncode == 0, result.stderr
    *messages, last = result.stdout.splitlines()
    assert last == "whole"
    for message in messages:
        assert message.startswith("cannot write into ")
        assert "No space left on device" in message
