"""A folder of series is learnt from and forecast part by part, and nothing comes twice or not."""

import os
import signal
import time

import numpy as np
import pandas as pd
import pytest

from folder_cases import command, many_series, write_folder, written
from forecast_cases import small_forecaster
from tidegate._commands import folder
from tidegate._commands._request import new_model
from tidegate.cli import main
from tidegate.errors import InputError
from tidegate.forecast import GRUForecaster, _folder_out, _lots, _sample


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("series") / "sales", many_series())


@pytest.fixture(scope="module")
def model(tmp_path_factory, sales):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    small_forecaster().fit(sales).save(path)
    return path


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a few series each, so that there are several."""
    monkeypatch.setattr(_folder_out, "PART_ROWS", 200)


def close(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal but for the last bits: a batch of series is another product than one of all."""
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)


def test_a_folder_is_learnt_from_as_its_table_would_be(sales, model):
    """Of a folder that is read as a whole, only the draw of the windows differs."""
    df = many_series()
    fitted, kept = small_forecaster().fit(df), GRUForecaster.load(model)
    assert kept.suggestion_.input_length == fitted.suggestion_.input_length
    assert kept.frequency_.name == fitted.frequency_.name
    ratio = kept.predict(df)["GRU"] / fitted.predict()["GRU"]
    assert ratio.between(0.7, 1.4).all()


def test_the_same_seed_gives_the_same_model(sales, model):
    again = small_forecaster().fit(sales)
    pd.testing.assert_frame_equal(
        again.predict(many_series()), GRUForecaster.load(model).predict(many_series())
    )


def test_every_series_is_forecast_once_as_by_the_model_itself(tmp_path, sales, model, small_parts):
    assert main(["forecast", str(sales), "--model", str(model), "--out", str(tmp_path)]) == 0
    found = written(tmp_path / "forecast")
    assert len(list((tmp_path / "forecast").glob("part-*.parquet"))) > 3
    close(found, GRUForecaster.load(model).predict(many_series()))


def test_the_command_trains_forecasts_and_says_what_it_did(tmp_path, sales, capsys, monkeypatch):
    small = {"hidden_size": 8, "num_layers": 1, "steps": 8}
    monkeypatch.setattr(folder, "new_model", lambda r: new_model(r).set_params(**small))
    out = tmp_path / "out"
    arguments = ["forecast", str(sales), "--horizon", "4", "--levels", "80", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "24 series" in said
    assert f"{24 * 4} rows" in said
    assert list(written(out / "forecast")) == ["unique_id", "ds", "GRU", "GRU-lo-80", "GRU-hi-80"]
    assert sorted(os.listdir(out)) == ["forecast", "model.safetensors"]
    assert main(arguments) == 2, "forecasts that are there were written over"
    assert "--resume goes on with them" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert main([*arguments, "--resume", "--seed", "1"]) == 2
    assert "was trained with seed 0, and now 1 is asked for" in capsys.readouterr().err


def test_a_large_folder_is_sampled(tmp_path, monkeypatch):
    """A sample of lots, of series in each, and of those a thinner one: all of them whole series."""
    df = many_series(120, 40)
    folder = write_folder(tmp_path / "many", df, files=4, group=100)
    monkeypatch.setattr(_sample, "SAMPLE", 1200)
    monkeypatch.setattr(_lots, "SAMPLE", 1200)
    monkeypatch.setattr(_lots, "LOTS", 8)
    monkeypatch.setattr(_sample, "_PLANNED", 400)
    seen = []
    draw = _lots.thinned
    for module in (_lots, _sample):
        monkeypatch.setattr(module, "thinned", lambda *given: seen.append(draw(*given)) or seen[-1])
    fitted = small_forecaster().fit(folder)
    lengths = df.groupby("unique_id").size()
    for table in seen:
        some = table.to_pandas().groupby("unique_id").size()
        assert (some == lengths[some.index]).all(), "a series was cut"
    assert 0 < sum(map(len, seen)) < 2 * len(df)
    assert np.isfinite(fitted.predict(df)["GRU"]).all()
    assert not fitted.predict(df).equals(small_forecaster(seed=1).fit(folder).predict(df))


def test_covariates_that_are_not_known_ahead_are_read_too(tmp_path):
    df = many_series().assign(price=lambda d: np.arange(len(d)) % 7.0)
    df["region"] = np.where(df["unique_id"] < "s0010", "north", "south")
    folder = write_folder(tmp_path / "sales", df)
    fitted = small_forecaster(static_cols=["region"], past_cols=["price"]).fit(folder)
    fitted.save(tmp_path / "model.safetensors")
    out = tmp_path / "out"
    arguments = [str(folder), "--model", str(tmp_path / "model.safetensors"), "--out", str(out)]
    assert main(["forecast", *arguments]) == 0
    close(written(out / "forecast"), fitted.predict(df))
    with pytest.raises(InputError, match="known ahead"):
        small_forecaster(future_cols=["price"]).fit(folder)


def test_series_that_cannot_be_used_are_named_or_left_out_and_counted(tmp_path, model, capsys):
    df = many_series()
    df.loc[df["unique_id"] == "s0007", "y"] = np.inf
    folder = write_folder(tmp_path / "sales", df)
    arguments = ["forecast", str(folder), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "'s0007'" in said
    assert "row" not in said, "a row of a table that nobody has seen"
    assert main([*arguments[:-1], str(tmp_path / "skipped"), "--skip"]) == 0
    assert "1 series cannot be used" in " ".join(capsys.readouterr().err.split())
    found = written(tmp_path / "skipped" / "forecast")
    assert set(found["unique_id"]) == set(df["unique_id"]) - {"s0007"}


def test_a_killed_run_goes_on_without_loss_or_repetition(tmp_path):
    """Killed while it scores: the parts that were there stay as they are, the others are made."""
    folder = write_folder(tmp_path / "sales", many_series(120, 30), files=20)
    small_forecaster().fit(folder).save(tmp_path / "model.safetensors")
    out = tmp_path / "out"
    arguments = [folder, "--model", tmp_path / "model.safetensors", "--out", out]
    code = (
        "import sys; from tidegate.forecast import _folder_out as f; f.PART_ROWS = 60; "
        "from tidegate.cli import main; sys.exit(main())"
    )
    run = command("forecast", *arguments, code=code)
    while len(list(out.glob("forecast/part-*.parquet"))) < 5:
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = {p: p.stat().st_mtime_ns for p in out.glob("forecast/part-*.parquet")}
    resumed = command("forecast", *arguments, "--resume", code=code)
    said = resumed.communicate()
    assert resumed.returncode == 0, said
    assert {p: p.stat().st_mtime_ns for p in before} == before, "a part was written again"
    assert 5 <= len(before) < len(list(out.glob("forecast/part-*.parquet")))
    fitted = GRUForecaster.load(tmp_path / "model.safetensors")
    close(written(out / "forecast"), fitted.predict(many_series(120, 30)))


def test_a_training_that_was_killed_goes_on(tmp_path, sales):
    class Stop(Exception):
        pass

    def stop(number, p):
        if number == 1 and p.step > 12:
            raise Stop

    with pytest.raises(Stop):
        small_forecaster().fit(sales, checkpoint=tmp_path / "fit", progress=stop)
    told = []
    resumed = small_forecaster().fit(
        sales,
        checkpoint=tmp_path / "fit",
        resume=True,
        progress=lambda number, p: told.append(number),
    )
    assert set(told) == {1}, "the trial was trained again"
    again = small_forecaster().fit(sales)
    pd.testing.assert_frame_equal(resumed.predict(many_series()), again.predict(many_series()))


def changed(tmp_path, model, change) -> list[str]:
    """A command that goes on with forecasts of other data than they were begun with."""
    folder, out = write_folder(tmp_path / "sales", many_series()), tmp_path / "out"
    arguments = ["forecast", str(folder), "--model", str(model), "--out", str(out)]
    assert main(arguments) == 0
    change(folder, out / "forecast")
    return [*arguments, "--resume"]


def add_series(folder, forecasts):
    rest = many_series(30)
    write_folder(folder, rest[rest["unique_id"] > "s0024"].assign(y=1.0), files=1)


def damage_manifest(folder, forecasts):
    (forecasts / "_manifest.json").write_text("{")


def damage_part(folder, forecasts):
    part = forecasts / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])


