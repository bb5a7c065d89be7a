"""Training by Ray Train and forecasting by Ray Data, on one machine or on a cluster (needs Ray).

Every worker runs the code that one process runs: in training as one of a team that torch connects,
in forecasting on parts of its own. A worker that is lost is replaced or done without: training goes
on from its last checkpoint, and a part that was not finished is begun again.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .._files import require_writable
from ..errors import InputError
from ._folder_out import Job, Scored
from ._ray_lots import lots_of_dataset

if TYPE_CHECKING:
    import numpy as np

    from ..train import Progress
    from ._forecaster import GRUForecaster
    from ._lots import Lots

    _Model = TypeVar("_Model", bound=GRUForecaster)
    Told = Callable[[int, Progress], None]

# So many workers may be lost in one training.
_LOSSES = 10
# Seconds between two words of how far the training is.
_PAUSE = 0.25


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """With a Ray cluster at hand; one that was connected before is left as it is.

    Args:
        address: of the cluster; when not given, that of this machine, or a new one on it.

    Raises:
        InputError: there is no such cluster.
    """
    if ray.is_initialized():
        yield
        return
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray cannot be reached at {address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def fit(
    model: _Model,
    source: str | os.PathLike[str] | ray.data.Dataset,
    *,
    workers: int | None = None,
    gpus: bool = False,
    progress: Told | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    skip: bool = False,
) -> _Model:
    """Learn as `GRUForecaster.fit` does, on the workers of a Ray cluster.

    Each worker reads its share of the sample. How many there are does not change the model, but for
    rounding; so it goes on with fewer where a machine is lost.

    Args:
        model: a forecaster; it becomes the fitted one.
        source: a folder of Parquet files or its address, which all machines must see; or a dataset,
            its rows in any order.
        workers: at most so many; one on each machine, or on each GPU, when not given.
        gpus: learn on GPUs, which exchange gradients by NCCL, and not on processors.
        progress: called now and then, with what `GRUForecaster.fit` tells.
        checkpoint: where to keep the state of the fit, on a file system that all machines see. On
            several machines, a worker that is lost costs the whole training without it.
        resume: go on from `checkpoint` where it is there.
        skip: leave out series that cannot be used, instead of stopping.

    Raises:
        InputError: the data cannot be used, or are too short.
        ValueError: an argument is out of range.

    Example:
        model = fit(GRUForecaster(horizon=12), "s3://bucket/sales/")
        GRUForecaster(horizon=12).fit(ray.data.read_parquet("s3://bucket/sales/"))
    """
    model._check_arguments()
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if isinstance(source, ray.data.Dataset):
        lots: str | Lots = lots_of_dataset(source, model._columns(), model.seed)
    else:
        lots = _for_all(source)
    with _kept(checkpoint, resume) as kept, _telling(progress) as tell:
        found = _train(
            {"model": model, "lots": lots, "kept": kept, "skip": skip, "tell": tell}, workers, gpus
        )
    if isinstance(found, Exception):
        raise found
    vars(model).update(vars(found))
    return model


def _train(task: _Task, workers: int | None, gpus: bool) -> GRUForecaster | Exception:
    """What the first of the workers found; where one is lost, those that are left begin again."""
    # Here alone: who forecasts needs no torch.
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    lost = 0
    while True:
        scaling = ScalingConfig(**_scale(workers, gpus))
        with _notes_of_ray(task["kept"]) as notes:
            trainer = TorchTrainer(
                _learn,
                train_loop_config={"task": task},
                scaling_config=scaling,
                run_config=RunConfig(
                    storage_path=notes, failure_config=FailureConfig(controller_failure_limit=0)
                ),
            )
            try:
                return trainer.fit().return_value
            except TrainingFailedError:
                lost += 1
                if lost > _LOSSES:
                    raise


def forecast(
    model: str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    skip: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Scored:
    """Forecast all series of a folder with a saved model, on the processors of a Ray cluster.

    Writes `out/part-*.parquet`, each whole or not at all, and a manifest that says when all are
    there. The workers need no torch.

    Args:
        model: a file that `GRUForecaster.save` wrote.
        source: a folder of Parquet files, sorted by series, or its address.
        out: a folder that all machines see.
        resume: go on with forecasts that are there.
        skip: leave out series that cannot be used, instead of stopping.
        progress: called after each part with the rows of the source that it had.

    Raises:
        InputError: the model, the data or the folder cannot be used.
    """
    job = Job.of(model, source, out, skip=skip)
    run_parts(job, job.begin(resume), progress)
    return job.finish()


def run_parts(
    job: Job, numbers: Sequence[int], progress: Callable[[int], None] | None = None
) -> None:
    """Do some parts, each in some process of the cluster.

    Args:
        job: the job, its files on a file system that all machines see.
        numbers: of the parts.
        progress: called after each part with the rows of the source that it had.

    Raises:
        InputError: a series cannot be used, or a file cannot be written.
    """
    if not numbers:
        return
    processors = sum(_each_machine_has("CPU"))
    for_all = replace(
        job,
        model=_for_all(job.model),
        parts=replace(job.parts, source=_for_all(job.parts.source)),
        out=_for_all(job.out),
    )
    parts = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=len(numbers))
    done = parts.map_batches(
        _Part,
        fn_constructor_args=(for_all,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=processors),
        num_cpus=1,
    )
    done.context.enable_progress_bars = False
    for row in done.iter_rows():
        if row["sentence"]:
            raise InputError(row["sentence"])
        if progress is not None:
            progress(job.parts.parts[row["number"]].rows)


class _Part:
    """Forecasts one part after the other. What the data are to blame for is not tried again."""

    def __init__(self, job: Job):
        self.job = job

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        sentence = ""
        for number in batch["number"].tolist():
            try:
                self.job.run(number)
            except InputError as error:
                sentence = str(error)
        return {"number": batch["number"].tolist(), "sentence": [sentence]}


class _Task(TypedDict):
    """What each worker is to learn."""

    model: GRUForecaster
    lots: str | Lots
    kept: Path | None
    skip: bool
    tell: Told | None


def _learn(config: dict[str, _Task]) -> GRUForecaster | Exception:
    """Learn as one of the team. What the data are to blame for is not tried again."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from ._fit import Watch

    if get_device().type == "cuda":
        torch.cuda.set_device(get_device())
    task, first = config["task"], not get_context().get_world_rank()
    model, lots = task["model"], task["lots"]
    watch = Watch(task["tell"] if first else None, task["kept"], resume=True)
    opened = model._lots_of(lots) if isinstance(lots, str) else lambda reading: lots
    try:
        return model._fit_lots(opened, watch, task["skip"])
    except (InputError, FloatingPointError) as error:
        return error


