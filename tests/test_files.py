"""Files appear whole or not at all, whatever stops the writer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate._files import replacing, require_writable, staged
from tidegate.errors import InputError

SLOW_WRITER = """
import sys, time
from pathlib import Path
from tidegate._files import staged

with staged(sys.argv[1]) as part:
    for name in "abc":
        (part / name).write_text("new" * 100_000)
        print(name, flush=True)
        time.sleep(30 if name == "b" else 0)
"""


def start_writer(folder):
    source = str(Path(__file__).parents[1] / "src")
    path = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def write_two(folder):
    with staged(folder) as part:
        (part / "a").write_text("1")
        (part / "b").write_text("2")
        assert visible(folder) == []


def write_half(folder, error):
    with staged(folder) as part:
        (part / "a").write_text("half")
        raise error


def test_a_set_of_files_appears_when_the_block_ends(tmp_path):
    write_two(tmp_path / "new" / "out")
    assert sorted(os.listdir(tmp_path / "new" / "out")) == ["a", "b"]
    assert (tmp_path / "new" / "out" / "b").read_text() == "2"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write_half(tmp_path / "new" / "out", error)
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "other").write_text("other")
    with pytest.raises(RuntimeError):
        write_half(tmp_path, RuntimeError)
    assert sorted(os.listdir(tmp_path)) == ["a", "other"]
    assert (tmp_path / "a").read_text() == "old"


def test_one_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as file:
        file.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a"]


def test_files_get_the_usual_mode(tmp_path):
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "a") as file:
        file.touch(mode=0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_writer_that_is_stopped_shows_no_part_of_its_set(tmp_path, number):
    (tmp_path / "a").write_text("old")
    writer = start_writer(tmp_path)
    while writer.stdout.readline().strip() != "b":
        assert writer.poll() is None
    writer.send_signal(number)
    assert writer.wait(timeout=20) != 0
    writer.stdout.close()
    assert visible(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_what_a_killed_writer_left_is_removed_by_a_later_one(tmp_path):
    abandoned = tmp_path / ".tidegate-part-x"
    fresh = tmp_path / ".tidegate-part-y"
    for part in (abandoned, fresh):
        part.mkdir()
        (part / "a").touch()
    os.utime(abandoned, (0, 0))
    with staged(tmp_path) as part:
        (part / "a").touch()
    assert sorted(os.listdir(tmp_path)) == [".tidegate-part-y", "a"]


def test_an_interrupt_while_files_move_waits_until_all_have(tmp_path, monkeypatch):
    move = os.replace

    def interrupted_move(source, target):
        signal.raise_signal(signal.SIGINT)
        move(source, target)

    monkeypatch.setattr(os, "replace", interrupted_move)
    with pytest.raises(KeyboardInterrupt):
        write_two(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    refused = pytest.raises(InputError, match=f"cannot write {tmp_path}: it is a folder")
    with refused, replacing(tmp_path):
        raise AssertionError("the work has begun")


def test_a_file_in_the_place_of_the_folder_is_refused_early(tmp_path):
    (tmp_path / "out").touch()
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(InputError, match="is a file, not a folder"):
            require_writable(folder)
        with pytest.raises(InputError, match="cannot write into"), staged(folder):
            pass
    require_writable(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == ["out"]


def test_an_address_is_no_folder_to_write_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/out", Path("s3://bucket/out")):
        with pytest.raises(InputError, match="s3://bucket/out is an address: name a folder"):
            require_writable(address)
        with pytest.raises(InputError, match="s3://bucket/out is an address"), staged(address):
            pass
    assert not os.listdir(tmp_path)


def test_a_folder_that_takes_no_file_is_refused_early():
    proc = Path("/proc")
    if not proc.is_dir():
        pytest.skip("needs a folder in which not even root may write")
    with pytest.raises(InputError, match="cannot write into /proc/new: "):
        require_writable(proc / "new")
