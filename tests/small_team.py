"""A small forecaster that learns as one of a team, keeps a diary, and has an accident.

As a program it is `tidegate` with such forecasters, for torchrun; the environment says where the
diary is kept and at which step the accident happens.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from folder_cases import EVERY
from forecast_cases import small_forecaster
from tidegate.forecast import GRUForecaster
from tidegate.forecast._team import assemble_team


@dataclass(frozen=True)
class Accident:
    """The last process is killed at a step of the first network, the first time it comes there."""

    diary: str
    step: int = -1

    def note(self, *words):
        with Path(self.diary).open("a") as diary:
            print(assemble_team().rank, *words, file=diary)

    def told(self, progress):
        team = assemble_team()

        def told(number, p):
            self.note("step", number, p.step)
            here = (team.rank, number, p.step) == (team.size - 1, 1, self.step)
            if here and " killed" not in Path(self.diary).read_text():
                self.note("killed")
                os.kill(os.getpid(), signal.SIGKILL)
            if progress is not None:
                progress(number, p)

        return told


class Forecaster(GRUForecaster):
    """Trains in a moment."""

    accident: Accident

    @classmethod
    def small(cls, accident):
        forecaster = cls(**small_forecaster(steps=16).get_params())
        forecaster.accident = accident
        return forecaster

    def _plan(self, panel):
        plan = super()._plan(panel)
        return replace(plan, settings=replace(plan.settings, checkpoint_every=EVERY))

    def _fit_lots(self, lots_of, watch, skip=False):
        watch.progress = self.accident.told(watch.progress)
        return super()._fit_lots(
            lambda reading: Noted(lots_of(reading), self.accident), watch, skip
        )


class Noted:
    """Lots, and a diary of which were read."""

    def __init__(self, lots, accident):
        self.lots = lots
        self.accident = accident

    def __getattr__(self, name):
        return getattr(self.lots, name)

    def read(self, number, rng):
        self.accident.note("read", number)
        return self.lots.read(number, rng)


if __name__ == "__main__":
    from tidegate._commands import folder
    from tidegate.cli import main

    accident = Accident(os.environ["DIARY"], int(os.environ["KILLED_AT"]))
    folder.new_model = lambda request: Forecaster.small(accident)
    sys.exit(main())
