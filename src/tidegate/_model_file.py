"""One file for every kind of model: named arrays in safetensors, and JSON for all else.

The file's metadata say `format` ("tidegate.model/1"), `kind` ("stack", "forecaster", …), `model`
(facts as JSON) and, where matrices are stored narrower than they are used, `narrow`: the name of
each and how. Nothing in a file is executed, and no more memory is taken than twice its size.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ._files import replacing
from ._tensors import save_tensors
from .errors import InputError

FORMAT = "tidegate.model/1"
STORAGES = ("bfloat16", "int8")
# Facts are names, sizes and perhaps a vocabulary; a header longer than this is no model's.
_LONGEST_HEADER = 2**24
_SCALE = ".scale"  # of an int8 matrix, one number a row


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    Attributes:
        kind: what sort of model it is.
        tensors: its arrays; those that are stored narrow are float32 again.
        facts: all else.
        narrow: how the arrays that are stored narrow are stored, "bfloat16" or "int8".
    """

    kind: str
    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]
    narrow: dict[str, str] = field(default_factory=dict)

    def narrow_as(self, storage: str | None) -> dict[str, str]:
        """How to store its matrices: all as `storage`, or none narrow."""
        return narrow_as(self.tensors, storage)


def write_model(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
    *,
    narrow: Mapping[str, str] | None = None,
) -> None:
    """Write a model file; whoever reads `path` meanwhile sees the old file or the new one.

    Args:
        path: where to write it.
        kind: what sort of model it is.
        tensors: its arrays.
        facts: all else, as JSON can hold it, or scalars of NumPy.
        narrow: matrices of float32 to store as "bfloat16" or "int8", by name.

    Raises:
        InputError: the file cannot be written, or a matrix cannot be stored narrow.
    """
    narrow = dict(narrow or {})
    metadata = {"format": FORMAT, "kind": kind, "model": json.dumps(dict(facts), default=_plain)}
    if narrow:
        metadata["narrow"] = json.dumps(narrow, sort_keys=True)
    stored: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        stored |= _store(name, tensor, narrow.get(name))
    with replacing(Path(path)) as file:
        save_tensors(stored, file, metadata)


def _plain(value: Any) -> Any:
    """A scalar of NumPy, as searches over ranges of NumPy give them, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a model's file cannot hold {value!r}")


def read_model(path: str | os.PathLike[str], kind: str | None = None) -> ModelFile:
    """Read what `write_model` wrote.

    Args:
        path: the file.
        kind: refuse any other.

    Raises:
        InputError: the file is not there, damaged, no model, or a model of another kind.
    """
    metadata, data = _read(Path(path), kind or "model")
    if kind is not None and metadata.get("kind") != kind:
        found = words_of_kind(metadata.get("kind", "model"))
        raise InputError(f"{path} is not {words_of_kind(kind)} but {found}")
    try:
        tensors = safetensors.numpy.load(data)
        facts, narrow = json.loads(metadata["model"]), json.loads(metadata.get("narrow", "{}"))
        for name, storage in narrow.items():
            tensors[name] = _widen(tensors, name, storage)
        if not isinstance(facts, dict):
            raise TypeError("its facts are not a JSON object")
        return ModelFile(metadata["kind"], tensors, facts, narrow)
    except Exception as error:  # whatever a stranger's bytes make the reader say
        raise InputError(f"{path} cannot be read as a model: {_said(error)}") from None


def narrow_as(tensors: Mapping[str, np.ndarray], storage: str | None) -> dict[str, str]:
    """The matrices of float32 among some arrays, each with how it is to be stored.

    Raises:
        InputError: there are none.
    """
    if storage is None:
        return {}
    names = [name for name, t in tensors.items() if t.dtype == np.float32 and t.ndim == 2]
    if not names:
        raise InputError(f"the model has no matrices of float32 that could be stored as {storage}")
    return dict.fromkeys(names, storage)


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of the nearest bfloat16 numbers, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    nearest = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, nearest).astype(np.uint16)


def to_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row in 255 steps of its own largest number; and the size of a step, a row each."""
    largest = np.abs(array).max(1, initial=0).astype(np.float32)
    steps = np.float32(127) / np.where(largest > 0, largest, np.float32(127))
    return np.rint(array * steps[:, None]).astype(np.int8), largest / np.float32(127)


def _store(name: str, tensor: np.ndarray, storage: str | None) -> dict[str, np.ndarray]:
    """The arrays that stand for one in the file."""
    if storage is None:
        return {name: tensor}
    if storage not in STORAGES:
        raise ValueError(f"storage must be 'bfloat16' or 'int8', not {storage!r}")
    if tensor.dtype != np.float32 or tensor.ndim != 2:
        raise InputError(
            f"{name} must be a matrix of float32 to be stored as {storage}, not {tensor.dtype} "
            f"of shape {tensor.shape}"
        )
    if not np.isfinite(tensor).all():
        raise InputError(f"{name} has numbers that are not finite: it cannot be stored narrow")
    if storage == "bfloat16":
        return {name: to_bfloat16(tensor)}
    steps, scale = to_int8(tensor)
    return {name: steps, name + _SCALE: scale}


def _widen(tensors: dict[str, np.ndarray], name: str, storage: str) -> np.ndarray:
    """One array as float32 again."""
    stored = tensors[name]
    if storage == "bfloat16" and stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if storage == "int8" and stored.dtype == np.int8:
        scale = tensors.pop(name + _SCALE)
        if stored.ndim == 2 and scale.dtype == np.float32 and scale.shape == (len(stored),):
            return stored * scale[:, None]
    raise TypeError(f"{name} is not stored as {storage}")


def _read(path: Path, expected: str) -> tuple[dict[str, str], bytes]:
    """The metadata and all bytes of a model file; of any other file, no more than its header."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file that holds {words_of_kind(expected)}")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            _check_length(path, length, size)
            metadata = _metadata(path, file.read(length))
            found = metadata.get("format", "a safetensors file without a format")
            if found != FORMAT:
                raise InputError(f"{path} is not {words_of_kind(expected)} ({FORMAT}) but {found}")
            file.seek(0)
            return metadata, file.read(size)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read: {_said(error)}") from None


def _check_length(path: Path, length: int, size: int) -> None:
    """Hold the length of the header against the file, before it is read."""
    if not 0 < length <= size - 8:
        raise InputError(
            f"{path} cannot be read as a model: it has {size:,} bytes, and does not begin with a "
            "header that fits into them"
        )
    if length > _LONGEST_HEADER:
        raise InputError(
            f"{path} cannot be read as a model: its header has {length:,} bytes, and that of a "
            f"model has at most {_LONGEST_HEADER:,}"
        )


def _metadata(path: Path, header: bytes) -> dict[str, str]:
    try:
        metadata = json.loads(header).get("__metadata__", {})
        return {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, RecursionError, AttributeError):
        raise InputError(f"{path} cannot be read as a model: its header is not JSON") from None


def words_of_kind(kind: str) -> str:
    """What a sentence calls a model of this kind: "a stack", "a language model"."""
    words = "language model" if kind == "language" else kind
    return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}"


def _said(error: BaseException) -> str:
    """What an error says, and never nothing."""
    return str(error) or type(error).__name__
