"""The search: it goes on where it stopped, is shared by processes, and keeps the best."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from forecast_cases import small_forecaster, small_panel
from tidegate.errors import InputError

pytest.importorskip("optuna")


@pytest.fixture
def model():
    return small_forecaster(steps=None, hidden_size=None, num_layers=None)


def test_a_search_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    from tidegate.forecast import GRUForecaster, tune

    asked = []

    def fit_in_a_moment(self, df, **arguments):
        asked.append(self.get_params())
        self.steps = 2
        return fit(self, df, **arguments)

    fit = GRUForecaster.fit
    monkeypatch.setattr(GRUForecaster, "fit", fit_in_a_moment)
    told = []
    panel, storage = small_panel(), tmp_path / "search.db"
    first = tune.tune(model, panel, 2, storage=storage, progress=lambda *a: told.append(a))
    assert [t[:2] for t in told] == [(1, 2), (2, 2)]
    assert asked[0]["hidden_size"] == model.suggest(panel).hidden_size
    fits = len(asked)
    again = tune.tune(model, panel, 2, storage=storage)
    assert again == first
    assert len(asked) == fits
    more = tune.tune(model, panel, 3, storage=storage)
    assert more.trials == 3
    assert more.error <= first.error <= first.suggested
    assert small_forecaster().set_params(**more.settings).steps == more.settings["steps"]
    other = tune.tune(model, small_panel(3), 1, storage=storage)
    assert other.trials == 1, "the searches of two panels were mixed"
    whole = tune.tune(model, panel, 3, storage=tmp_path / "whole.db")
    assert whole == more, "one that goes on finds something else"


def test_series_too_short_for_the_folds_are_refused(model):
    from tidegate.forecast.tune import tune

    with pytest.raises(InputError, match="too short to hold 12 horizons back"):
        tune(model, small_panel(), 1, folds=12)


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("nonsense://host/name", "is no address of a database"),
        ("sqlite:////no/such/folder/search.db", "cannot keep the search"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(model, storage, sentence, monkeypatch):
    from tidegate.forecast import _search, tune

    monkeypatch.setattr(_search, "_PAUSE", 0.0)
    with pytest.raises(InputError, match=sentence):
        tune.tune(model, small_panel(), 1, storage=storage)


SERVER = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture
def database():
    """A PostgreSQL server of our own, on a socket in a folder."""
    pytest.importorskip("psycopg")
    initdb = shutil.which("initdb") or (SERVER and SERVER / "initdb")
    if not initdb or not Path(initdb).exists():
        pytest.skip("there is no PostgreSQL server")
    with TemporaryDirectory(prefix="postgres") as place:
        folder = Path(place)
        data, run = folder / "data", {"cwd": "/", "check": True, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:  # as which the server refuses to run
            shutil.chown(folder, "postgres")
            run["user"] = "postgres"
        control = Path(initdb).with_name("pg_ctl")
        subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "tidegate", "--no-sync"], **run)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        start = [control, "-D", data, "-w", "-l", folder / "log", "-o", options, "start"]
        subprocess.run(start, **run)
        try:
            yield f"postgresql+psycopg://tidegate@/postgres?host={folder}"
        finally:
            subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **run)


SEARCH = """
import sys
from forecast_cases import small_forecaster, small_panel
from tidegate.forecast import GRUForecaster
from tidegate.forecast.tune import tune

fit = GRUForecaster.fit
def fit_in_a_moment(self, df, **arguments):
    self.steps = 2
    return fit(self, df, **arguments)
GRUForecaster.fit = fit_in_a_moment
model = small_forecaster(steps=None, hidden_size=None, num_layers=None)
found = tune(model, small_panel(), 6, storage=sys.argv[1], progress=lambda *told: print(told[0]))
print(found.error)
"""


def test_two_processes_search_together_in_postgresql(database):
    import optuna

    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    searches = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCH, database],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [search.communicate() for search in searches]
    assert [search.returncode for search in searches] == [0, 0], said
    storage = optuna.storages.RDBStorage(database)
    [name] = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    trials = [trial for trial in study.trials if trial.state.is_finished()]
    assert 6 <= len(trials) <= 8, "each process searched alone"
    drawn = Counter(repr(trial.params) for trial in trials if not trial.system_attrs)
    assert max(drawn.values()) == 1, "two processes tried the same"
    assert all(len(printed.splitlines()) > 1 for printed, _ in said), "one did nothing"
    errors = [float(printed.splitlines()[-1]) for printed, _ in said]
    assert min(errors) == study.best_value
    storage.remove_session()
    storage.engine.dispose()


def test_a_storage_that_is_lost_under_way_is_said(tmp_path, monkeypatch):
    place = tmp_path / "search.db"

    from sqlalchemy.exc import OperationalError

    from tidegate.forecast.tune import tune

    def full(*arguments, **options):
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr("optuna.storages.RDBStorage.set_trial_state_values", full)
    with pytest.raises(InputError, match=r"search.db cannot keep the search: .* disk is full"):
        tune(small_forecaster(steps=1), small_panel(2), 1, storage=place)
