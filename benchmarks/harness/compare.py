"""Nothing is timed that does not compute the same as the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from harness.cases import Case
from harness.peers._modules import runner
from harness.worker import Worker

EPS = float(np.finfo(np.float32).eps)
ALLOWED = 64  # eps of float32: the RMS error above which nothing is timed


class DisagreementError(Exception):
    """A peer does not compute what the others do."""


def errors(case: Case, entries: dict[str, Worker]) -> dict[str, float]:
    """RMS errors of all peers against torch in float64, in eps of float32."""
    reference = runner(torch.nn.GRU, case, torch.float64).results()
    found: dict[str, float] = {}
    for name, worker in entries.items():
        results = worker.ask("results", name)
        found[name] = error(results, reference) if results else 0.0
        if not found[name] <= ALLOWED:
            text = f"{case.label}: {name} is {found[name]:.3g} eps from float64"
            raise DisagreementError(f"{text}, and {ALLOWED} are allowed")
    return found


def error(results: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """The largest RMS error, relative where the reference is above one, in eps of float32."""
    if len(results) != len(reference):
        raise DisagreementError(f"{len(results)} results where {len(reference)} are expected")
    pairs = zip(results, reference, strict=True)
    errors = [_rms(a.reshape(truth.shape) - truth) / max(1.0, _rms(truth)) for a, truth in pairs]
    return float(np.max(errors)) / EPS  # unlike Python's, this maximum is NaN where one error is


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
