"""Files from strangers: read whole, and never into more memory than their size allows."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

# Weights hardly compress, and text by less than this; a bomb does by a thousand.
_RATIO, _SLACK = 20, 2**20
_MOST_FILES = 10_000


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A whole file.

    Raises:
        InputError: it is not there, no file, or cannot be read.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def read_zip(data: bytes, name: object, wanted: Collection[str] | None = None) -> dict[str, bytes]:
    """Files in an archive, by name; all, or those of `wanted` that it has.

    Raises:
        InputError: it is damaged, encrypted, or would unpack to far more than its size.
    """
    allowed = _RATIO * len(data) + _SLACK
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = archive.infolist()
            if len(files) > _MOST_FILES:
                raise InputError(f"{name} is an archive of {len(files)} files, which no model is")
            chosen = [file for file in files if wanted is None or file.filename in wanted]
            if sum(file.file_size for file in chosen) > allowed:
                raise InputError(f"{name} would unpack to more than {_RATIO} times its size")
            return {file.filename: _unpacked(archive, file, name) for file in chosen}
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's bytes make zipfile say
        raise InputError(f"{name} cannot be read as an archive: {error}") from None


def _unpacked(archive: zipfile.ZipFile, file: zipfile.ZipInfo, name: object) -> bytes:
    if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{name}: {file.filename} is compressed in a way that models are not")
    with archive.open(file) as opened:
        # What the directory says of the size may be a lie: one byte more would show it.
        data = opened.read(file.file_size + 1)
    if len(data) != file.file_size:
        raise InputError(f"{name}: {file.filename} has another size than the archive says")
    return data


def parse_json(data: bytes | str, name: object) -> Any:
    """What JSON says.

    Raises:
        InputError: it is no JSON, or nested without end.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}") from None


def as_real(array: np.ndarray) -> np.ndarray:
    """Weights in float32 or float64, as the layers take them."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def read_npy(data: io.BytesIO, name: object) -> np.ndarray:
    """The next array of a stream of NumPy's; never a pickle.

    Raises:
        InputError: it is damaged, holds no numbers, or fewer bytes than it says.
    """
    try:
        version = np.lib.format.read_magic(data)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(data, max_header_size=10_000)
        if dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise InputError(f"{name} holds {dtype}, not numbers")
        count = int(np.prod(shape, dtype=object))
        raw = data.read(max(count, 0) * dtype.itemsize)
        if count < 0 or len(raw) != count * dtype.itemsize:
            raise InputError(f"{name} is cut off: shape {shape} of {dtype} needs more bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_columns else "C")
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's bytes make NumPy say
        raise InputError(f"{name} cannot be read as NumPy's array: {error}") from None
