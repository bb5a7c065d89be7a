"""The one training loop: AdamW, a schedule, validation, and checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ._checkpoint import load_checkpoint, save_checkpoint
from .errors import InputError


@dataclass(frozen=True)
class Settings:
    """How to train. Two runs with equal settings, model and data give equal weights.

    Args:
        steps: batches to learn from.
        learning_rate: the highest; the rate rises to it, then falls to zero along a cosine.
        warmup: share of the steps over which the rate rises.
        weight_decay: AdamW's decay, of matrices only.
        clip: largest norm of the gradient of all parameters together.
        validate_every: steps between two validations.
        patience: validations without a better one after which training stops; 0 never stops it.
        enough: a validation as low as this stops training too.
        checkpoint_every: steps between two checkpoints.
        seed: for whatever the model draws, such as dropout.
    """

    steps: int
    learning_rate: float = 3e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    validate_every: int = 50
    patience: int = 0
    enough: float = -math.inf
    checkpoint_every: int = 200
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        done, rise = (step + 1) / self.steps, self.warmup
        if done < rise:
            return self.learning_rate * done / rise
        fall = (done - rise) / (1 - rise) if rise < 1 else 1.0
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


# Losses that a file keeps at most, and steps that it is believed.
_KEPT, _MOST = 300, 10**7


def _short(value: float) -> float | None:
    """With five digits; None where it is no number, which JSON does not know."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _long(value: float | None) -> float:
    return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Progress:
    """Where training stands, as the progress callback is told after every step."""

    step: int
    steps: int
    loss: float
    validation: float | None
    rate: float
    seconds: float


@dataclass
class History:
    """What happened: the loss of every step, and (step, value) of every validation."""

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and value of the best validation, the first of equals."""
        finite = [entry for entry in self.validations if math.isfinite(entry[1])]
        return min(finite, key=lambda entry: entry[1], default=None)

    def facts(self) -> dict[str, Any]:
        """What a model's file keeps: of many losses the means of neighbours, and no time of day."""
        width = -(-len(self.losses) // _KEPT)
        blocks = [self.losses[i : i + width] for i in range(0, len(self.losses), width or 1)]
        return {
            "steps": len(self.losses),
            "losses": [_short(sum(block) / len(block)) for block in blocks],
            "validations": [[step, _short(value)] for step, value in self.validations],
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        """As a file kept it: each mean stands for as many steps as it was taken of.

        Raises:
            KeyError, TypeError, ValueError: these are no facts of a history.
        """
        steps, means = int(facts["steps"]), [_long(mean) for mean in facts["losses"]]
        width = -(-steps // _KEPT)
        if not 0 <= steps <= _MOST or len(means) != (-(-steps // width) if width else 0):
            raise ValueError(f"a history of {steps} steps with {len(means)} losses")
        losses = [mean for mean in means for _ in range(width)]
        return cls(losses[:steps], [(int(step), _long(v)) for step, v in facts["validations"]])

    def out_of_patience(self, settings: Settings) -> bool:
        """Whether the last `settings.patience` validations brought nothing better."""
        if not settings.patience or self.best is None:
            return False
        after = sum(step > self.best[0] for step, _ in self.validations)
        return after >= settings.patience


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    settings: Settings,
    *,
    validate: Callable[[], float] | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    data: str = "",
    writes: bool = True,
) -> History:
    """Train `model` in place; with `validate`, it ends with the weights that validated best.

    A checkpoint holds the weights, the optimiser, the random state and the number of the next
    batch. So that a resumed run goes on as an uninterrupted one would, a batch must follow from its
    number alone; what else passes from batch to batch (the state of truncated back-propagation)
    must be a buffer of the model.

    Args:
        model: its parameters that require a gradient are trained.
        loss: the loss of the batch with this number, counted from 0.
        settings: how long, how fast.
        validate: a number that is to become small; called without gradients and in `eval` mode.
        progress: called after every step.
        checkpoint: where to keep the state of training; replaced as a whole, never half-written.
        resume: go on from `checkpoint` if that file is there.
        data: anything that tells these data from others, so that a checkpoint of others is refused.
        writes: whether this process keeps the checkpoint; of several that train together, one does.

    Raises:
        FloatingPointError: the loss is no longer finite.
        InputError: the checkpoint is damaged, or of a run with other settings, data or model.

    Example:
        >>> line = nn.Linear(1, 1)
        >>> x = torch.linspace(-1, 1, 32)[:, None]
        >>> history = train(line, lambda k: (line(x) - 2 * x).square().mean(), Settings(steps=300))
        >>> history.losses[-1] < history.losses[0]
        True
    """
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices):
        torch.manual_seed(settings.seed)
        path = None if checkpoint is None else Path(checkpoint)
        run = _Run(model, settings, path if writes else None, data)
        if resume and path is not None and path.exists():
            run.load(path)
        return run.to_the_end(loss, validate, progress)


class _Run:
    """A training run in progress: all that a checkpoint must hold."""

    def __init__(self, model: nn.Module, settings: Settings, checkpoint: Path | None, data: str):
        self.model = model
        self.settings = settings
        self.checkpoint = checkpoint
        self.identity = {"settings": asdict(settings), "data": data}
        self.optimizer = _optimizer(model, settings)
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.begun = time.perf_counter()

    def to_the_end(
        self,
        loss: Callable[[int], Tensor],
        validate: Callable[[], float] | None,
        progress: Callable[[Progress], None] | None,
    ) -> History:
        history, settings = self.history, self.settings
        while len(history.losses) < settings.steps and not history.stopped:
            self.step(loss)
            done = len(history.losses)
            last = done == settings.steps
            if validate is not None and (last or done % settings.validate_every == 0):
                self.validate(validate)
            history.seconds = time.perf_counter() - self.begun
            if last or history.stopped or done % settings.checkpoint_every == 0:
                self.save()
            if progress is not None:
                progress(self.progress())
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        return history

    def step(self, loss: Callable[[int], Tensor]) -> None:
        number = len(self.history.losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(number)
        self.model.train()
        self.optimizer.zero_grad()
        value = loss(number)
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        size = value.item()
        if not math.isfinite(size):
            raise FloatingPointError(
                f"the loss became {size} at step {number + 1}: lower learning_rate, now "
                f"{self.settings.learning_rate:g}"
            )
        self.optimizer.step()
        self.history.losses.append(size)

    @torch.no_grad()
    def validate(self, validate: Callable[[], float]) -> None:
        self.model.eval()
        value = float(validate())
        best = self.history.best
        if math.isfinite(value) and (best is None or value < best[1]):
            self.best = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        self.history.validations.append((len(self.history.losses), value))
        enough = value <= self.settings.enough
        self.history.stopped = enough or self.history.out_of_patience(self.settings)

    def progress(self) -> Progress:
        history = self.history
        return Progress(
            step=len(history.losses),
            steps=self.settings.steps,
            loss=history.losses[-1],
            validation=history.validations[-1][1] if history.validations else None,
            rate=self.settings.rate(len(history.losses) - 1),
            seconds=history.seconds,
        )

    def save(self) -> None:
        if self.checkpoint is None:
            return
        facts = self.identity | {"history": asdict(self.history)}
        save_checkpoint(self.checkpoint, self.model, self.optimizer, self.best, facts)

    def load(self, path: Path) -> None:
        facts, self.best = load_checkpoint(path, self.model, self.optimizer, self.identity)
        history = facts["history"]
        history["validations"] = [(step, value) for step, value in history["validations"]]
        self.history = History(**history)
        self.begun = time.perf_counter() - self.history.seconds


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("the model has no parameter to train")
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)
