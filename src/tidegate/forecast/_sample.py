"""Learning from a sample in lots, as one process or as a team of several.

The network learns from windows that are drawn at random anyhow, and no more of them than its steps
can look at. So a sample is enough. From a thinner one of all lots, which every process of a team
has, the sizes, the calendar and the columns are chosen, and it is tried on; the lots themselves are
shared among the processes. Which windows are drawn depends on the seed and the data, not on the
number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch

from .._series.derived import Derived
from ..data import Panel
from ..errors import InputError
from ._examples import Examples, make_examples
from ._fit import Frame, Lessons, most_windows, teaching
from ._lots import SAMPLE, Lots
from ._plan import Plan
from ._reading import Reading, thinned
from ._team import Alone, agreed, share

# Rows of the thinner sample.
_PLANNED = 2**18


@dataclass(frozen=True)
class Sample:
    """What is learnt from.

    Attributes:
        panel: the thinner sample, the same in every process.
        lots: number and series of each lot that this process has.
        points: rows that it is a sample of.
        fingerprint: of the data and the seed.
    """

    panel: Panel
    lots: dict[int, Panel]
    points: int
    fingerprint: str


def read_sample(
    lots_of: Callable[[Reading], Lots], reading: Reading, seed: int, team: Alone
) -> Sample:
    """Read this process's lots, and the thinner sample together with the others.

    Raises:
        InputError: the files or the series cannot be used.
    """
    lots = agreed(team, lambda: lots_of(reading))
    mine = share(team, lots.sizes)
    thin = _PLANNED / min(lots.rows, SAMPLE)
    tables: dict[int, pa.Table] = {}

    def read() -> list[pa.Table]:
        some = []
        for number in mine:
            rng = np.random.default_rng([seed, number])
            table = lots.read(number, rng)
            if table is not None:
                tables[number] = table
                some.append(thinned(table, lots.id, int(thin * len(table)) + 1, rng))
        return some

    thinner = [table for some in team.gather(agreed(team, read)) for table in some]
    panel, bad = reading.panel(
        pa.concat_tables(thinner, promote_options="permissive"), lots.name(0)
    )
    if panel is None:
        raise InputError(bad[0])
    same = replace(reading, freq=panel.frequency.name)
    panels: dict[int, Panel] = {}

    def understand() -> int:
        left_out = 0
        for number in mine:
            if number in tables:
                found, others = same.panel(tables.pop(number), lots.name(number))
                left_out += len(others)
                if found is not None:
                    panels[number] = found
        return left_out

    left_out = sum(team.gather(agreed(team, understand)))
    if left_out:
        panel.notes.append(f"{left_out} of the sampled series cannot be used and were left out")
    return Sample(panel, panels, lots.rows, _digest(lots.fingerprint, seed))


def gather_lessons(sample: Sample, derived: Derived, plan: Plan, team: Alone) -> Lessons:
    """Windows of this process's lots, and the thinner sample to try on.

    Raises:
        InputError: the series are too short, or too little of them is known.
    """
    layout, horizon = plan.layout, plan.scaling.horizon
    source = derived.source(sample.panel, layout, horizon)
    frame = Frame.of(source.windows, plan)
    lots = {n: derived.source(p, layout, horizon) for n, p in sample.lots.items()}
    room = {n: int(np.maximum(s.windows.lengths - frame.least, 0).sum()) for n, s in lots.items()}
    total = sum(sum(there.values()) for there in team.gather(room))
    share_of = min(1.0, most_windows(plan) / max(total, 1))
    examples, hidden = [], []
    for number, lot in lots.items():
        rng = np.random.default_rng([plan.settings.seed, number])
        origins = lot.windows.draw(frame.least, round(share_of * room[number]), rng)
        origins = teaching(lot.windows, origins, plan)
        if len(origins.series):
            examples.append(make_examples(lot, origins, plan.scaling))
            hidden.append(frame.hides(lot.windows, origins))
    if not sum(team.gather(sum(map(len, examples)))):
        raise InputError("the series have too few values that are not missing to learn from")
    if not examples:  # of this process; it takes part in every step all the same
        nothing = torch.zeros(0, dtype=torch.int64)
        some = source.windows.ends().where(np.arange(1))
        examples = [make_examples(source, some, plan.scaling).rows(nothing)]
        hidden = [np.zeros((0, horizon), bool)]
    return Lessons(
        source,
        Examples.joined(examples),
        np.concatenate(hidden),
        frame.held_out(source.windows, plan),
        _digest(sample.fingerprint, repr((plan.scaling, layout, plan.shape, plan.batch_size))),
    )


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()
