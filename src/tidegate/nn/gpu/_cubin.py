"""Machine code of a build, compiled once and kept on disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from tidegate import _files
from tidegate.errors import InputError
from tidegate.nn.gpu import _nvrtc
from tidegate.nn.gpu._build import Build, sources


def cubin(build: Build, architecture: str, *, fresh: bool = False) -> bytes:
    """The machine code for an architecture; `fresh` compiles although there is a file.

    Raises:
        Unusable: it cannot be compiled.
    """
    options = options_of(build, architecture)
    path = folder() / f"{_key(options)}.cubin"
    if not fresh and (kept := _read(path)):
        return kept
    code = _nvrtc.compile_source(sources(), options)
    with suppress(InputError), _files.replacing(path) as part:
        part.write_bytes(code + hashlib.sha256(code).digest())
    return code


def folder() -> Path:
    """Where compiled kernels are kept: below TIDEGATE_CACHE, or the user's cache."""
    own, users = os.environ.get("TIDEGATE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(users) if users else Path("~/.cache")) / "tidegate"
    with suppress(RuntimeError):  # no home: a folder named ~ serves as well
        root = root.expanduser()
    return root / "gpu"


def options_of(build: Build, architecture: str) -> list[str]:
    """The compiler's options."""
    macros = [f"-D{name}={value}" for name, value in build.macros.items()]
    return [*macros, f"--gpu-architecture={architecture}", "-std=c++17"]


def _key(options: list[str]) -> str:
    """Names all that the machine code is made from."""
    parts = (_nvrtc.version(), *options, *sources().values())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _read(path: Path) -> bytes | None:
    """The machine code of a file, if it is whole: the driver believes whatever it is given."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    code = whole[: -hashlib.sha256().digest_size]
    return code if code and whole == code + hashlib.sha256(code).digest() else None
