"""`tidegate` as each process of a team runs it, with a small network, and with an accident.

The environment says where the diary is kept, and at which step of the last training the last
process is killed, the first time that it comes there.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from folder_cases import EVERY
from forecast_cases import small_forecaster
from tidegate._commands import folder
from tidegate.cli import main
from tidegate.forecast import GRUForecaster, _lots

RANK, SIZE = (int(os.environ.get(name, n)) for name, n in (("RANK", "0"), ("WORLD_SIZE", "1")))
DIARY, KILLED_AT = Path(os.environ["DIARY"]), int(os.environ["KILLED_AT"])


def noted(*words):
    with DIARY.open("a") as diary:
        print(RANK, *words, file=diary)


class Forecaster(GRUForecaster):
    def _plan(self, panel):
        plan = super()._plan(panel)
        return replace(plan, settings=replace(plan.settings, checkpoint_every=EVERY))

    def fit(self, df, progress, **arguments):
        def told(number, p):
            noted("step", number, p.step)
            if (RANK, number, p.step) == (SIZE - 1, 1, KILLED_AT) and not killed_before():
                noted("killed")
                os.kill(os.getpid(), signal.SIGKILL)
            progress(number, p)

        return super().fit(df, progress=told, **arguments)


def killed_before():
    return any(line.split()[1] == "killed" for line in DIARY.read_text().splitlines())


def read_lot(lots, number, rng):
    noted("read", number)
    return read(lots, number, rng)


if __name__ == "__main__":
    read, _lots.FolderLots.read = _lots.FolderLots.read, read_lot
    folder.new_model = lambda request: Forecaster(**small_forecaster(steps=16).get_params())
    sys.exit(main())