def other_part(folder, forecasts):
    df = pd.read_parquet(forecasts / "part-00000.parquet")
    df.to_parquet(forecasts / "part-00000.parquet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (add_series, "holds forecasts of other data"),
        (damage_manifest, "_manifest.json is damaged"),
        (damage_part, "part-00000.parquet is damaged"),
        (other_part, "part-00000.parquet is damaged"),
    ],
)
def test_forecasts_of_something_else_are_not_gone_on_with(
    tmp_path, model, capsys, change, sentence
):
    assert main(changed(tmp_path, model, change)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def unsorted(folder):
    write_folder(folder, many_series().iloc[::-1], files=1)


def shared(folder):
    df = many_series()
    write_folder(folder, df, files=1)
    df[df["unique_id"] == "s0003"].to_parquet(folder / "more.parquet", index=False)


def empty(folder):
    folder.mkdir()


def without_rows(folder):
    write_folder(folder, many_series().iloc[:0].assign(unique_id="a"), files=1)


def cut(folder):
    write_folder(folder, many_series(), files=1)
    path = folder / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def no_target(folder):
    write_folder(folder, many_series().rename(columns={"y": "sold"}))


def short(folder):
    write_folder(folder, many_series(6, 2))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (unsorted, "rows must be sorted by 'unique_id'"),
        (shared, "each file needs a range of 'unique_id' of its own"),
        (empty, "has no Parquet file"),
        (without_rows, "has no rows of data"),
        (cut, "is a damaged Parquet file"),
        (no_target, "has no column 'y'; its columns are 'unique_id', 'ds', 'sold'"),
        (short, "too few to learn a horizon of 12 from"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, capsys, make, sentence):
    make(tmp_path / "sales")
    out = tmp_path / "out"
    assert main(["forecast", str(tmp_path / "sales"), "--horizon", "12", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out/**/*.*")), "something was written"


def test_what_a_folder_cannot_have_is_said(tmp_path, sales, model, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["forecast", str(sales), "--tune", "3", "--horizon", "2", *out]) == 2
    assert "--tune searches on a file" in capsys.readouterr().err
    assert main(["forecast", str(sales), "--model", str(model), "--horizon", "2", *out]) == 2
    assert "forecasts 6 steps, not 2" in capsys.readouterr().err
    one = str(sales / "0.parquet")
    assert main(["forecast", one, "--horizon", "2", "--resume", *out]) == 2
    assert "--resume goes on with a folder" in capsys.readouterr().err
