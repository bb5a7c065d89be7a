"""The C header: compiled by gcc without a warning, it computes what the runtime does."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from runtime_cases import RESETS, embedding, gru_layer, layer_norm, linear
from tidegate.cli import main
from tidegate.errors import InputError
from tidegate.export import write
from tidegate.runtime import Activation, AddInput, Last, Model, Stack
from tidegate.runtime._layers import ACTIVATIONS

FLAGS = [
    "-std=c99",
    "-pedantic",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wconversion",
    "-Wdouble-promotion",
    "-Wshadow",
    "-O2",
    "-ffreestanding",
]
NUMBERS = """
#include "model.h"
#include <stdio.h>
int main(void) {
  static model_state state;
  float x[MODEL_INPUTS], y[MODEL_OUTPUTS];
  model_begin(&state);
  while (fread(x, sizeof x, 1, stdin) == 1) {
    if (model_step(&state, x, y)) y[0] = -1e30f;
    fwrite(y, sizeof y, 1, stdout);
  }
  return 0;
}
"""
SYMBOLS = NUMBERS.replace("float x[MODEL_INPUTS], y", "int32_t x; float y")
SYMBOLS = SYMBOLS.replace("fread(x, sizeof x", "fread(&x, sizeof x")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


def compiled(stack, folder, program=NUMBERS):
    """The program around the header, and what it answers to bytes."""
    write(Model(stack), folder / "model.h")
    (folder / "main.c").write_text(program)
    command = ["gcc", *FLAGS, "main.c", "-o", "main", "-nodefaultlibs", "-lc", "-lgcc"]
    subprocess.run(command, cwd=folder, check=True)

    def answer(x: np.ndarray) -> np.ndarray:
        run = subprocess.run([folder / "main"], input=x.tobytes(), capture_output=True, check=True)
        return np.frombuffer(run.stdout, np.float32).reshape(len(x), -1)

    return answer


@pytest.mark.parametrize("reset", RESETS)
def test_it_computes_what_the_runtime_does(tmp_path, reset):
    stack = Stack(
        [
            gru_layer(0, 3, 33, reset=reset),
            layer_norm(1, 33),
            gru_layer(1, 33, 8, reset=reset),
            linear(2, 8, 3),
            AddInput(3),
        ]
    )
    x = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)
    y = compiled(stack, tmp_path)(x)
    np.testing.assert_allclose(y, Model(stack).stream().run(x), rtol=0, atol=1e-5)


def test_every_activation_computes_what_the_runtime_does(tmp_path):
    x = np.linspace(-30, 30, 4001, dtype=np.float32)[:, None]
    x = np.concatenate([x, x / 30, x * 4])
    for name in ACTIVATIONS:
        spread = linear(0, 1, 3)
        stack = Stack([spread, Activation(name, 0.3)])
        y, expected = compiled(stack, tmp_path)(x), Model(stack).stream().run(x)
        error = np.abs(y - expected) / np.maximum(1, np.abs(expected))
        assert error.max() < 1e-6, name


def test_symbols(tmp_path):
    stack = Stack([embedding(0, 7, 4), gru_layer(0, 4, 9), Last(), linear(1, 9, 7)])
    x = np.random.default_rng(0).integers(0, 7, 500).astype(np.int32)
    answer = compiled(stack, tmp_path, SYMBOLS)
    expected = Model(stack).stream().run(x)
    np.testing.assert_allclose(answer(x), expected, rtol=0, atol=1e-5)
    wrong = np.array([3, 7, -1, 5], np.int32)
    refused = answer(wrong)
    assert (refused[[1, 2], 0] == np.float32(-1e30)).all()
    going_on = Model(stack).stream().run(wrong[[0, 3]])
    np.testing.assert_allclose(refused[[0, 3]], going_on, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_changes_nothing(tmp_path, value):
    stack = Stack([gru_layer(0, 2, 5)])
    x = np.array([[1, 2], [value, 0], [3, 4]], np.float32)
    y = compiled(stack, tmp_path)(x)
    assert y[1, 0] == np.float32(-1e30)
    np.testing.assert_allclose(y[[0, 2]], Model(stack).stream().run(x[[0, 2]]), atol=1e-5)


def test_it_needs_no_library(tmp_path):
    stack = Stack([gru_layer(0, 2, 5), layer_norm(0, 5), Activation("log_softmax")])
    write(Model(stack), tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text("ascii")
    assert re.findall(r"#include (.*)", text) == ["<stdint.h>"]
    (tmp_path / "use.c").write_text(
        '#include "model.h"\nint use(model_state *s, const float *x, float *y);\n'
        "int use(model_state *s, const float *x, float *y) { return model_step(s, x, y); }\n"
    )
    subprocess.run(["gcc", *FLAGS, "-c", "use.c"], cwd=tmp_path, check=True)
    names = subprocess.run(
        ["nm", "use.o"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    undefined = re.findall(r" U (\w+)", names.stdout)
    assert set(undefined) <= {"memset", "memcpy"}  # what a freestanding compiler may put in


def test_two_headers_live_in_one_program_and_names_become_identifiers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Model(Stack([gru_layer(0, 2, 5)])).save("a.safetensors")
    for name in ("first-model", "2nd", "int"):
        assert main(["convert", "a.safetensors", f"{name}.h"]) == 0
    includes = "".join(f'#include "{name}.h"\n' for name in ("first-model", "2nd", "int"))
    body = "".join(f"  {n}_state {n}; {n}_begin(&{n});\n" for n in ("first_model", "model_2nd"))
    (tmp_path / "main.c").write_text(f"{includes}int main(void) {{\n{body}  return 0;\n}}\n")
    subprocess.run(["gcc", *FLAGS[:-1], "main.c", "-o", "main"], check=True)


def test_what_cannot_be_said_in_c_is_refused(tmp_path):
    broken = gru_layer(0, 3, 4)
    broken.directions[0].weight_hh[0, 0] = np.nan
    for stack, sentence in [
        (Stack([gru_layer(0, 3, 4, directions=2)]), "reads backward"),
        (Stack([gru_layer(0, 3, 4, np.float64)]), "float32 weights, and the model's are float64"),
        (Stack([broken]), "0.weight_hh has numbers that are not finite"),
    ]:
        with pytest.raises(InputError, match=sentence):
            write(Model(stack), tmp_path / "model.h")
    assert not list(tmp_path.iterdir())
