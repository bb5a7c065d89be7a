"""Files appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from .errors import InputError

_PREFIX = ".tidegate-part-"
# A process that was killed leaves its part behind; one as old as this has no owner any more.
_ABANDONED_SECONDS = 3600


def require_apart(
    written: str | os.PathLike[str], option: str, *others: str | os.PathLike[str] | None
) -> None:
    """See that what is written takes the place of nothing else that a command reads or writes.

    Args:
        written: the file or folder.
        option: what names it, for the message.
        others: files; or folders, which it must not lie in.

    Raises:
        InputError: it would, or does.
    """
    for other in filter(None, others):
        here, there = (Path(os.path.realpath(path)) for path in (written, other))
        # A file system may take two spellings for one name.
        if here == there or (here.exists() and there.exists() and here.samefile(there)):
            raise InputError(f"{option} would be written over {other}: give it another name")
        if there in here.parents and there.is_dir():
            raise InputError(f"{option} would be written into {other}, which is read: name another")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` to write into; it takes its place if the block succeeds.

    Raises:
        InputError: `path` is a folder, or its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder")
    with staged(path.parent) as part:
        yield part / path.name


@contextmanager
def staged(folder: str | Path) -> Iterator[Path]:
    """A temporary folder; when the block ends well, its files move into `folder` together.

    After an error or an interrupt nothing is left, not even `folder` if it was new. Files that
    `folder` already has under the same names are replaced, all others stay.

    Raises:
        InputError: the folder cannot be written to.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with staged(folder) as part:
        ...         _ = (part / "a.txt").write_text("whole")
        ...     os.listdir(folder)
        ['a.txt']
    """
    folder = Path(folder)
    _refuse_address(folder)
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        part = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error
    done = False
    try:
        yield part
        with _uninterrupted():
            _publish(part, folder)
            done = True
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror or error}") from error
    except InputError as error:  # of what was to be a file here, say where
        raise InputError(str(error).replace(str(part), str(folder))) from error
    except SafetensorError as error:  # it has its own words for what the system said
        raise InputError(f"cannot write into {folder}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not done:
            with suppress(OSError):
                for parent in new:
                    parent.rmdir()


def require_writable(folder: str | Path) -> None:
    """Find out before the long work whether its results can be written.

    Raises:
        InputError: the folder cannot be written to.
    """
    folder = Path(folder)
    _refuse_address(folder)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise InputError(f"cannot write into {folder}: {there} is a file, not a folder")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=_PREFIX, dir=there))
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from None


def _refuse_address(folder: Path) -> None:
    """See that nothing is written into a folder called `s3:` instead."""
    scheme, *others = folder.parts or ("",)
    if others and re.fullmatch(r"[a-z][a-z0-9+.-]+:", scheme) and not Path(scheme).exists():
        address = f"{scheme}//{'/'.join(others)}"
        raise InputError(f"{address} is an address: name a folder, and copy from there")


def _publish(part: Path, folder: Path) -> None:
    files = sorted(part.iterdir())
    mode = _usual_mode(part)
    for file in files:
        file.chmod(mode)
        _to_disk(file)
    for file in files:
        os.replace(file, folder / file.name)
    if os.name == "posix":
        _to_disk(folder)


def _usual_mode(folder: Path) -> int:
    """The mode of a new file; some libraries write files that only their owner can read."""
    probe = folder / "probe"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    return mode


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    for part in folder.glob(_PREFIX + "*"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done; only the main thread gets one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
