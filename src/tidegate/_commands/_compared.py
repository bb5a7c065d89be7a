"""What a conversion changed: a model and what was made of it, run over the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .._text import Reader
from ..data import Panel, SequenceFrame, read_table
from ..data.covariates import ROLES
from ..errors import InputError
from ..runtime import Model
from ..runtime._classifier import Classifier, Regressor
from ..runtime._forecaster import Forecaster
from ..runtime._lines import read_numbers
from ._series_file import read_series

Array = np.ndarray


def compared(model: Any, other: Any, path: Path) -> str:
    """How far a model is from the one before it, and how right both are, in a sentence.

    Args:
        model: the model before.
        other: of the same kind.
        path: what to run them over: series for a forecaster, sequences for a classifier, a text
            for a language model, lines of numbers for a stack.

    Raises:
        InputError: the file cannot be read, or is not for such a model.
    """
    match model:
        case Model():
            said = _stacks(model, other, path)
        case Forecaster():
            said = _forecasters(model, other, path)
        case Reader():
            said = _readers(model, other, path)
        case _:
            said = _labellers(model, other, path)
    return f"{path}: {said}"


def _stacks(model: Model, other: Model, path: Path) -> str:
    x = read_numbers(path, model.stack.input_size)[:, None]
    y, z = (m.stack(x).astype(np.float64) for m in (model, other))
    apart = np.abs(z - y)
    size = max(float(np.sqrt(np.mean(y**2))), np.finfo(np.float64).tiny)
    rms = float(np.sqrt(np.mean(apart**2)))
    return (
        f"over {len(x):,} steps the outputs are {rms:.3g} apart (root mean square), "
        f"{100 * rms / size:.3g}% of their size, and {apart.max():.3g} at most"
    )


def _forecasters(model: Forecaster, other: Forecaster, path: Path) -> str:
    learnt = model.facts["arguments"]
    table = read_series(path, learnt["id_col"])
    roles = [[name for name, role in model.reads.items() if role == each] for each in ROLES]
    panel = Panel.from_frame(
        table,
        learnt["id_col"],
        learnt["time_col"],
        learnt["target_col"],
        model.frequency.name,
        str(path),
        *roles,
    )
    longer = [i for i, y in enumerate(panel.values) if len(y) > model.horizon]
    past = panel.select(longer).without_last(model.horizon)
    if not len(past):
        raise InputError(
            f"{path}: no series has more than the {model.horizon} values that are to be forecast"
        )
    truth = {panel.ids[i]: panel.values[i][-model.horizon :] for i in longer}
    y = np.stack([truth[id] for id in past.ids])
    known = np.isfinite(y)
    middle = len(model.quantiles) // 2
    before, after = (m(past)[..., middle] for m in (model, other))
    size = np.abs(y[known]).sum()
    misses = [100 * np.abs(found - y)[known].sum() / size for found in (before, after)]
    apart = 100 * np.abs(after - before).sum() / np.abs(before).sum()
    return (
        f"the last {model.horizon} values of {len(past):,} series are missed by "
        f"{misses[0]:.4g}% of their size before and by {misses[1]:.4g}% after (mean absolute "
        f"error); the medians are {apart:.3g}% apart"
    )


def _readers(model: Reader, other: Reader, path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from None
    before, after = (m.perplexity(text) for m in (model, other))
    return (
        f"the perplexity of its {len(text):,} characters is {before:.5g} before and {after:.5g} "
        f"after, {100 * (after / before - 1):+.2g}%"
    )


def _labellers(model: Classifier | Regressor, other: Any, path: Path) -> str:
    learnt = model.facts["arguments"]
    table = read_table(path, text=[learnt["id_col"]])
    frame = SequenceFrame.read(
        table,
        learnt["id_col"],
        learnt["time_col"],
        learnt["label_col"],
        per_step=model.per_step,
        features=model.facts["columns"],
        source=str(path),
    )
    truth, said = _truth(frame), f"over {len(frame.sequences):,} sequences "
    if isinstance(model, Classifier):
        p, q = (_joined(m.probabilities(frame.sequences), model) for m in (model, other))
        before, after = (model.classes[each.argmax(-1)] for each in (p, q))
        said += (
            f"{100 * (before == after).mean():.4g}% of the labels are the same, and the "
            f"probabilities {np.abs(q - p).max():.3g} apart at most"
        )
        if truth is None:
            return said
        right = [100 * (each.astype(str) == truth.astype(str)).mean() for each in (before, after)]
        return f"{said}; {right[0]:.4g}% are right before and {right[1]:.4g}% after"
    before, after = (_joined(m(frame.sequences), model) for m in (model, other))
    said += f"the numbers are {np.abs(after - before).max():.3g} apart at most"
    if truth is None:
        return said
    errors = [np.abs(each - truth.astype(np.float64)).mean() for each in (before, after)]
    return f"{said}; they miss by {errors[0]:.4g} on average before and by {errors[1]:.4g} after"


def _joined(answers: Any, model: Classifier | Regressor) -> Array:
    return np.concatenate(answers) if model.per_step else np.asarray(answers)


def _truth(frame: SequenceFrame) -> Array | None:
    """The labels in the file, if it has one for each answer."""
    if frame.labels is None:
        return None
    labels = np.concatenate([np.atleast_1d(np.asarray(label, object)) for label in frame.labels])
    missing = any(label is None or label != label for label in labels.tolist())
    return None if missing else labels
