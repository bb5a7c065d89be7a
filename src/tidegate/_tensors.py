"""safetensors files of which equal content has equal bytes.

The library that writes them draws the order of metadata at random; here it is that of the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.numpy

_T = TypeVar("_T")
_LENGTH = 8  # bytes that say how long the header is


def under(prefix: str, tensors: Mapping[str, _T]) -> dict[str, _T]:
    """Those whose names begin so, by the rest of their names.

    Example:
        >>> under("0.", {"0.weight": 1, "1.weight": 2})
        {'weight': 1}
    """
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def save_tensors(
    tensors: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file."""
    safetensors.numpy.save_file(_laid_out(tensors), path, dict(metadata))
    order_metadata(path)


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """What `save_tensors` writes."""
    data = safetensors.numpy.save(_laid_out(tensors), dict(metadata))
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    return data[:_LENGTH] + _in_order(data[_LENGTH:end]) + data[end:]


def order_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into the order of their names, in place."""
    with path.open("r+b") as file:
        header = file.read(int.from_bytes(file.read(_LENGTH), "little"))
        file.seek(_LENGTH)
        file.write(_in_order(header))


def _in_order(header: bytes) -> bytes:
    content = json.loads(header)
    metadata = content.pop("__metadata__", {})
    content = {"__metadata__": dict(sorted(metadata.items())), **content}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    return text.ljust(len(header))


def _laid_out(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
