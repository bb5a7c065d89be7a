"""What answers the lines of `tidegate stream`, for each kind of model."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .._model_file import words_of_kind
from .._series.bands import column_names
from .._stream_state import pack_state, unpack_state
from .._text import Reader
from ..data._dates import UnreadableDate, parse_dates
from ..data._zones import usual_clock
from ..errors import InputError
from ..runtime import Model
from ..runtime._classifier import Classifier, Regressor
from ..runtime._forecast_stream import counts_steps
from ..runtime._forecaster import Forecaster
from ..runtime._lines import BadLine, fields_of, parse_fields, parse_line

_BY_ID = "streams by id"


@dataclass(frozen=True)
class Columns:
    """The names of columns that were asked for; None where nothing was said."""

    id: str | None = None
    time: str | None = None
    target: str | None = None
    levels: Sequence[float] | None = None


class Answers(ABC):
    """Answers lines, one after the other."""

    texts = False  # whether a line is a text, so that there is no heading to read

    @abstractmethod
    def begin(self, heading: Sequence[str]) -> list[str]:
        """Take the names of the columns; those of the columns that are answered with.

        Raises:
            InputError: a column that is needed is not there.
        """

    def plain(self) -> None:  # noqa: B027 - most need no heading
        """Lines come without a heading.

        Raises:
            InputError: they cannot.
        """

    @abstractmethod
    def answer(self, line: bytes) -> str:
        """The fields that are answered with.

        Raises:
            ValueError: the line cannot be used; nothing has changed.
        """

    @abstractmethod
    def to_bytes(self, notes: Mapping[str, str]) -> bytes:
        """Where it stands."""

    @abstractmethod
    def from_bytes(self, data: bytes) -> dict[str, str]:
        """Go on from there; the notes.

        Raises:
            InputError: the bytes are damaged, or of another model.
        """


def answers_of(model: Any, columns: Columns) -> Answers:
    """What answers lines with a model.

    Raises:
        InputError: it cannot run step by step, or has no such columns.
    """
    if isinstance(model, Reader):
        return _Language(model, columns)
    if isinstance(model, Forecaster):
        return _Forecasts(model, columns)
    if columns.target or columns.levels:
        kind = words_of_kind(model.kind)
        raise InputError(f"--target and --levels are for a forecaster, not {kind}")
    if isinstance(model, Model):
        return _Steps(model, columns)
    return _Labels(model, columns) if model.reader.features else _LabelsOfTexts(model, columns)


class _Running(Protocol):
    """A stream of any kind."""

    def to_bytes(self, notes: Mapping[str, str] | None = None) -> bytes: ...
    def from_bytes(self, data: bytes) -> dict[str, str]: ...


class _Table(Answers):
    """Lines of fields, perhaps with a column that tells several streams apart, and one of times."""

    def __init__(self, begin: Callable[[], _Running], columns: Columns):
        self._begin = begin
        self._asked = columns
        self._streams: dict[str, _Running] = {"": begin()}
        self._id: int | None = None
        self._time: int | None = None
        self._rest: list[int] | None = None  # places of the other columns that are read
        self._count = 0  # of all columns

    def begin(self, heading: Sequence[str]) -> list[str]:
        """See `Answers`."""
        self._id = _place(heading, self._asked.id, "unique_id", "--id")
        self._time = _place(heading, self._asked.time, "ds", "--time")
        echoed = [place for place in (self._id, self._time) if place is not None]
        others = [name for place, name in enumerate(heading) if place not in echoed]
        wanted, names = self.columns(others)
        self._rest, self._count = [heading.index(name) for name in wanted], len(heading)
        return [heading[place] for place in echoed] + names

    @abstractmethod
    def columns(self, others: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """Which columns are read, and the names of the answers.

        Raises:
            InputError: a column that is needed is not there.
        """

    @abstractmethod
    def step(self, stream: Any, fields: Sequence[str], time: str | None) -> str:
        """The answer to the fields that are read."""

    def answer(self, line: bytes) -> str:
        """See `Answers`."""
        fields = fields_of(_decoded(line))
        if self._rest is None:
            return self.step(self._streams[""], fields, None)
        if len(fields) != self._count:
            raise BadLine(f"{len(fields)} fields, and the heading names {self._count}")
        id = "" if self._id is None else fields[self._id]
        time = None if self._time is None else fields[self._time]
        stream = self._streams.get(id) or self._begin()
        answer = self.step(stream, [fields[place] for place in self._rest], time)
        self._streams[id] = stream
        echoed = [field for field in (id if self._id is not None else None, time) if field]
        return ",".join([*map(_quoted, echoed), answer])

    def to_bytes(self, notes: Mapping[str, str]) -> bytes:
        """See `Answers`."""
        if self._id is None:
            return self._streams[""].to_bytes(notes)
        ids = [id for id in self._streams if id != ""]
        states = {
            str(number): np.frombuffer(self._streams[id].to_bytes(), np.uint8)
            for number, id in enumerate(ids)
        }
        return pack_state(_BY_ID, states, 0, {**notes, "ids": json.dumps(ids)})

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """See `Answers`."""
        try:
            arrays, _, notes = unpack_state(data, _BY_ID)
        except InputError:
            return self._streams[""].from_bytes(data)
        streams = {"": self._begin()}
        for number, id in enumerate(json.loads(notes.pop("ids"))):
            streams[id] = self._begin()
            streams[id].from_bytes(arrays[str(number)].tobytes())
        self._streams = streams
        return notes


class _Steps(_Table):
    """A stack of layers: a line is a step."""

    def __init__(self, model: Model, columns: Columns):
        self._stack = model.stack
        self._parse = _parser(model.stack.input_size)
        super().__init__(model.stream, columns)

    def columns(self, others: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """See `_Table`."""
        size = self._stack.input_size or 1
        if len(others) != size:
            raise InputError(
                f"the heading names {len(others)} columns to read, and the model takes {size} "
                f"numbers{_advice}"
            )
        outputs = self._stack.output_size
        return others, ["y"] if outputs == 1 else [f"y{i}" for i in range(1, outputs + 1)]

    def answer(self, line: bytes) -> str:
        """See `Answers`."""
        if self._id is None and self._time is None:
            return self._numbers(self._streams[""], line)
        return super().answer(line)

    def step(self, stream: Any, fields: Sequence[str], time: str | None) -> str:
        """See `_Table`."""
        return self._numbers(stream, ",".join(fields).encode())

    def _numbers(self, stream: Any, line: bytes) -> str:
        return ",".join(map(_number, stream.step(self._parse(line)).tolist()))


class _Forecasts(_Table):
    """A forecaster: a line is the next value of a series, and is answered with its forecast."""

    def __init__(self, model: Forecaster, columns: Columns):
        self._model = model
        learnt = model.facts["arguments"]
        asked = Columns(
            columns.id or _unusual(learnt.get("id_col"), "unique_id"),
            columns.time or _unusual(learnt.get("time_col"), "ds"),
            columns.target or learnt.get("target_col", "y"),
        )
        self._named = columns.target is not None
        names = column_names("GRU", learnt["levels"])
        self._shown = [names.index("GRU")]
        for level in columns.levels or ():
            if f"GRU-lo-{level:g}" not in names:
                known = " ".join(f"{each:g}" for each in sorted(learnt["levels"]))
                raise InputError(f"--levels: the model has bands of {known}, not {level:g}")
            self._shown += [names.index(f"GRU-{side}-{level:g}") for side in ("lo", "hi")]
        self._names = [
            f"{names[which]}+{k}" for which in self._shown for k in range(1, model.horizon + 1)
        ]
        super().__init__(model.stream, asked)

    def columns(self, others: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """See `_Table`."""
        target, wanted = self._asked.target, self._covariates()
        values = [name for name in others if name not in wanted]
        if target not in values and not self._named and len(values) == 1:
            target = values[0]
        missing = [name for name in (target, *wanted) if name not in others]
        if missing:
            raise InputError(
                f"the heading has no column {missing[0]!r}; its columns are "
                f"{', '.join(others) or 'none'}: name the values' with --target"
            )
        if self._model.derived.reads_time and self._time is None:
            raise InputError(
                "the model reads time stamps, and the heading has no column 'ds': name theirs with "
                "--time"
            )
        return [str(target), *wanted], self._names

    def plain(self) -> None:
        """See `Answers`."""
        times = self._model.derived.reads_time
        if times or self._model.reads:
            needs = [*(["ds"] if times else []), str(self._asked.target), *self._covariates()]
            raise InputError(f"the first line must name the columns, such as {','.join(needs)}")

    def _covariates(self) -> list[str]:
        """Columns beside the values; of what is known ahead, those of the steps to come too."""
        steps = range(1, self._model.horizon + 1)
        return [
            column
            for name, role in self._model.reads.items()
            for column in [name, *(f"{name}+{k}" for k in steps if role == "future")]
        ]

    def step(self, stream: Any, fields: Sequence[str], time: str | None) -> str:
        """See `_Table`."""
        if self._rest is None and len(fields) != 1:
            raise BadLine(f"{len(fields)} fields, and no first line named the columns")
        value = parse_fields(fields[:1], 1)
        found = stream.step(value, self._stamp(time), self._given(fields[1:]))[0]
        if np.isnan(found).any():
            raise BadLine("no value is known yet, and so there is no forecast")
        return ",".join(_number(y) for which in self._shown for y in found[:, which].tolist())

    def _stamp(self, time: str | None) -> np.ndarray | None:
        if time is None:
            return None
        try:
            if counts_steps(self._model.frequency):
                return np.array([int(time)])
            utc, offset = parse_dates([time])
        except (UnreadableDate, ValueError) as error:
            raise BadLine(str(error)) from None
        by_local = offset is not None and usual_clock(self._model.frequency) == "local time"
        return utc + offset if by_local else utc

    def _given(self, fields: Sequence[str]) -> dict[str, tuple[str, Any]]:
        given, left = {}, list(fields)
        layout = self._model.model.layout
        numbers = {column.name for column in layout.numbers}
        for name, role in self._model.reads.items():
            count = 1 + self._model.horizon * (role == "future")
            mine, left = left[:count], left[count:]
            entries = parse_fields(mine, count) if name in numbers else np.array(mine)
            given[name] = role, entries[None] if role == "future" else entries
        return given


class _Labels(_Table):
    """A classifier or regressor of numbers: a line is a step, and is answered for all so far."""

    def __init__(self, model: Classifier | Regressor, columns: Columns):
        self._model = model
        super().__init__(model.stream, columns)

    def columns(self, others: Sequence[str]) -> tuple[Sequence[str], list[str]]:
        """See `_Table`."""
        count, learnt = self._model.reader.features, self._model.facts["columns"]
        wanted = learnt or others
        missing = [name for name in wanted if name not in others]
        if missing or len(wanted) != count:
            names = f": {', '.join(learnt)}" if learnt else ""
            raise InputError(
                f"the model reads {count} columns{names}; those of the heading are "
                f"{', '.join(others) or 'none'}{_advice}"
            )
        return wanted, _names_of_labels(self._model)

    def step(self, stream: Any, fields: Sequence[str], time: str | None) -> str:
        """See `_Table`."""
        count = self._model.reader.features
        if self._rest is None and len(fields) != count:
            raise BadLine(
                f"{len(fields)} fields instead of {count}, and no first line named the columns"
            )
        return _label(self._model, stream.step(parse_fields(fields, count)))


class _Texts(Answers):
    """Lines that are texts."""

    texts = True

    def __init__(self, columns: Columns):
        if columns != Columns():
            raise InputError("the model reads texts: lines have no columns to name")


class _LabelsOfTexts(_Texts):
    """A classifier or regressor of texts: a line is a text of its own."""

    def __init__(self, model: Classifier | Regressor, columns: Columns):
        super().__init__(columns)
        self._model = model

    def begin(self, heading: Sequence[str]) -> list[str]:
        """See `Answers`."""
        return _names_of_labels(self._model)

    def answer(self, line: bytes) -> str:
        """See `Answers`."""
        text = _text(line)
        if not text:
            raise BadLine("an empty text")
        if isinstance(self._model, Classifier):
            return _label(self._model, self._model.probabilities([text])[0])
        return _label(self._model, self._model([text])[0])

    def to_bytes(self, notes: Mapping[str, str]) -> bytes:
        """See `Answers`."""
        return pack_state(self._model.fingerprint, {}, 0, notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """See `Answers`."""
        return unpack_state(data, self._model.fingerprint).notes


class _Language(_Texts):
    """A language model: a line is scored after those before it."""

    def __init__(self, model: Reader, columns: Columns):
        super().__init__(columns)
        self._stream = model.stream()

    def begin(self, heading: Sequence[str]) -> list[str]:
        """See `Answers`."""
        return ["tokens", "log_prob", "perplexity"]

    def answer(self, line: bytes) -> str:
        """See `Answers`."""
        found = self._stream.score(_text(line) + "\n").log_probs
        return f"{len(found)},{_number(found.sum())},{_number(math.exp(-found.mean()))}"

    def to_bytes(self, notes: Mapping[str, str]) -> bytes:
        """See `Answers`."""
        return self._stream.to_bytes(notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """See `Answers`."""
        return self._stream.from_bytes(data)


_advice = "; name those that are not read with --id and --time"


def _names_of_labels(model: Classifier | Regressor) -> list[str]:
    if isinstance(model, Regressor):
        return ["y"]
    return ["y", "probability", *(_quoted(f"y={label}") for label in model.classes)]


def _label(model: Classifier | Regressor, answer: np.ndarray) -> str:
    if isinstance(model, Regressor):
        return _number(float(answer))
    best = int(answer.argmax())
    numbers = [_number(p) for p in (answer[best], *answer)]
    return ",".join([_quoted(str(model.classes[best])), *numbers])


def _place(heading: Sequence[str], asked: str | None, usual: str, option: str) -> int | None:
    name = asked or usual
    if name in heading:
        return heading.index(name)
    if asked is not None:
        raise InputError(f"{option}: the heading has no column {asked!r}: {', '.join(heading)}")
    return None


def _unusual(name: str | None, usual: str) -> str | None:
    """A name that a model was told, where it is not the one that is looked for anyway."""
    return None if name == usual else name


def _parser(size: int) -> Callable[[bytes], np.ndarray]:
    """What reads a line of numbers; the array that it returns is the same each time."""
    numbers = np.zeros(size, np.float64) if size else None

    def parse(line: bytes) -> np.ndarray:
        if numbers is None:
            return parse_line(_decoded(line), 1, whole=True)[0]
        try:
            values = list(map(float, line.split(b",")))
        except ValueError:
            values = []
        if len(values) != size:  # other separators, missing values, or a line to refuse
            values = parse_line(_decoded(line), size)
        numbers[:] = values
        if not np.isfinite(numbers).all():
            raise BadLine("a number is missing or not finite")
        return numbers

    return parse


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").strip()


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")


def _quoted(field: str) -> str:
    """A field of a CSV, in quotes where it needs them."""
    if not any(each in field for each in ',"\n'):
        return field
    return '"' + field.replace('"', '""') + '"'


def _number(value: float) -> str:
    return format(value, ".9g")