def _scale(workers: int | None, gpus: bool) -> dict[str, Any]:
    """How many workers, at most so many, and what each has, as Ray Train takes it."""
    if gpus:
        count = sum(_each_machine_has("GPU"))
        return {"num_workers": min(workers or count, count), "use_gpu": True}
    machines = _each_machine_has("CPU")
    count = min(workers or len(machines), sum(machines))
    return {
        "num_workers": count,
        "resources_per_worker": {"CPU": _most_each(machines, count)},
    }


def _each_machine_has(what: Literal["CPU", "GPU"]) -> list[int]:
    """How many processors or GPUs each machine has that has any."""
    machines = [node["Resources"].get(what, 0) for node in ray.nodes() if node["Alive"]]
    if not any(count >= 1 for count in machines):
        raise InputError(f"the Ray cluster has no {what}")
    return [int(count) for count in machines if count >= 1]


def _most_each(machines: list[int], workers: int) -> int:
    """How many processors so many workers can have each.

    Example:
        >>> _most_each([5, 1], 2), _most_each([8, 8], 2), _most_each([8], 3)
        (2, 8, 2)
    """
    fitting = (n for n in range(1, max(machines) + 1) if sum(m // n for m in machines) >= workers)
    return max(fitting)


def _for_all(place: str | os.PathLike[str]) -> str:
    """A file, a folder or an address, as all processes of this machine call it."""
    return os.fspath(place) if "://" in os.fspath(place) else os.path.abspath(place)


@contextmanager
def _kept(checkpoint: str | os.PathLike[str] | None, resume: bool) -> Iterator[Path | None]:
    """Where the state of a fit is kept: on a single machine always."""
    if checkpoint is not None:
        require_writable(Path(checkpoint).parent)
        path = Path(checkpoint).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{path.name}.*") if not resume else ():
            old.unlink()
        yield path
    elif len(_each_machine_has("CPU")) == 1:
        with TemporaryDirectory() as folder:
            yield Path(folder, "training")
    else:
        yield None


@contextmanager
def _notes_of_ray(kept: Path | None) -> Iterator[str | None]:
    """Where Ray Train keeps what it writes of a run; nobody reads it afterwards."""
    if kept is None:
        yield None
        return
    notes = kept.with_name(f".ray-{kept.name}")
    shutil.rmtree(notes, ignore_errors=True)  # of a run that was killed
    notes.mkdir(exist_ok=True)
    try:
        yield os.fspath(notes)
    finally:
        shutil.rmtree(notes, ignore_errors=True)


class _Board:
    """The latest word of how far the training is."""

    said: tuple[int, Progress] | None = None

    def write(self, number: int, progress: Progress) -> None:
        self.said = number, progress

    def read(self) -> tuple[int, Progress] | None:
        return self.said


class _Writer:
    """Writes to the board, now and then."""

    def __init__(self, board: Any):
        self.board = board
        self.next = 0.0

    def __call__(self, number: int, progress: Progress) -> None:
        if time.monotonic() > self.next or progress.step == progress.steps:
            self.board.write.remote(number, progress)
            self.next = time.monotonic() + _PAUSE


@contextmanager
def _telling(progress: Told | None) -> Iterator[Told | None]:
    """What a worker calls for `progress` to be called here, in a thread of its own."""
    if progress is None:
        yield None
        return
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()
    over = threading.Event()

    def read() -> None:
        before, last = None, False
        while not last:
            last = over.wait(_PAUSE)
            said = ray.get(board.read.remote())
            if said is not None and said != before:
                progress(*said)
            before = said

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield _Writer(board)
    finally:
        over.set()
        reader.join()
        ray.kill(board)
