"""Files that other libraries made give what those libraries answered, and go out and in again."""

import numpy as np
import pytest

from format_cases import FILES, MADE, answer, model
from helpers import assert_matches
from tidegate.errors import InputError
from tidegate.export import describe, read, write
from tidegate.runtime import GRU, AddInput, Last


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
