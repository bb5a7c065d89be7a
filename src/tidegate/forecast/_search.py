"""Where a search is kept, and how it proposes: any number of processes may share one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..errors import InputError

# Processes that make the tables at the same moment get in each other's way; all but one try again.
_TRIES, _PAUSE = 5, 0.5
_TROUBLE = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
T = TypeVar("T")


@contextmanager
def open_study(name: str, storage: str | os.PathLike[str] | None, seed: int) -> Iterator[Study]:
    """The search of this name in a file or at the address of a database; new, or as others left it.

    At the end of the block the database is let go of.

    Raises:
        InputError: the database cannot be reached, or was lost under way, such as on a full disk.
    """
    place = None if storage is None else os.fspath(storage)
    url = place if place is None or "://" in place else f"sqlite:///{Path(place)}"
    with ExitStack() as at_the_end:
        try:
            kept = None if url is None else _tried_again(lambda: RDBStorage(url))
            if kept is not None:
                at_the_end.callback(kept.engine.dispose)
            yield _tried_again(lambda: _study(name, kept, seed))
        except (ArgumentError, NoSuchModuleError) as error:
            raise InputError(f"{place} is no address of a database: {error}") from None
        except _TROUBLE as error:
            first = str(error).partition("\n")[0]  # the rest is SQL
            raise InputError(f"{place} cannot keep the search: {first}") from error


def _study(name: str, kept: RDBStorage | None, seed: int) -> Study:
    return optuna.create_study(
        study_name=name,
        storage=kept,
        sampler=_Sampler(seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )


def _tried_again(make: Callable[[], T]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return make()
        except (ArgumentError, NoSuchModuleError):
            raise
        except _TROUBLE:
            time.sleep(_PAUSE)
    return make()


class _Sampler(optuna.samplers.BaseSampler):
    """Tree-structured Parzen estimators that draw for each trial by its number.

    So processes that share a search never draw the same, and one that goes on draws as if it had
    not stopped.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.of_trial: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Begin anew."""
        self.of_trial = optuna.samplers.TPESampler(seed=self.seed + trial.number)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As of the trial."""
        return self.of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As of the trial."""
        return self.of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As of the trial."""
        return self.of_trial.sample_independent(study, trial, param_name, param_distribution)
