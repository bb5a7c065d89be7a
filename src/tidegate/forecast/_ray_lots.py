"""A sample of the series of a Ray dataset, in lots that any worker can take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import pyarrow as pa
import ray
import ray.data

from ..errors import InputError
from ._columns import Columns
from ._lots import LOTS, SAMPLE

_DATASET = "the dataset"


@dataclass(frozen=True)
class RayLots:
    """Tables in Ray's object store, which the process that made them owns."""

    id: str
    rows: int
    sizes: np.ndarray
    fingerprint: str
    tables: Sequence[ray.ObjectRef[pa.Table]]

    def name(self, number: int) -> str:
        """Rows of a dataset come from nowhere in particular."""
        return _DATASET

    def read(self, number: int, rng: np.random.Generator) -> pa.Table:
        """The series of a lot; nothing is left to draw."""
        return ray.get(self.tables[number])


def lots_of_dataset(dataset: ray.data.Dataset, columns: Columns, seed: int) -> RayLots:
    """Draw series by their names, wherever their rows are, and sort what was drawn.

    Raises:
        InputError: a column is not there, or there are no rows.
    """
    names = columns.for_scanning(_DATASET)
    there = dataset.schema()
    missing = [name for name in names if name not in (there.names if there else ())]
    if missing:
        known = ", ".join(map(repr, there.names if there else ()))
        raise InputError(f"{_DATASET} has no column {missing[0]!r}; its columns are {known}")
    rows = dataset.count()
    if not rows:
        raise InputError(f"{_DATASET} has no rows of data")
    table = _sample(dataset.select_columns(list(names)), columns.id, SAMPLE / rows, seed)
    table = table.sort_by([(columns.id, "ascending"), (columns.time, "ascending")])
    lots = _cut(table, columns.id)
    return RayLots(
        columns.id,
        rows,
        np.array([len(lot) for lot in lots]),
        _fingerprint(table, rows),
        [ray.put(lot) for lot in lots],
    )


def _sample(dataset: ray.data.Dataset, id: str, share: float, seed: int) -> pa.Table:
    """About this share of the series, but one at least."""
    for attempt in count():
        some = dataset
        if share < 1:
            drawn = {"id": id, "share": share, "seed": f"{seed} {attempt}"}
            some = dataset.map_batches(_drawn, fn_kwargs=drawn, batch_format="pyarrow")
        some.context.enable_progress_bars = False
        tables = [table for table in ray.get(some.to_arrow_refs()) if len(table)]
        if tables:
            return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    raise AssertionError


def _drawn(table: pa.Table, id: str, share: float, seed: str) -> pa.Table:
    """The rows of some series: the same ones in every process."""
    ids = table[id].combine_chunks().dictionary_encode()
    chosen = [_fraction(f"{seed} {name}") < share for name in ids.dictionary.to_pylist()]
    mask = pa.array(chosen, pa.bool_()).take(ids.indices)
    # A row without a name is kept, so that it is complained of.
    return table.filter(mask.fill_null(True))


def _fraction(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _cut(table: pa.Table, id: str) -> list[pa.Table]:
    """Whole series, in about as many lots of one size as a folder has."""
    codes = table[id].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    starts = np.append(0, np.flatnonzero(np.diff(codes)) + 1)
    wished = np.linspace(0, len(table), LOTS, endpoint=False)
    cuts = np.unique(starts[np.searchsorted(starts, wished, "right") - 1])
    return [table.slice(a, b - a) for a, b in pairwise([*cuts.tolist(), len(table)])]


def _fingerprint(table: pa.Table, rows: int) -> str:
    import pandas as pd

    digest = hashlib.blake2b(repr(rows).encode(), digest_size=16)
    digest.update(pd.util.hash_pandas_object(table.to_pandas(), index=False).to_numpy().data)
    return digest.hexdigest()
