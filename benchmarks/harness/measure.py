"""Each peer prepares a case, is compared with the others, and is then timed by turns."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from harness import noise
from harness.cases import Case
from harness.compare import errors
from harness.rows import Row, Timing
from harness.runner import Slice
from harness.worker import Peers, Worker

TURN = 0.1  # seconds
SETTLE = 0.05  # seconds: ONNX Runtime's threads spin for about 20 ms after a call
ROUNDS = 3  # at least, however slow a peer


def rows(
    cases: Iterable[Case], seconds: float, quiet: bool, versions: dict[str, str]
) -> Iterator[Row]:
    """Measure case by case; `versions` is filled with what the peers are."""
    for setting, group in groupby(cases, lambda case: (case.threads, case.isa)):
        with Peers(*setting) as peers:
            versions.update(peers.versions | versions)
            for case in group:
                yield measure(case, peers, seconds, quiet)


def measure(case: Case, peers: Peers, seconds: float, quiet: bool) -> Row:
    """Compare all peers with float64, then time them."""
    entries = {name: worker for worker in peers.workers for name in worker.ask("prepare", case)}
    found = errors(case, entries)
    kept = {name: worker.ask("kept", name) for name, worker in entries.items()}
    turns = interleave(entries, seconds, quiet)
    return Row(case, {name: timing(turns[name], found[name], kept[name]) for name in entries})


Turn = tuple[Slice, bool]  # and whether others used the machine meanwhile


def interleave(entries: dict[str, Worker], seconds: float, quiet: bool) -> dict[str, list[Turn]]:
    """Turns of every entry, in an order drawn anew each round."""
    turns: dict[str, list[Turn]] = {name: [] for name in entries}
    order, draw = list(entries), random.Random(0)
    until = time.monotonic() + seconds
    latest = until + 2 * seconds + noise.PATIENCE
    while (now := time.monotonic()) < until or _too_few(turns, quiet and now < latest):
        draw.shuffle(order)
        for name in order:
            if quiet:
                noise.wait_until_quiet(latest)
            else:
                time.sleep(SETTLE)
            turns[name].append(_turn(entries[name], name))
    return turns


def _too_few(turns: dict[str, list[Turn]], still: bool) -> bool:
    """Whether an entry has too few turns, or with `still` too few undisturbed ones."""
    return any(
        sum(not (still and noisy) for _, noisy in taken) < ROUNDS for taken in turns.values()
    )


def _turn(worker: Worker, name: str) -> Turn:
    own, before = time.process_time(), noise.Busy.now()
    taken = worker.ask("sample", name, TURN)
    after = noise.Busy.now()
    others = noise.foreign(before, after, taken.cpu + time.process_time() - own)
    return taken, others > noise.QUIET


def timing(turns: list[Turn], error: float = 0.0, kept: int | None = None) -> Timing:
    """Statistics of the undisturbed turns, or of all where there are too few of them."""
    still = [taken for taken, noisy in turns if not noisy]
    used = still if len(still) >= ROUNDS else [taken for taken, _ in turns]
    seconds = np.concatenate([taken.seconds for taken in used])
    lower, median, upper = map(float, np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Timing(
        median,
        lower,
        upper,
        samples=len(seconds),
        noisy=1 - len(still) / len(turns),
        cores=sum(taken.cpu for taken in used) / sum(taken.wall for taken in used),
        error=error,
        kept=kept,
    )
