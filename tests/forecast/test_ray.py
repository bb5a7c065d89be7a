"""Ray trains and forecasts as one process does, on two nodes, of which one is killed."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from folder_cases import many_series, write_folder, written
from forecast_cases import small_forecaster
from tidegate.cli import main
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster

ray = pytest.importorskip("ray", reason="make test-ray installs it")
# Ray's own: pipes and sockets that it leaves to the garbage collector, and words about its plans.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MEMORY = 200_000_000


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one processor each, on this machine."""
    from ray.cluster_utils import Cluster

    here = str(Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # its workers would wait for all others
        node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.second = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        ray.init(cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("series") / "sales", many_series(), 4, 100)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, sales):
    """A model that one process trained, and its diary."""
    from small_team import Accident, Forecaster

    path = tmp_path_factory.mktemp("alone") / "diary.txt"
    model = Forecaster.small(Accident(str(path))).fit(sales)
    model.save(path.with_name("model.safetensors"))
    return model, path


def test_a_killed_worker_costs_one_interval_and_the_model_is_that_of_one_process(
    tmp_path, cluster, sales, alone
):
    from small_team import Accident, Forecaster
    from team_cases import (
        diary,
        require_one_interval_lost,
        require_same_weights,
        require_shared_reads,
    )
    from tidegate.forecast.ray import fit

    expected, path = alone
    steps = diary(path, "step")
    here, told = tmp_path / "diary.txt", []
    (tmp_path / "fit" / ".ray-training" / "killed").mkdir(parents=True)
    model = Forecaster.small(Accident(str(here), len(steps) - 3))
    fit(model, sales, checkpoint=tmp_path / "fit" / "training", progress=lambda *p: told.append(p))
    require_one_interval_lost(here, steps)
    require_shared_reads(here, path)
    require_same_weights(model, expected)
    assert told[-1][1].step == told[-1][1].steps
    model.save(tmp_path / "fit" / "model.safetensors")
    assert [p.name for p in (tmp_path / "fit").iterdir()] == ["model.safetensors"]


def test_the_rows_of_a_dataset_may_stand_in_any_order(cluster):
    df = many_series()
    forecasts = []
    for seed in range(2):
        shuffled = df.sample(frac=1, random_state=seed)
        fitted = small_forecaster().fit(ray.data.from_pandas(np.array_split(shuffled, 3)))
        forecasts.append(fitted.predict(df))
    pd.testing.assert_frame_equal(*forecasts)
    ratio = forecasts[0]["GRU"] / small_forecaster().fit(df).predict(df)["GRU"]
    assert ratio.between(0.7, 1.4).all()


def test_a_large_dataset_is_sampled_by_whole_series(cluster, monkeypatch):
    from tidegate.forecast import _ray_lots

    df = many_series(60)
    monkeypatch.setattr(_ray_lots, "SAMPLE", len(df) // 4)
    columns = small_forecaster()._columns()
    lots = _ray_lots.lots_of_dataset(ray.data.from_pandas(np.array_split(df, 4)), columns, 0)
    some = pd.concat([lots.read(i, None).to_pandas() for i in range(len(lots.sizes))])
    assert lots.rows == len(df)
    assert 0.1 < len(some) / len(df) < 0.5
    whole = df.groupby("unique_id").size()
    found = some.groupby("unique_id").size()
    assert (found == whole[found.index]).all()
    assert list(some["unique_id"]) == sorted(some["unique_id"])
    again = _ray_lots.lots_of_dataset(ray.data.from_pandas(df), columns, 0)
    other = _ray_lots.lots_of_dataset(ray.data.from_pandas(df), columns, 1)
    assert lots.fingerprint == again.fingerprint != other.fingerprint


def test_what_cannot_be_learnt_from_is_said_once(tmp_path, cluster):
    from tidegate.forecast.ray import fit

    short = write_folder(tmp_path / "short", many_series(6, 2))
    with pytest.raises(InputError, match="too few to learn a horizon of 6 from"):
        fit(small_forecaster(), short)
    with pytest.raises(InputError, match="the dataset has no column 'y'"):
        small_forecaster().fit(ray.data.from_items([{"unique_id": "a", "ds": 1}]))
    with pytest.raises(ValueError, match="workers must be at least 1"):
        fit(small_forecaster(), short, workers=0)
    with pytest.raises(InputError, match="the Ray cluster has no GPU"):
        fit(small_forecaster(), short, gpus=True)


def test_there_is_a_worker_on_each_machine_or_on_each_gpu(monkeypatch):
    from tidegate.forecast.ray import _scale

    machines = [{"CPU": 8, "GPU": 2}, {"CPU": 4}, {"CPU": 16, "GPU": 4}, {"GPU": 0.5}]
    nodes = [{"Alive": True, "Resources": each} for each in machines]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 9}}])
    assert _scale(None, False) == {"num_workers": 3, "resources_per_worker": {"CPU": 8}}
    assert _scale(1, False) == {"num_workers": 1, "resources_per_worker": {"CPU": 16}}
    assert _scale(None, True) == {"num_workers": 6, "use_gpu": True}
    assert _scale(5, True) == {"num_workers": 5, "use_gpu": True}


def test_the_command_trains_and_forecasts_on_the_cluster(tmp_path, cluster, sales, alone, capsys):
    out = tmp_path / "out"
    path = str(alone[1].with_name("model.safetensors"))
    arguments = ["forecast", str(sales), "--model", path, "--out", str(out)]
    assert main([*arguments, "--ray", cluster.address]) == 0
    assert "24 series" in capsys.readouterr().out
    found = written(out / "forecast")
    pd.testing.assert_frame_equal(
        found, alone[0].predict(many_series()), check_dtype=False, rtol=1e-4
    )
    assert main([*arguments[:1], str(sales / "0.parquet"), "--ray", "--horizon", "2"]) == 2
    assert "--ray works on a folder" in capsys.readouterr().err


def test_a_killed_node_loses_no_row_and_writes_none_twice(tmp_path, cluster, alone):
    """Last of all: the cluster has one node less then."""
    from tidegate.forecast._folder_out import Job
    from tidegate.forecast.ray import run_parts

    df = many_series(120, 30)
    folder = write_folder(tmp_path / "many", df, files=20)
    path, out = alone[1].with_name("model.safetensors"), tmp_path / "out"
    job, done = Job.of(path, folder, out, rows=60), []

    def kill(rows):
        done.append(rows)
        if len(done) == 3:
            cluster.remove_node(cluster.second, allow_graceful=False)

    run_parts(job, job.begin(False), kill)
    scored = job.finish()
    assert len(done) == len(job.parts.parts) >= 20
    assert (scored.series, scored.rows) == (120, 120 * 6)
    expected = GRUForecaster.load(path).predict(df)
    pd.testing.assert_frame_equal(written(out), expected, check_dtype=False, rtol=1e-4)
