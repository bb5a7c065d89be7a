"""`tidegate stream` with each kind of model: what it reads, what it answers, and its state."""

import io
import sys

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from forecast_cases import seasonal_series
from kind_cases import write_models
from language_cases import TEXT
from tidegate.cli import main
from tidegate.runtime import load


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small models of each kind, and what they are run on."""
    folder = tmp_path_factory.mktemp("models")
    return folder, *write_models(folder)


@pytest.fixture
def stream(models, tmp_path, monkeypatch, capfd):
    """Runs the command over a text: output, errors and exit code."""
    monkeypatch.chdir(tmp_path)

    def run(model, text, *options):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        try:
            code = main(["stream", str(models[0] / f"{model}.safetensors"), *options])
        except SystemExit as stopped:
            code = stopped.code
        return *capfd.readouterr(), code

    return run


def table(out: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(out))


def test_series_are_told_apart_and_forecast_from_each_value(stream, models):
    folder, panel, _ = models
    lines = panel.sort_values("ds")  # one of each, by turns
    out, err, code = stream("f", lines.to_csv(index=False), "--levels", "80")
    assert (err, code) == ("", 0)
    found, model = table(out), load(folder / "f.safetensors")
    assert found.unique_id.tolist() == lines.unique_id.tolist()
    steps = range(1, 7)
    names = [f"{name}+{k}" for name in ("GRU", "GRU-lo-80", "GRU-hi-80") for k in steps]
    assert found.columns.tolist() == ["unique_id", "ds", *names]
    for id, mine in found.groupby("unique_id"):
        y = panel.y[panel.unique_id == id].to_numpy()
        for count in (1, 20, len(y)):
            q = model([y[:count]])[0]
            want = q[:, [3, 1, 5]].T.ravel()  # of seven quantiles, two by two around the median
            np.testing.assert_allclose(mine[names].to_numpy()[count - 1], want, rtol=1e-7)


def test_values_alone_need_no_heading(stream, models):
    out, err, _ = stream("f", "5\n6.5\n\n,\n7\n")
    found = pd.read_csv(io.StringIO(out), header=None).to_numpy()
    model = load(models[0] / "f.safetensors")
    np.testing.assert_allclose(found[-1], model([[5, 6.5, 7]])[0][:, 3], rtol=1e-7)
    assert len(found) == 3
    assert "line 3: 0 fields, and no first line named the columns: skipped" in err
    assert "line 4: 2 fields, and no first line named the columns: skipped" in err


def test_what_is_known_ahead_has_columns_for_the_steps_to_come(stream, models):
    promo = np.arange(43) % 3
    lines = pd.DataFrame(
        {"ds": pd.date_range("2024-05-01", periods=40), "y": seasonal_series(1, 40, 7)}
    )
    for k, name in enumerate(("promo", "promo+1", "promo+2")):
        lines[name] = promo[k : k + 40]
    out, err, code = stream("dated", lines.to_csv(index=False))
    assert (err, code) == ("", 0)
    ahead = {"promo": ("future", [promo[:42]])}
    want = load(models[0] / "dated.safetensors")([lines.y], [lines.ds.to_numpy()], ahead)[0][:, 3]
    np.testing.assert_allclose(table(out).to_numpy()[-1, 1:].astype(float), want, rtol=1e-6)
    lines.ds = lines.ds.dt.tz_localize("Asia/Tehran")  # in UTC it is the day before
    local = table(stream("dated", lines.to_csv(index=False))[0])
    np.testing.assert_array_equal(local.to_numpy()[:, 1:], table(out).to_numpy()[:, 1:])


@pytest.mark.parametrize("kind", ["c", "r"])
def test_sequences_are_answered_for_so_far(stream, models, kind):
    folder, _, labels = models
    shuffled = labels.sort_values(["ds", "unique_id"])[["right", "unique_id", "ds", "left", "y"]]
    out, err, code = stream(kind, shuffled.to_csv(index=False))  # by name, in any order
    assert (err, code) == ("", 0)
    found, model = table(out), load(folder / f"{kind}.safetensors")
    names = ["y", "probability", "y=down", "y=up"] if kind == "c" else ["y"]
    assert found.columns.tolist() == ["unique_id", "ds", *names]
    for id, mine in found.groupby("unique_id"):
        x = labels.loc[labels.unique_id == id, ["left", "right"]].to_numpy()
        for count in (1, 3, 8):
            row = mine.iloc[count - 1]
            if kind == "r":
                assert row.y == pytest.approx(model([x[:count]])[0], rel=1e-5)
                continue
            p = model.probabilities([x[:count]])[0]
            np.testing.assert_allclose(row[names[2:]].to_numpy(float), p, rtol=1e-5)
            assert (row.y, row.probability) == (model.classes[p.argmax()], row[names[2:]].max())


def test_texts_are_labelled_and_scored(stream, models):
    out, err, _ = stream("texts", "to and fro\n\nup\n")
    model = load(models[0] / "texts.safetensors")
    assert table(out).y.tolist() == model(["to and fro", "up"]).tolist()
    assert "line 2: an empty text: skipped" in err
    out, _, _ = stream("lm", TEXT[:200])
    found, scored = table(out), load(models[0] / "lm.safetensors").score(TEXT[:200] + "\n")
    assert found.log_prob.sum() == pytest.approx(scored.total, rel=1e-5)
    assert found.tokens.sum() == len(scored.tokens)


@pytest.mark.parametrize("model", ["f", "c", "lm", "texts", "stack"])
def test_a_stream_goes_on_from_its_state(stream, models, model):
    _, panel, labels = models
    table = panel.sort_values("ds") if model == "f" else labels.sort_values("ds")
    columns = ["unique_id", "y"] if model == "f" else ["unique_id", "left", "right"]
    lines = table[columns].head(40).to_csv(index=False).splitlines(keepends=True)
    if model in ("lm", "texts"):
        lines = TEXT.splitlines(keepends=True)[:20]
    whole, _, _ = stream(model, "".join(lines))
    first, _, _ = stream(model, "".join(lines[:15]), "--state", "s")
    again = lines[:1] if model not in ("lm", "texts") else []  # a heading is not counted as bad
    second, err, _ = stream(model, "".join(again + lines[15:]), "--state", "s")
    assert err == "tidegate: s: going on after line 15\n"
    assert first + second == whole


@pytest.mark.parametrize(
    ("model", "text", "options", "sentence"),
    [
        ("f", "unique_id,a,b\nx,1,2\n", [], "no column 'y'; its columns are a, b"),
        ("f", "unique_id,b\nx,2\n", ["--target", "c"], "no column 'c'"),
        ("f", "", ["--levels", "70"], "--levels: the model has bands of 50 80 95, not 70"),
        ("f", "a,y\n1,2\n", ["--id", "place"], "--id: the heading has no column 'place': a, y"),
        ("dated", "1\n", [], "the first line must name the columns, such as ds,y,promo,promo+1,"),
        ("dated", "y,promo\n1,2\n", [], "no column 'promo+1'"),
        ("dated", "y,promo,promo+1,promo+2\n1,2,3,4\n", [], "name theirs with --time"),
        ("c", "left,up\n1,2\n", [], "reads 2 columns: left, right; those of the heading are left"),
        ("both", "", [], "also reads backward"),
        ("stack", "a,b,c\n1,2,3\n", [], "names 3 columns to read, and the model takes 2"),
        ("stack", "", ["--target", "y"], "--target and --levels are for a forecaster, not a stack"),
        ("lm", "", ["--id", "x"], "lines have no columns to name"),
    ],
)
def test_what_does_not_fit_is_said_at_once(stream, model, text, options, sentence):
    out, err, code = stream(model, text, *options)
    assert (out, code) == ("", 2)
    assert sentence in err
    assert err.count("\n") == 1


def test_bad_lines_of_a_table_are_skipped(stream):
    text = (
        "unique_id,ds,y\na,2024-01-01,5\na,2024-02-01,x\na,2024-02-31,5\nb,2024-01-01,\n"
        '"c, d",2024-01-01,6\na,2024-02-01,6\na,2024-03-01,7,8\na,2024-04-05,7\na,2024-01-01,1\n'
    )
    out, err, code = stream("f", text)
    assert table(out).unique_id.tolist() == ["a", "c, d", "a"]
    numbers = [line.split()[2] for line in err.splitlines()]
    assert numbers == ["3:", "4:", "5:", "8:", "9:", "10:"]
    assert code == 0


@pytest.fixture
def check(models, tmp_path, monkeypatch, capsys):
    """Runs `convert --dtype int8 --check` on a text or a table: what is printed last."""
    monkeypatch.chdir(tmp_path)

    def run(model, data):
        if isinstance(data, str):
            (tmp_path / "data").write_text(data)
        else:
            data.to_csv("data", index=False)
        source = str(models[0] / f"{model}.safetensors")
        code = main(["convert", source, "o.safetensors", "--dtype", "int8", "--check", "data"])
        out, err = capsys.readouterr()
        return " ".join(out.split("\n", 1)[1].split()) if code == 0 else err

    return run


def numbers_in(sentence: str, *before: str) -> list[float]:
    """The number that follows each of some words."""
    places = [sentence.index(each) + len(each) for each in before]
    return [float(sentence[place:].split()[0].rstrip("%;,")) for place in places]


def test_the_loss_of_a_forecaster_is_measured_on_its_last_values(check, models):
    folder, panel, _ = models
    before, after, apart = numbers_in(
        check("f", panel), "missed by ", "before and by ", "the medians are "
    )
    y = [panel.y[panel.unique_id == id].to_numpy() for id in ("s0", "s1")]
    truth, misses, found = np.stack([each[-6:] for each in y]), [], []
    for name in (folder / "f.safetensors", "o.safetensors"):
        found.append(load(name)([each[:-6] for each in y])[..., 3])
        misses.append(100 * np.abs(found[-1] - truth).sum() / truth.sum())
    np.testing.assert_allclose([before, after], misses, rtol=1e-3)
    want = 100 * np.abs(found[0] - found[1]).sum() / found[0].sum()
    np.testing.assert_allclose(apart, want, rtol=1e-2)
    assert 0 < apart < 1


@pytest.mark.parametrize("labelled", [True, False])
def test_the_loss_of_a_classifier_is_measured_on_labels(check, models, labelled):
    folder, _, labels = models
    said = check("c", labels if labelled else labels.drop(columns="y"))
    x = [mine[["left", "right"]].to_numpy() for _, mine in labels.groupby("unique_id")]
    p, q = (load(path).probabilities(x) for path in (folder / "c.safetensors", "o.safetensors"))
    (apart,) = numbers_in(said, "the probabilities ")
    np.testing.assert_allclose(apart, np.abs(p - q).max(), rtol=1e-2)
    assert "over 6 sequences" in said
    assert ("are right before and" in said) == labelled


def test_the_loss_of_the_others_is_measured_too(check, models):
    folder, _, labels = models
    said = check("r", labels.assign(y=np.repeat(np.arange(6.0), 8)))
    assert "they miss by " in said
    before, after = numbers_in(check("lm", TEXT[:300]), "characters is ", "before and ")
    for number, path in ((before, folder / "lm.safetensors"), (after, "o.safetensors")):
        assert number == pytest.approx(load(path).perplexity(TEXT[:300]), rel=1e-4)
    assert "of the labels are the same" in check("texts", "t\nto and fro\nup and down\n")
    assert "column 'y'" in check("f", labels)
