"""Forecasts of a folder of series, written part by part, with a saved model and without torch.

Each part becomes one file, written aside and renamed; its name is the number of the part, so that
whoever writes it again writes the same file. A manifest says which folder and model the parts
belong to. A run that was killed goes on with the parts that are not there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import replacing
from .._model_file import read_model
from .._series.bands import levels_of
from ..data import Panel, to_frame
from ..data._parts import PART_ROWS, Parts
from ..errors import InputError
from ..runtime._forecaster import Forecaster
from ._columns import Columns
from ._frames import forecast_columns
from ._reading import Reading

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest.json"
_FORMAT = "tidegate.forecasts/1"
# Under this key a part's file says how much went into it.
_KEY = b"tidegate"
# How many sentences about series that were left out are kept.
_SAID = 3


@dataclass(frozen=True)
class Scored:
    """What was forecast.

    Attributes:
        series: how many.
        rows: of the forecasts.
        left_out: how many series could not be used.
        reasons: of the first of them.
    """

    series: int
    rows: int
    left_out: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One model, one folder, and where the forecasts go; every process may do any of its parts."""

    model: str
    parts: Parts
    out: str
    columns: Columns
    skip: bool
    digest: str

    @classmethod
    def of(
        cls,
        model: str | os.PathLike[str],
        source: str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        skip: bool = False,
        rows: int | None = None,
        **names: str | None,
    ) -> Job:
        """The job, ready to be run.

        Args:
            model: a file that `GRUForecaster.save` wrote.
            source: a folder of Parquet files, sorted by series, or an address.
            out: a folder for the forecasts.
            skip: leave out series that cannot be used.
            rows: of the source in a part; a million when not given.
            names: columns that are called otherwise than in training: id, time, target.

        Raises:
            InputError: the model or the folder cannot be used.
        """
        file = read_model(model, "forecaster")
        arguments = file.facts["arguments"]
        columns = Columns(
            names.get("id") or arguments["id_col"],
            names.get("time") or arguments["time_col"],
            names.get("target") or arguments["target_col"],
            tuple(arguments["static_cols"]),
            tuple(arguments["past_cols"]),
            tuple(arguments["future_cols"]),
        )
        rows = PART_ROWS if rows is None else rows
        parts = Reading(columns).open(os.fspath(source), rows)
        content = Path(model).read_bytes()
        facts = repr((parts.fingerprint, skip, rows, columns)).encode()
        digest = hashlib.blake2b(content + facts, digest_size=16).hexdigest()
        return cls(os.fspath(model), parts, os.fspath(out), columns, skip, digest)

    def begin(self, resume: bool) -> list[int]:
        """Lay claim to the folder; the numbers of the parts that are to be done.

        Raises:
            InputError: the folder holds other forecasts, or `resume` is not said.
        """
        manifest = Path(self.out, MANIFEST)
        if manifest.exists():
            self._require_same(manifest, resume)
        elif os.path.isdir(self.out) and any(Path(self.out).glob("part-*.parquet")):
            raise InputError(f"{self.out} holds parts of other forecasts: give another folder")
        else:
            self._write_manifest({})
        return [i for i in range(len(self.parts.parts)) if not self.file(i).exists()]

    def finish(self) -> Scored:
        """Count what was written, hold it against what was read, and put it into the manifest.

        Raises:
            InputError: a part is missing, or belongs to another job.
        """
        facts = [self._facts_of(i) for i in range(len(self.parts.parts))]
        read = sum(f["read"] for f in facts)
        if read != self.parts.rows:
            raise InputError(
                f"{self.parts.source} changed under way: {read} rows were read of "
                f"{self.parts.rows}; begin again in another folder"
            )
        reasons = [reason for f in facts for reason in f["reasons"]]
        totals = {key: sum(f[key] for f in facts) for key in ("series", "rows", "left_out")}
        scored = Scored(**totals, reasons=tuple(reasons[:_SAID]))
        self._write_manifest(totals | {"reasons": list(scored.reasons), "complete": True})
        return scored

    def file(self, number: int) -> Path:
        """Where the forecasts of a part go."""
        return Path(self.out, f"part-{number:05}.parquet")

    def run(self, number: int) -> None:
        """Forecast one part and write its file.

        Raises:
            InputError: a series cannot be used, or the file cannot be written.
        """
        import pyarrow.parquet as pq

        with replacing(self.file(number)) as path:
            scores = _Scores(self, number)
            tables = iter(scores)
            first = next(tables)
            with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
                writer.write_table(first)
                for table in tables:
                    writer.write_table(table)
                writer.add_key_value_metadata({_KEY: json.dumps(scores.facts).encode()})

    def __getstate__(self) -> dict[str, Any]:
        """Without the model that was read."""
        return {k: v for k, v in self.__dict__.items() if k != "forecaster"}

    @cached_property
    def forecaster(self) -> Forecaster:
        """The model, read once in each process."""
        return Forecaster.from_file(read_model(self.model, "forecaster"))

    def _write_manifest(self, facts: dict[str, Any]) -> None:
        own = {
            "format": _FORMAT,
            "job": self.digest,
            "source": self.parts.source,
            "parts": len(self.parts.parts),
            "source_rows": self.parts.rows,
            "complete": False,
        }
        with replacing(Path(self.out, MANIFEST)) as path:
            path.write_text(json.dumps(own | facts, indent=2) + "\n", encoding="utf-8")

    def _require_same(self, manifest: Path, resume: bool) -> None:
        try:
            facts = json.loads(manifest.read_text("utf-8"))
            job, complete = facts["job"], facts["complete"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{manifest} is damaged: {error}") from None
        if not resume:
            state = "are whole" if complete else "are not whole"
            raise InputError(
                f"{self.out} holds forecasts already, which {state}: --resume goes on with them, "
                "or give another folder"
            )
        if job != self.digest:
            raise InputError(
                f"{self.out} holds forecasts of other data, of another model or with other "
                "arguments: give another folder"
            )

    def _facts_of(self, number: int) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.file(number)
        try:
            facts = json.loads((pq.read_metadata(path).metadata or {})[_KEY])
        except FileNotFoundError:
            raise InputError(f"{path} is missing: --resume writes it") from None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is damaged ({error}): delete it, and --resume") from None
        if facts["job"] != self.digest:
            raise InputError(f"{path} belongs to other forecasts: give another folder")
        return facts


class _Scores:
    """Tables of forecasts of one part, and what went into them."""

    def __init__(self, job: Job, number: int):
        self.job = job
        self.number = number
        self.facts: dict[str, Any] = {
            "job": job.digest,
            "read": 0,
            "series": 0,
            "rows": 0,
            "left_out": 0,
            "reasons": [],
        }

    def __iter__(self) -> Iterator[pa.Table]:
        """A table a batch of series; one without rows if there is no series."""
        job, facts = self.job, self.facts
        model, part = job.forecaster, job.parts.parts[self.number]
        freq = model.facts["arguments"]["freq"]
        reading = Reading(job.columns, freq, job.skip, model.frequency)
        schema = None
        for table in job.parts.batches(part):
            panel, left_out = reading.panel(table, part.name)
            facts["read"] += len(table)
            facts["left_out"] += len(left_out)
            facts["reasons"] = (facts["reasons"] + left_out)[:_SAID]
            if panel is None:
                continue
            found = self._table(panel, model(panel), table)
            schema = found.schema if schema is None else schema
            facts["series"] += len(panel)
            facts["rows"] += len(found)
            yield found.cast(schema)
        if schema is None:
            yield self._nothing()

    def _table(self, panel: Panel, quantiles: np.ndarray, like: pa.Table) -> pa.Table:
        columns, levels = self.job.columns, levels_of(self.job.forecaster.quantiles)
        found = forecast_columns(panel, quantiles, levels, columns.id, columns.time)
        return to_frame(found, like.slice(0, 2), panel.clock)

    def _nothing(self) -> pa.Table:
        """No forecasts, in the types that forecasts have."""
        import pyarrow as pa

        like = self.job.parts.nothing()
        counted = pa.types.is_integer(like.schema.field(self.job.columns.time).type)
        stamps = np.zeros(1, np.int64) if counted else np.zeros(1, "datetime64[ns]")
        model = self.job.forecaster
        panel = Panel(["0"], [stamps], [np.zeros(1)], model.frequency)
        shape = (1, model.horizon, len(model.quantiles))
        return self._table(panel, np.zeros(shape), like).slice(0, 0)


def run_parts(
    job: Job, numbers: Iterable[int], progress: Callable[[int], None] | None = None
) -> None:
    """Do some parts in this process, one after the other.

    Args:
        job: the job.
        numbers: of the parts.
        progress: called after each part with the rows of the source that it had.
    """
    for number in numbers:
        job.run(number)
        if progress is not None:
            progress(job.parts.parts[number].rows)
