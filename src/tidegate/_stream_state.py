"""The state of a stream as bytes: its arrays, and of which model they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from ._tensors import tensor_bytes
from .errors import InputError

_FORMAT = "tidegate.stream/1"


class State(NamedTuple):
    """What `pack_state` was given."""

    arrays: dict[str, np.ndarray]
    steps: int
    notes: dict[str, str]


def pack_state(
    model: str, arrays: Mapping[str, np.ndarray], steps: int, notes: Mapping[str, str] | None
) -> bytes:
    """The state of a stream, to go on from on any machine.

    Args:
        model: the `fingerprint` of what it is the state of.
        arrays: the state.
        steps: how many were taken.
        notes: words of one's own to keep beside them.
    """
    facts = {
        "format": _FORMAT,
        "model": model,
        "steps": str(steps),
        "digest": _digest(arrays),
        "notes": json.dumps(dict(notes or {})),
    }
    return tensor_bytes(arrays, facts)


def unpack_state(data: bytes, model: str) -> State:
    """What `pack_state` was given.

    Raises:
        InputError: the bytes are damaged, or of another model.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(data[8 : 8 + length])["__metadata__"]
        arrays = safetensors.numpy.load(data)
        found, whose = facts["format"], facts["model"]
        steps, whole = int(facts["steps"]), facts["digest"] == _digest(arrays)
        notes = {str(key): str(note) for key, note in json.loads(facts["notes"]).items()}
    except Exception:  # whatever a stranger's bytes make the reader say
        raise InputError("the state of a stream cannot be read: it is damaged") from None
    if found != _FORMAT:
        raise InputError(f"the state of a stream must be {_FORMAT}, not {found}")
    if not whole:
        raise InputError("the state of a stream cannot be read: it is damaged")
    if whose != model:
        raise InputError("the state is of a stream of another model")
    return State(arrays, steps, notes)


def fingerprint(facts: Any, arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """A digest of all that a model is."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for name, array in arrays:
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return fingerprint(None, sorted(arrays.items()))
