"""Files that other libraries made give what those libraries answered, and go out and in again."""

import json
import zipfile

import numpy as np
import pytest

from format_cases import FILES, MADE, answer, model
from helpers import assert_matches
from runtime_cases import gru_layer, layer_norm, linear
from tidegate.errors import InputError
from tidegate.export import describe, read, write
from tidegate.runtime import GRU, Activation, AddInput, Last, Linear, Model, Stack


@pytest.mark.parametrize("name", FILES)
def test_it_answers_as_the_library_that_made_it(name):
    x, y = answer(name)
    assert_matches(model(name)(x), y)


def in_time(kind, format):
    """Everything but what a format has no layer for."""

    def has(name):
        layers = model(name).stack.layers
        if format in ("rtneural", "guitarml"):
            ends = any(isinstance(x, GRU) and (x.final or len(x.directions) == 2) for x in layers)
            return not ends and not any(isinstance(layer, kind) for layer in layers)
        return not any(isinstance(layer, kind) for layer in layers)

    return has


OUT = [
    ("model.onnx", None, {}, lambda name: True),
    ("model.keras", None, {}, in_time(Last | AddInput, "keras")),
    ("model.safetensors", None, {}, lambda name: True),
]


@pytest.mark.parametrize(("file", "format", "options", "has"), OUT)
@pytest.mark.parametrize("name", FILES)
def test_it_goes_out_and_comes_back_the_same(name, file, format, options, has, tmp_path):
    if not has(name):
        with pytest.raises(InputError, match="has no layer for"):
            write(model(name), tmp_path / file, format)
        return
    x, _ = answer(name)
    first = model(name)
    write(first, tmp_path / file, format)
    back = read(tmp_path / file, format, **options)
    assert back.batch_first == first.batch_first or file == "model.keras"
    back.batch_first = first.batch_first
    assert np.array_equal(back(x), first(x))


@pytest.mark.parametrize("name", ["rtneural.json", "guitarml_noskip.json", "keras_after.keras"])
@pytest.mark.parametrize("format", ["rtneural", "guitarml", "torch"])
def test_audio_and_torch_files_come_back_the_same(name, format, tmp_path):
    first, file = model(name), tmp_path / ("m.safetensors" if format == "torch" else "m.json")
    if format == "guitarml" and name != "guitarml_noskip.json":
        with pytest.raises(InputError, match=r"one nn\.GRU of one direction and a linear layer"):
            write(first, file, format)
        return
    write(first, file, format)
    x, _ = answer(name)
    assert np.array_equal(read(file).stack(x), first.stack(x))


def test_every_layer_of_keras_goes_out_and_comes_back(tmp_path):
    names = ("relu", "tanh", "sigmoid", "softmax", "softplus", "silu", "log_softmax")
    stack = Stack(
        [
            Linear(linear(0, 3, 4).weight),
            layer_norm(1, 4),
            *(Activation(name) for name in names),
            Activation("elu", 0.7),
            Activation("leaky_relu", 0.3),
            gru_layer(2, 4, 5, directions=2, reset="before"),
            gru_layer(3, 10, 3, reverse=True, final=True),
        ]
    )
    first = Model(stack, batch_first=True)
    write(first, tmp_path / "m.keras")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    assert np.array_equal(read(tmp_path / "m.keras")(x), first(x))


def test_layers_of_keras_that_say_the_same_otherwise(tmp_path):
    """An RNN of a GRUCell is a GRU, and functions have layers of their own."""
    functions = [Activation("relu"), Activation("softmax"), Activation("leaky_relu", 0.2)]
    first = Model(Stack([gru_layer(0, 3, 4), *functions]), batch_first=True)
    write(first, tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    _, gru, relu, softmax, leaky = config["config"]["layers"]
    sequence = {"name": "rnn", "return_sequences": gru["config"].pop("return_sequences")}
    gru["config"], gru["class_name"] = {"cell": {**gru, "class_name": "GRUCell"}, **sequence}, "RNN"
    relu |= {"class_name": "ReLU", "config": {"name": "a", "negative_slope": 0.0}}
    softmax |= {"class_name": "Softmax", "config": {"name": "b", "axis": -1}}
    leaky |= {"class_name": "ReLU", "config": {"name": "c", "negative_slope": 0.2}}
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.replace(b"gru\0", b"rnn\0"))
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    assert np.array_equal(read(tmp_path / "m.keras")(x), first(x))


def test_a_description_names_each_layer():
    said = describe(model("keras_stack.keras"))
    assert said == (
        "bidirectional GRU 3 to 4 (reset after the product), GRU 8 to 3 (reset after the product, "
        "final state), Linear 3 to 2, softmax"
    )


REFUSED = [
    ("keras_hard.keras", {}, r"hard_sigmoid, by which old files mean clip\(0.2 x \+ 0.5\)"),
    ("keras_mask.keras", {}, "a mask of Keras may have holes"),
    ("keras_weights.weights.h5", {}, "weights alone.* give config"),
    ("tf2onnx_loop.onnx", {}, "has no GRU node; it has .*Loop"),
    ("torch_state.safetensors", {}, "modules gru, head, and a state_dict says neither .* gru,head"),
    ("torch_state.pt", {"layers": ["gru", "hat"]}, "'hat', which is none of its modules gru, head"),
    ("torch_numbers.json", {}, "neither their order nor what is between"),
    ("keras_weights.json", {}, "JSON of a layout that is not known .*; known are RTNeural's"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_what_cannot_be_carried_exactly_is_refused_in_a_sentence(name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        read(MADE / name, **options)
    assert "\n" not in str(caught.value)


def test_the_reset_of_before_and_after_is_never_changed(tmp_path):
    for name, reset in (("keras_before.keras", "before"), ("keras_after.keras", "after")):
        write(model(name), tmp_path / "m.onnx")
        read_back = read(tmp_path / "m.onnx")
        assert [layer.directions[0].reset for layer in read_back.stack.recurrent] == [reset]
    with pytest.raises(InputError, match=r"torch\.nn\.GRU cannot run with reset 'before'"):
        write(model("keras_before.keras"), tmp_path / "m.safetensors", "torch")
