"""`tidegate inspect`: the page of a saved model, and what bad input gets."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tidegate import runtime
from tidegate.cli import main
from tidegate.forecast import GRUForecaster
from tidegate.inspect import gates
from tidegate.inspect._stack_model import StackModule, look_into
from tidegate.weights import GRUWeights


def sales() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    months = pd.date_range("2020-01-01", periods=36, freq="MS").strftime("%Y-%m-%d")
    return pd.DataFrame({"ds": months, "y": 50 + np.arange(36) + rng.normal(size=36)})


def weights(features, units, seed, reset="after"):
    rng = np.random.default_rng(seed)
    rows = units * (2 if reset == "none" else 3)
    shapes = ((rows, features), (rows, units), (rows,), (rows,))
    return GRUWeights(*(rng.uniform(-0.5, 0.5, shape) for shape in shapes), reset=reset)


def a_stack() -> runtime.Stack:
    rng = np.random.default_rng(9)
    return runtime.Stack(
        [
            runtime.LayerNorm(2),
            runtime.GRU((weights(2, 4, 0), weights(2, 4, 1))),
            runtime.Linear(rng.normal(size=(3, 8)), rng.normal(size=3)),
            runtime.Activation("elu", 0.7),
            runtime.GRU((weights(3, 2, 2, "before"),)),
            runtime.AddInput(2),
            runtime.Last(),
        ]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    sales().to_csv(folder / "sales.csv", index=False)
    model = GRUForecaster(horizon=3, steps=10, hidden_size=5).fit(sales())
    model.save(folder / "forecaster.safetensors")
    runtime.Model(a_stack()).save(folder / "stack.safetensors")
    numbers = np.random.default_rng(1).normal(size=(30, 2))
    np.savetxt(folder / "numbers.csv", numbers, delimiter=",", header="a,b", comments="")
    return folder


def test_a_forecaster_that_reads_covariates_gets_a_page(tmp_path, capsys):
    df = sales().assign(rain=np.arange(36.0), promo=np.arange(36) % 2)
    df.to_csv(tmp_path / "sales.csv", index=False)
    roles = {"past_cols": ("rain",), "future_cols": ("promo",)}
    GRUForecaster(horizon=3, steps=1, hidden_size=5, **roles).fit(df).save(tmp_path / "m")
    given = ["--input", str(tmp_path / "sales.csv"), "--out", str(tmp_path / "page.html")]
    assert main(["inspect", str(tmp_path / "m"), *given]) == 0, capsys.readouterr().err


@pytest.fixture
def here(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_forecaster_gets_a_page(here, capsys):
    model, input = str(here / "forecaster.safetensors"), str(here / "sales.csv")
    assert main(["inspect", model, "--input", input, "--out", "new/page.html"]) == 0
    said = capsys.readouterr()
    assert "Written to new/page.html" in said.out
    assert "The gradient" in said.out
    page = Path("new/page.html").read_text("utf-8")
    assert "A forecaster of 3 steps" in page
    assert "<h2>Training</h2>" in page  # the file keeps how it went
    assert os.listdir("new") == ["page.html"]


def test_a_stack_gets_a_page(here, capsys):
    model, input = str(here / "stack.safetensors"), str(here / "numbers.csv")
    assert main(["inspect", model, "--input", input, "--title", "My stack"]) == 0
    assert "<title>My stack</title>" in Path("report.html").read_text("utf-8")


def test_a_stack_in_torch_computes_what_the_runtime_computes():
    x = np.random.default_rng(3).normal(size=(2, 7, 2))
    stack = a_stack()
    wanted = runtime.Model(stack, batch_first=True)(x)
    with torch.no_grad():
        actual = StackModule(stack).double()(torch.from_numpy(x))
    np.testing.assert_allclose(actual.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_stack_that_gives_probabilities_shows_the_likeliest(name):
    head = runtime.Linear(np.random.default_rng(5).normal(size=(3, 4)))
    layers = [runtime.GRU((weights(2, 4, 3, "after"),)), head, runtime.Activation(name)]
    model = runtime.Model(runtime.Stack(layers), batch_first=True)
    x = np.random.default_rng(6).normal(size=(5, 2))
    (choices,) = look_into(model, x, "file").outcomes
    answers = model(x[None])[0]
    answers = np.exp(answers) if name == "log_softmax" else answers
    assert [c.step for c in choices] == [0, 1, 2, 3, 4]
    for found, wanted in zip(choices, answers, strict=True):
        assert found.names[0] == f"class {wanted.argmax()}"
        np.testing.assert_allclose(found.chances, np.sort(wanted)[::-1], atol=1e-6)


def test_tokens_of_a_stack_are_embedded_and_its_layers_named():
    table = np.random.default_rng(4).normal(size=(6, 3))
    layers = [runtime.Embedding(table), runtime.GRU((weights(3, 4, 5, "none"),), final=True)]
    model = runtime.Model(runtime.Stack(layers), batch_first=True)
    tokens = np.array([0, 5, 2])
    found = gates(look_into(model, tokens, "file"))
    assert [layer.name for layer in found.layers] == ["gru1.l0"]
    np.testing.assert_allclose(found[0].state[-1, 0], model(tokens[None])[0], atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.safetensors", "--input", "{}/sales.csv"], "there is no such file"),
        (["{}/sales.csv", "--input", "{}/sales.csv"], "sales.csv"),
        (["{}/forecaster.safetensors", "--input", "missing.csv"], "there is no such file"),
        (["{}/forecaster.safetensors", "--input", "{}/numbers.csv"], "ds"),
        (["{}/stack.safetensors", "--input", "{}/sales.csv"], "is no number"),
        (["{}/stack.safetensors", "--input", "{}/numbers.csv", "--out", "{}"], "is a folder"),
        (
            ["{}/stack.safetensors", "--input", "{}/numbers.csv", "--out", "{}/sales.csv/a.html"],
            "is a file, not a folder",
        ),
    ],
)
def test_bad_input_gets_one_sentence(here, capsys, arguments, sentence):
    before = sorted(os.listdir(here))
    assert main(["inspect", *(argument.format(here) for argument in arguments)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.startswith("tidegate: ")
    assert said.err.count("\n") == 1
    assert sorted(os.listdir(here)) == before
    assert os.listdir() == []


def test_a_stack_without_a_gru_or_backward_alone_is_refused(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("1\n2\n")
    linear = runtime.Stack([runtime.Linear(np.ones((1, 1)))])
    backward = runtime.Stack([runtime.GRU((weights(1, 2, 0),), reverse=True)])
    for stack, sentence in ((linear, "holds no GRU"), (backward, "reads backward only")):
        runtime.Model(stack).save(tmp_path / "m.safetensors")
        path = str(tmp_path / "m.safetensors")
        assert main(["inspect", path, "--input", str(tmp_path / "x.csv")]) == 2
        assert sentence in capsys.readouterr().err
