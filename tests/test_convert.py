"""`tidegate convert`: what is written computes what was read, and narrow numbers are measured."""

import os
import re

import numpy as np
import pytest

from runtime_cases import gru_layer, linear
from tidegate._model_file import read_model
from tidegate.cli import main
from tidegate.runtime import Activation, Model, Stack, load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stack = Stack([gru_layer(0, 3, 16), gru_layer(1, 16, 16), linear(2, 16, 2), Activation("tanh")])
    Model(stack, batch_first=True).save("m.safetensors")
    lines = np.random.default_rng(0).standard_normal((200, 3))
    np.savetxt("x.csv", lines, delimiter=",", header="a,b,c", comments="")
    return tmp_path


@pytest.mark.parametrize(("dtype", "smaller", "apart"), [("bfloat16", 1.5, 1), ("int8", 2, 3)])
def test_narrow_files_are_smaller_and_their_loss_is_measured(folder, capsys, dtype, smaller, apart):
    assert main(["convert", "m.safetensors", "n.safetensors", "--dtype", dtype]) == 0
    sizes = [os.path.getsize(f"{name}.safetensors") for name in "mn"]
    assert sizes[0] > smaller * sizes[1]
    assert set(read_model("n.safetensors").narrow.values()) == {dtype}
    command = ["convert", "m.safetensors", "k.safetensors", "--dtype", dtype, "--check", "x.csv"]
    assert main(command) == 0
    said = capsys.readouterr().out
    percent = float(re.search(r"over 200 steps .* ([\d.e-]+)% of their size", said).group(1))
    assert 0.01 < percent < apart
    x = np.loadtxt("x.csv", delimiter=",", skiprows=1)
    error = load("n.safetensors")(x) - load("m.safetensors")(x)
    rms = [np.sqrt(np.mean(a**2)) for a in (error, load("m.safetensors")(x))]
    assert percent == pytest.approx(100 * rms[0] / rms[1], rel=0.01)


def test_a_copy_is_the_same_and_narrow_numbers_stay_so(folder):
    assert main(["convert", "m.safetensors", "n.safetensors", "--dtype", "bfloat16"]) == 0
    assert main(["convert", "n.safetensors", "k.safetensors"]) == 0
    one, other = read_model("n.safetensors"), read_model("k.safetensors")
    assert one.narrow == other.narrow
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(other.tensors[name], tensor)
    assert main(["convert", "n.safetensors", "w.safetensors", "--dtype", "float32"]) == 0
    assert read_model("w.safetensors").narrow == {}


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["no.safetensors", "n.safetensors"], "no.safetensors: there is no such file"),
        (["m.exe", "n.safetensors"], "m.exe: files that end in .* can be read, but not '.exe'"),
        (["m.safetensors", "n.exe"], "n.exe: files that end in .* can be written, but not '.exe'"),
        (["x.csv", "n.safetensors"], "x.csv: files that end in .*, but not '.csv'"),
        (["m.safetensors", "n.h", "--dtype", "int8"], "--dtype is for a .safetensors file"),
        (["m.safetensors", "n.h", "--check", "x.csv"], "--check is for a .safetensors file"),
        (["m.safetensors", "n.safetensors", "--check", "no.csv"], "no.csv: there is no such file"),
        (["m.safetensors", "n.safetensors", "--check", "m.safetensors"], r"line \d+: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(folder, capsys, tokens, sentence):
    assert main(["convert", *tokens]) == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said)
    assert said.count("\n") == 1


@pytest.mark.parametrize("check", ["no.csv", "m.safetensors"])
def test_what_a_check_refuses_is_not_written(folder, check):
    narrow = ["--dtype", "int8", "--check", check]
    before, listed = (folder / "m.safetensors").read_bytes(), os.listdir()
    for target in ("m.safetensors", "n.safetensors", "new/n.safetensors"):
        assert main(["convert", "m.safetensors", target, *narrow]) == 2
    assert (folder / "m.safetensors").read_bytes() == before
    assert os.listdir() == listed
