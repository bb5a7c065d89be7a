"""`tidegate classify`: labels or numbers of the sequences in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._files import require_apart, require_writable, staged
from .._model_file import read_model, words_of_kind
from ..classify import GRUClassifier, GRURegressor
from ..data import SequenceFrame, read_table
from ..data._columns import require_columns
from ..errors import InputError
from ._terminal import messages, output, training_bar

if TYPE_CHECKING:
    import pyarrow as pa

_OPTIONS = ("per_step", "cell", "bidirectional", "members", "seed")  # of the training
_KINDS = {"classifier": GRUClassifier, "regressor": GRURegressor}


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; None where nothing was said."""

    file: Path
    out: Path
    model: Path | None = None
    number: bool = False
    per_step: bool = False
    cell: str = "gru"
    bidirectional: bool = True
    members: int = 1
    seed: int = 0
    label: str | None = None
    id: str | None = None
    time: str | None = None


def run_classify(request: Request) -> None:
    """Learn from the sequences in a file, or answer for them with a saved model.

    Raises:
        InputError: the file, the model or the folder for the results cannot be used.
    """
    written = "model.safetensors" if request.model is None else "answers.csv"
    require_apart(request.out / written, "--out", request.file, request.model)
    require_writable(request.out)
    if request.model is None:
        _train(request)
    else:
        _answer(request.model, request)


def _train(request: Request) -> None:
    names = _column_names(request)
    table = _read(request, names.get("id_col", "unique_id"))
    label = names.get("label_col", "y")
    if label not in table.column_names:
        there = ", ".join(map(repr, table.column_names))
        raise InputError(
            f"{request.file} has no column {label!r} of labels; its columns are {there}: say which "
            "with --label"
        )
    kind = GRURegressor if request.number or _are_numbers(table, label) else GRUClassifier
    options = {name: getattr(request, name) for name in _OPTIONS}
    model = kind().set_params(**options, **names)
    frame = _sequences(table, model, request)
    with training_bar("training") as progress:
        model.fit(table, progress=progress)
    _say(model)
    with staged(request.out) as part:
        model.save(part / "model.safetensors")
    path = request.out / "model.safetensors"
    output.print(f"Written to {request.out}{os.sep}: model.safetensors")
    output.print(f"Answer for {_like(frame)}: tidegate classify NEW.csv --model {path}")


def _answer(path: Path, request: Request) -> None:
    if request.number or request.per_step:
        raise InputError("--number and --per-step belong to the training; a saved model knows")
    found = read_model(path).kind
    if found not in _KINDS:
        raise InputError(f"{path} holds {words_of_kind(found)}, which labels no sequences")
    model = _KINDS[found].load(path).set_params(**_column_names(request))
    table = _read(request, model.id_col)
    frame = _sequences(table, model, request)
    columns = _columns(model, frame)
    answers = frame.answer(columns, model.id_col, model.per_step)
    if frame.labels is not None and not any(_is_missing(label) for label in frame.labels):
        words = "of the labels are right" if found == "classifier" else "of the variance explained"
        output.print(f"{100 * model.score(table):.1f}% {words}")
    with staged(request.out) as part:
        _write(answers, part / "answers.csv")
    output.print(f"Written to {request.out}{os.sep}: answers.csv")


def _columns(model: GRUClassifier | GRURegressor, frame: SequenceFrame) -> dict[str, np.ndarray]:
    """The answers, and for labels how probable each is."""
    if isinstance(model, GRURegressor):
        answers = model.predict(frame.sequences)
        return {model.label_col: np.concatenate(answers) if model.per_step else answers}
    chances = model.predict_proba(frame.sequences)
    chances = np.concatenate(chances) if model.per_step else chances
    labels = model.classes_[chances.argmax(1)]
    return {model.label_col: labels, "probability": chances.max(1)}


def _write(answers: pa.Table, path: Path) -> None:
    answers.to_pandas().to_csv(path, index=False, float_format="%.6g")


def _read(request: Request, id_col: str) -> pa.Table:
    table = read_table(request.file, text=[id_col])
    # Those that are not named may be absent: rows are sequences then, or come in order.
    named = {"sequences": request.id, "time stamps": request.time}
    require_columns(table.column_names, str(request.file), named)
    return table


def _sequences(
    table: pa.Table, model: GRUClassifier | GRURegressor, request: Request
) -> SequenceFrame:
    """The sequences, and a line about them."""
    frame = SequenceFrame.read(
        table,
        model.id_col,
        model.time_col,
        model.label_col,
        per_step=model.per_step,
        features=getattr(model, "columns_", None),
        source=str(request.file),
    )
    lengths = [len(sequence) for sequence in frame.sequences]
    few, many = min(lengths), max(lengths)
    steps = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    is_text = isinstance(frame.sequences[0], str)
    what, unit = ("texts", "characters") if is_text else ("sequences", "steps")
    output.print(f"{request.file}: {len(lengths):,} {what} of {steps} {unit}\n")
    return frame


def _say(model: GRUClassifier | GRURegressor) -> None:
    for note in model.notes_:
        messages.print(f"note: {note}")
    found = model.held_out_
    if found is None:
        return
    held = f"On {found.sequences:,} sequences that were held back, and by which training stopped"
    if isinstance(model, GRUClassifier):
        output.print(
            f"{held}: {100 * found.score:.1f}% of the labels right; always the commonest label: "
            f"{100 * found.plain:.1f}%"
        )
    else:
        output.print(f"{held}: {100 * found.score:.1f}% of the variance explained")


def _like(frame: SequenceFrame) -> str:
    return "newer sequences" if frame.has_id else "newer rows"


def _column_names(request: Request) -> dict[str, str]:
    names = {"id_col": request.id, "time_col": request.time, "label_col": request.label}
    return {argument: name for argument, name in names.items() if name is not None}


def _are_numbers(table: pa.Table, label: str) -> bool:
    """Whether labels are numbers that are not all whole."""
    import narwhals as nw

    column = nw.from_native(table)[label]
    if not column.dtype.is_float():
        return False
    values = column.to_numpy()
    values = values[np.isfinite(values)]
    return bool((values != np.round(values)).any())


def _is_missing(label: object) -> bool:
    return label is None or label != label
