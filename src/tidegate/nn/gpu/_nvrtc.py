"""CUDA C++ to machine code by NVRTC, the compiler that torch brings: no nvcc is needed."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch


class Unusable(Exception):
    """This machine cannot run the kernels; the reason is a clause for a warning."""


def compile_source(sources: dict[str, str], options: Sequence[str]) -> bytes:
    """The machine code (a cubin) of the first of the sources; the rest are what it includes.

    Raises:
        Unusable: there is no NVRTC, or it refuses the source.
    """
    nvrtc = library()
    (name, text), *headers = sources.items()
    program = ctypes.c_void_p()
    _check(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program),
            text.encode(),
            name.encode(),
            len(headers),
            _strings([header for _, header in headers]),
            _strings([header for header, _ in headers]),
        ),
        "nvrtcCreateProgram",
    )
    try:
        if nvrtc.nvrtcCompileProgram(program, len(options), _strings(options)):
            log = _result(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            first = next((line for line in log.decode().splitlines() if "error" in line), "")
            raise Unusable(f"NVRTC does not compile them ({first.strip() or 'no reason given'})")
        return _result(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def version() -> str:
    """Of the compiler, as "13.0"."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    return f"{major.value}.{minor.value}"


def architecture(capability: tuple[int, int]) -> str:
    """What to compile for, such as "sm_90": the newest that a device of `capability` runs.

    Raises:
        Unusable: the compiler is older or newer than the device.
    """
    nvrtc, count = library(), ctypes.c_int()
    _check(nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
    known = (ctypes.c_int * count.value)()
    _check(nvrtc.nvrtcGetSupportedArchs(known), "nvrtcGetSupportedArchs")
    major, minor = capability
    fitting = [number for number in known if number // 10 == major and number % 10 <= minor]
    if not fitting:
        raise Unusable(f"NVRTC {version()} does not know compute capability {major}.{minor}")
    return f"sm_{max(fitting)}"


@functools.cache
def library() -> ctypes.CDLL:
    """NVRTC as torch finds it, or as PyPI lays it out.

    Raises:
        Unusable: there is none.
    """
    for candidate in _candidates():
        try:
            _load_builtins(candidate)
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    raise Unusable("no NVRTC was found, though torch's CUDA builds bring it")


def _candidates() -> Iterator[str]:
    wanted = torch.version.cuda.split(".")[0] if torch.version.cuda else None
    if wanted:
        yield f"libnvrtc.so.{wanted}"
        yield f"nvrtc64_{wanted}0_0.dll"
    found = sorted(
        (path for folder in _folders() for path in folder.glob("libnvrtc.so.*")),
        key=lambda path: [*map(int, re.findall(r"\d+", path.suffix))],
        reverse=True,
    )
    yield from (str(path) for path in found if wanted in (None, path.suffix[1:]))


def _folders() -> Iterator[Path]:
    nvidia = importlib.util.find_spec("nvidia")
    for place in (nvidia.submodule_search_locations or ()) if nvidia else ():
        yield from Path(place).glob("*/lib")
    yield Path(torch.__file__).parent / "lib"


def _load_builtins(path: str) -> None:
    """NVRTC looks for its other half by name alone; once loaded, it is found."""
    for other in Path(path).parent.glob("libnvrtc-builtins.so.*") if "/" in path else ():
        ctypes.CDLL(str(other))


def _strings(texts: Sequence[str]):
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))


def _result(size_of, fill, program) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)), "a size from NVRTC")
    buffer = ctypes.create_string_buffer(size.value)
    _check(fill(program, buffer), "a result from NVRTC")
    return buffer.raw


def _check(code: int, what: str) -> None:
    if code:
        raise Unusable(f"{what} failed with code {code}")
