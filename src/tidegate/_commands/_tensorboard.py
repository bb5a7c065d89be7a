"""Losses of a training for TensorBoard, beside the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..train import Progress

Told = Callable[[int, "Progress"], None]


@contextmanager
def logged(folder: Path | None, progress: Told) -> Iterator[Told]:
    """Tell `progress`, and write loss, validation and rate of each network into `folder`.

    Raises:
        ModuleNotFoundError: there is a folder, and tensorboard is not installed.
    """
    if folder is None:
        yield progress
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:

        def tell(number: int, now: Progress) -> None:
            progress(number, now)
            name = f"network {number}"
            writer.add_scalar(f"{name}/loss", now.loss, now.step)
            writer.add_scalar(f"{name}/rate", now.rate, now.step)
            if now.validation is not None:
                writer.add_scalar(f"{name}/validation", now.validation, now.step)

        yield tell
