"""A forecaster in one safetensors file: the tensors of its networks, and JSON for all else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .._files import replacing
from ..errors import InputError

FORMAT = "tidegate.forecast/1"


def write_model(
    path: str | os.PathLike[str], tensors: dict[str, np.ndarray], facts: dict[str, Any]
) -> None:
    """Write a model file; whoever reads `path` meanwhile sees the old file or the new one."""
    with replacing(Path(path)) as file:
        save_file(tensors, file, {"format": FORMAT, "model": json.dumps(facts)})


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_model` wrote.

    Raises:
        InputError: the file is not there, damaged, or no forecaster.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format", "a safetensors file without a format")
                raise InputError(f"{path} is not a forecaster ({FORMAT}) but {found}")
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(metadata["model"])
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as a model: {error}") from None
