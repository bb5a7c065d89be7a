"""`tidegate inspect`: the gate report of a saved model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._files import require_apart, require_writable
from .._inspectable import CanBeInspected
from .._model_file import read_model, words_of_kind
from .._text import Source
from ..data import read_table
from ..data._columns import require_columns
from ..errors import InputError
from ._series_file import read_series
from ._terminal import messages, output


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; None where nothing was said."""

    model: Path
    input: Path
    out: Path
    id: str | None = None
    time: str | None = None
    target: str | None = None
    freq: str | None = None
    title: str | None = None


def run_inspect(request: Request) -> None:
    """Look into the GRU of a saved model as it reads a file, and write the page.

    Raises:
        InputError: the model, the input or the page's folder cannot be used.
    """
    if request.out.is_dir():
        raise InputError(f"{request.out} is a folder: name the page, such as report.html")
    require_apart(request.out, "--out", request.model, request.input)
    require_writable(request.out.parent)
    kind = read_model(request.model).kind
    if kind not in _KINDS:
        holds = words_of_kind(kind)
        raise InputError(f"{request.model} holds {holds}, which cannot be looked into")
    from ..inspect import report

    model, x = _KINDS[kind](request)
    try:
        made = report(model, x, title=request.title)
    except ValueError as error:
        raise InputError(f"{request.input}: {error}") from None
    made.save(request.out)
    for finding in made.findings:
        output.print(f"- {finding.head} {finding.detail}")
        if finding.advice:
            output.print(f"  {finding.advice}")
    size = len(made.html.encode()) / 1000
    output.print(f"Written to {request.out} ({size:,.0f} kB): open it in a browser")


def _forecaster(request: Request) -> tuple[Any, Any]:
    from ..forecast import GRUForecaster

    names = {"id_col": request.id, "time_col": request.time, "target_col": request.target}
    model = GRUForecaster.load(request.model)
    model.set_params(**{name: column for name, column in names.items() if column is not None})
    file = request.input
    table = read_series(file, model.id_col)
    columns = model._columns()
    if request.freq is None:
        panel = columns.panel_like(table, model.frequency_, model.freq, str(file))
    else:
        panel = columns.panel(table, request.freq, str(file))
    for note in panel.notes:
        messages.print(f"note: {note}")
    return model, panel


def _stack(request: Request) -> tuple[Any, Any]:
    from ..inspect._stack_model import look_into
    from ..runtime import load as load_model
    from ..runtime._lines import read_numbers

    model = load_model(request.model)
    numbers = read_numbers(request.input, model.stack.input_size)
    return look_into(model, numbers, request.model.name), None


def _language(request: Request) -> tuple[Any, Any]:
    from ..language import LanguageModel

    # A file's last line end is the editor's, not the text's.
    text = Source.of(request.input).read().removesuffix("\n")
    if not text:
        raise InputError(f"{request.input} is an empty line")
    return _open(LanguageModel.load(request.model), request), text


def _labeller(request: Request) -> tuple[Any, Any]:
    from .. import classify

    kinds = {"classifier": "GRUClassifier", "regressor": "GRURegressor"}
    kind = getattr(classify, kinds[read_model(request.model).kind])
    model = _open(kind.load(request.model), request)
    names = {"id_col": request.id, "time_col": request.time, "label_col": request.target}
    model.set_params(**{name: column for name, column in names.items() if column is not None})
    table = read_table(request.input, text=[model.id_col])
    named = {"sequences": request.id, "time stamps": request.time}
    require_columns(table.column_names, str(request.input), named)
    return model, table


def _open(model: Any, request: Request) -> Any:
    if not isinstance(model, CanBeInspected):
        name = type(model).__name__
        raise InputError(f"{request.model} holds a {name}, which cannot be looked into yet")
    return model


_KINDS: dict[str, Callable[[Request], tuple[Any, Any]]] = {
    "forecaster": _forecaster,
    "stack": _stack,
    "language": _language,
    "classifier": _labeller,
    "regressor": _labeller,
}
