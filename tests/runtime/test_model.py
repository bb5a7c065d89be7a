"""Models in files: what is loaded computes what was saved, without torch; damage is refused."""

import subprocess
import sys

import numpy as np
import pytest

from runtime_cases import embedding, gru_layer, layer_norm, linear
from tidegate._model_file import read_model, write_model
from tidegate.errors import InputError
from tidegate.runtime import Activation, AddInput, Last, Model, Stack, load


def every_layer(dtype=np.float32) -> Stack:
    return Stack(
        [
            gru_layer(0, 5, 6, dtype, directions=2),
            layer_norm(0, 12, dtype),
            gru_layer(1, 12, 7, dtype, "none", reverse=True),
            linear(1, 7, 5, dtype),
            Activation("leaky_relu", 0.1),
            AddInput(5),
            gru_layer(2, 5, 4, dtype, "before", final=True),
        ]
    )


@pytest.fixture
def path(tmp_path):
    Model(every_layer(), batch_first=True).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loaded_model_computes_the_same(tmp_path, dtype):
    model = Model(every_layer(dtype), batch_first=True)
    model.save(tmp_path / "m")
    loaded, x = load(tmp_path / "m"), np.random.default_rng(0).standard_normal((3, 8, 5))
    assert loaded.batch_first
    assert loaded.stack.dtype == dtype
    np.testing.assert_array_equal(loaded(x), model(x))


def test_a_loaded_model_of_symbols_computes_the_same(tmp_path):
    model = Model(Stack([embedding(0, 9, 4), gru_layer(0, 4, 5), Last(), linear(0, 5, 9)]))
    model.save(tmp_path / "m")
    x = np.array([[3, 1], [0, 8]])
    np.testing.assert_array_equal(load(tmp_path / "m")(x), model(x))


def changed(facts, change):
    facts = {**facts, "layers": [dict(layer) for layer in facts["layers"]]}
    change(facts)
    return facts


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.pop("layers"), "it lacks 'layers'"),
        (lambda f: f.update(layers=[]), "is of no layer"),
        (lambda f: f.update(layers=7), "damaged"),
        (lambda f: f["layers"][0].update(type="lstm"), "a layer of type 'lstm' is not known"),
        (lambda f: f["layers"][0].update(reset="sometimes"), "reset must be 'after'"),
        (lambda f: f["layers"][0].update(reset="none"), "must have shape"),
        (lambda f: f["layers"][0].pop("type"), "it lacks 'type'"),
        (lambda f: f["layers"][3].update(colour="red"), "damaged"),
        (lambda f: f["layers"][4].update(alpha="steep"), "alpha of a layer of type 'activation'"),
        (lambda f: f["layers"][4].update(name=None), "name of a layer of type 'activation'"),
        (lambda f: f["layers"][5].update(columns=[5]), "columns of a layer of type 'add_input'"),
        (lambda f: f["layers"][5].pop("columns"), "damaged"),
        (lambda f: f["layers"].pop(), r"6\.\w+ is of no layer"),
        (lambda f: f["layers"].pop(0), "is damaged"),
    ],
)
def test_facts_that_do_not_fit_are_refused(path, change, sentence):
    file = read_model(path)
    write_model(path, "stack", file.tensors, changed(file.facts, change))
    with pytest.raises(InputError, match=sentence):
        load(path)


@pytest.mark.parametrize("name", ["0.weight_hh", "0.reverse.bias_ih", "1.weight", "3.weight"])
def test_arrays_that_do_not_fit_are_refused(path, name):
    file = read_model(path)
    for wrong in (file.tensors[name][1:], file.tensors[name].astype(np.int64)):
        write_model(path, "stack", file.tensors | {name: wrong}, file.facts)
        with pytest.raises(InputError, match=r"m\.safetensors is damaged"):
            load(path)


def test_an_unknown_kind_is_refused(path):
    file = read_model(path)
    write_model(path, "weather", file.tensors, file.facts)
    with pytest.raises(InputError, match="holds a weather, and the runtime knows"):
        load(path)


WITHOUT_TORCH = """
import sys
sys.path[:0] = {path}
for name in ("torch", "pandas", "narwhals", "cyclopts", "rich", "matplotlib", "jaxtyping"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
from tidegate.runtime import load
np.save(sys.argv[2], load(sys.argv[1])(np.load(sys.argv[2])))
"""


def test_a_model_runs_where_there_is_no_torch(path, tmp_path):
    x = np.random.default_rng(0).standard_normal((3, 8, 5))
    np.save(tmp_path / "x.npy", x)
    code = WITHOUT_TORCH.format(path=sys.path)
    arguments = [sys.executable, "-c", code, str(path), str(tmp_path / "x.npy")]
    subprocess.run(arguments, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), load(path)(x))
