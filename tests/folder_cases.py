"""Folders of Parquet files, sorted by series, and the command that forecasts them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from forecast_cases import frame, seasonal_series

EVERY = 5  # steps between two checkpoints
SOURCE = str(Path(__file__).parents[1] / "src")


def many_series(count: int = 24, length: int = 50) -> pd.DataFrame:
    """Monthly series of several lengths, in rising order of their ids."""
    names = {f"s{i:04}": seasonal_series(i, length + i % 5) for i in range(count)}
    return frame(names)


def write_folder(folder: Path, df: pd.DataFrame, files: int = 3, group: int = 200) -> Path:
    """The series, in so many files of row groups of so many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, ids in enumerate(np.array_split(df["unique_id"].unique(), files)):
        some = df[df["unique_id"].isin(ids)]
        some.to_parquet(folder / f"{i}.parquet", index=False, row_group_size=group)
    return folder


def written(folder: Path) -> pd.DataFrame:
    """All forecasts under a folder, in order."""
    parts = sorted(folder.glob("part-*.parquet"))
    found = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
    return found.sort_values(["unique_id", "ds"], ignore_index=True)


def command(
    *arguments,
    code: str = "",
    script: Path | None = None,
    processes: int = 1,
    variables: dict[str, str] | None = None,
) -> subprocess.Popen:
    """`python -m tidegate ...` or another program, once or as a team of torchrun."""
    path = os.pathsep.join([SOURCE, os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own, **(variables or {})}
    team = ["--standalone", f"--nproc-per-node={processes}", "--max-restarts=1"]
    torchrun = ["-m", "torch.distributed.run", *team] if processes > 1 else []
    program = ["-c", code] if code else [script] if script else ["-m", "tidegate"]
    return subprocess.Popen(
        [sys.executable, *torchrun, *program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
