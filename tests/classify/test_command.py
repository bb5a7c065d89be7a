"""`tidegate classify`: what it writes, what it says, and what bad input gets."""

import os

import numpy as np
import pandas as pd
import pytest

for package in ("torch", "cyclopts", "rich", "pyarrow"):
    pytest.importorskip(package)

from tidegate.classify import GRUClassifier  # noqa: E402
from tidegate.cli import main  # noqa: E402
from tidegate.runtime import load  # noqa: E402


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {"unique_id": i, "ds": range(12), "v": rng.normal(i % 2, 0.3, 12), "y": "ab"[i % 2]}
        )
        for i in range(20)
    ]
    pd.concat(parts).to_csv("long.csv", index=False)
    pd.concat(parts).rename(columns={"y": "kind"}).to_csv("named.csv", index=False)
    wide = pd.DataFrame(rng.normal(size=(20, 6))).assign(y=rng.normal(size=20))
    wide.to_csv("wide.csv", index=False)
    return tmp_path


def test_it_learns_says_how_well_and_labels_new_sequences(folder, capsys):
    assert main(["classify", "long.csv", "--out", "out"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("long.csv: 20 sequences of 12 steps\n")
    assert "On 4 sequences that were held back" in said.out
    assert os.listdir("out") == ["model.safetensors"]
    assert main(["classify", "long.csv", "--model", "out/model.safetensors", "--out", "new"]) == 0
    assert "100.0% of the labels are right" in capsys.readouterr().out
    answers = pd.read_csv("new/answers.csv")
    assert list(answers.columns) == ["unique_id", "y", "probability"]
    assert answers.unique_id.to_list() == list(range(20))
    pd.read_csv("long.csv").drop(columns="y").to_csv("bare.csv", index=False)
    assert main(["classify", "bare.csv", "--model", "out/model.safetensors", "--out", "bare"]) == 0
    assert pd.read_csv("bare/answers.csv").equals(answers)


def test_options_reach_the_model_and_forward_only_can_be_streamed(folder):
    arguments = ["--cell", "mingru", "--forward-only", "--per-step", "--out", "out"]
    assert main(["classify", "long.csv", *arguments]) == 0
    model = GRUClassifier.load("out/model.safetensors")
    assert (model.cell, model.bidirectional, model.per_step) == ("mingru", False, True)
    assert load("out/model.safetensors").stream().step(np.ones((1, 1))).shape == (1, 2)


def test_labels_that_are_not_whole_are_numbers_to_predict(folder, capsys):
    assert main(["classify", "wide.csv", "--out", "out"]) == 0
    assert "of the variance explained" in capsys.readouterr().out
    assert main(["classify", "wide.csv", "--model", "out/model.safetensors"]) == 0
    assert list(pd.read_csv("tidegate-classify/answers.csv").columns) == ["y"]


def test_columns_by_other_names(folder, capsys):
    assert main(["classify", "named.csv", "--label", "kind"]) == 0
    assert main(["classify", "named.csv", "--label", "kin"]) == 2
    assert "has no column 'kin' of labels" in capsys.readouterr().err


def test_answers_are_not_written_over_what_they_answer(folder, capsys):
    assert main(["classify", "long.csv", "--out", "out"]) == 0
    os.rename("long.csv", "answers.csv")
    before = (folder / "answers.csv").read_bytes()
    again = ["classify", "answers.csv", "--model", "out/model.safetensors", "--out", "."]
    assert main(again) == 2
    assert "--out would be written over answers.csv" in capsys.readouterr().err
    assert (folder / "answers.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.csv"], "there is no such file"),
        (["long.csv", "--model", "missing.safetensors"], "there is no such file"),
        (["long.csv", "--model", "long.csv"], "cannot be read as a model"),
        (["one.csv"], "the number of classes has to be greater than one"),
        (["empty.csv"], "data row 2 is empty: a sequence of length 0"),
        (["wide.csv", "--per-step"], "its rows are no steps"),
        (["long.csv", "--id", "uid"], "long.csv has no column 'uid' for the sequences"),
        (["long.csv", "--time", "day"], "long.csv has no column 'day' for the time stamps"),
        (["unlabelled.csv"], "a label is missing: entry 1 of y is empty"),
    ],
)
def test_bad_input_gets_one_sentence_and_nothing_is_written(folder, capsys, arguments, sentence):
    pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0], "y": ["x", "x"]}).to_csv("one.csv")
    (folder / "empty.csv").write_text('text,y\n"abc",1\n"",0\n')
    (folder / "unlabelled.csv").write_text("v,y\n1,a\n2,\n3,b\n")
    assert main(["classify", *arguments, "--out", "out"]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert said.startswith("tidegate: ")
    assert "\n" not in said
    assert not os.path.exists("out")
