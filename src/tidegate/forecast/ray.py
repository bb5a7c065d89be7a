"""Training by Ray Train and forecasting by Ray Data, on one machine or on a cluster (needs Ray).

Every worker runs the code that one process runs: in training as a team that torch connects, in
forecasting on parts of its own. A worker that is lost is replaced, or done without: training goes
on from its last checkpoint, and a part that was not finished is done again.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import ray
import ray.data
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import InputError
from ._folder_out import Job, Scored
from ._lots import LOTS, SAMPLE

if TYPE_CHECKING:
    import pyarrow as pa

    from ..train import Progress
    from ._forecaster import GRUForecaster

    _Model = TypeVar("_Model", bound=GRUForecaster)

# So many workers may be lost in one training.
_LOSSES = 100
# Seconds between two looks at how far the training is.
_LOOK = 0.5


def fit(
    model: _Model,
    source: str | os.PathLike[str] | ray.data.Dataset,
    *,
    workers: int | None = None,
    progress: Callable[[int, Progress], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    skip: bool = False,
) -> _Model:
    """Learn as `GRUForecaster.fit` does, on the workers of a Ray cluster.

    The model does not depend on how many there are, but for rounding. Each reads its own share of
    the sample.

    Args:
        model: a forecaster; it becomes the fitted one.
        source: a folder of Parquet files or its address, which all machines must see; or a dataset,
            whose rows may stand in any order.
        workers: at most so many; one on each machine when not given.
        progress: called now and then, as of `fit`.
        checkpoint: where to keep the state of the fit, in a folder that all machines see. Without
            it, a worker that is lost costs the whole training.
        resume: go on from `checkpoint` where it is there.
        skip: leave out series that cannot be used, instead of stopping.

    Raises:
        InputError: the data cannot be used, or are too short.
    """
    model._check_arguments()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(have["CPU"]) for have in machines if have.get("CPU", 0) >= 1]
    if not processors:
        raise InputError("the Ray cluster has no processor to train on")
    if workers is None:
        workers, each = len(processors), min(processors)
    else:
        each = max(sum(processors) // workers, 1)
    if isinstance(source, ray.data.Dataset):
        lots: Any = _lots_of(source, model)
    else:
        lots = _seen_by_all(source)
    with _told(progress) as telling:
        trainer = TorchTrainer(
            _learn,
            train_loop_config={
                "model": model,
                "lots": lots,
                "checkpoint": None if checkpoint is None else os.path.abspath(checkpoint),
                "resume": resume,
                "skip": skip,
                "telling": telling,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=(1, workers), resources_per_worker={"CPU": each}
            ),
            run_config=ray.train.RunConfig(
                failure_config=ray.train.FailureConfig(max_failures=_LOSSES)
            ),
        )
        found = trainer.fit().return_value
    if isinstance(found, Exception):
        raise found
    vars(model).update(vars(found))
    return model


def _learn(config: dict[str, Any]) -> GRUForecaster | Exception:
    """What each worker does; what the data are to blame for is not tried again."""
    from ._fit import Watch

    first = not ray.train.get_context().get_world_rank()
    telling = config["telling"] if first else None
    checkpoint = config["checkpoint"]
    again = config["resume"] or _lost_before()
