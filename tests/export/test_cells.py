"""Cells of every layout go out and in, alone or numbered; where their order is not said, not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_matches
from runtime_cases import gru_layer, linear
from tidegate.errors import InputError
from tidegate.export import LAYOUTS, read, read_cells, write_cells
from tidegate.runtime import Model, Stack

RESETS = {"tf1": "before", "ng": "before"}
size = st.integers(1, 7)


def stack_for(layout, seed, features, hidden, layers):
    reset = RESETS.get(layout, "after")
    made, width = [], features
    for number in range(layers):
        layer = gru_layer(seed + number, width, hidden, reset=reset)
        if layout == "nnx":
            layer.directions[0].bias_hh[2 * hidden :] = 0  # it has no place for them
        made.append(layer)
        width = hidden
    return Model(Stack(made))


@pytest.mark.parametrize("ending", ["npz", "safetensors", "eqx"])
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**20), features=size, hidden=size, layers=st.integers(1, 12))
def test_out_and_in(layout, ending, seed, features, hidden, layers, tmp_path_factory):
    if ending == "eqx" and layout != "equinox":
        return
    file = tmp_path_factory.mktemp("cells") / f"m.{ending}"
    model = stack_for(layout, seed, features, hidden, layers)
    write_cells(model, file, layout=layout)
    needed = {"reset": "after"} if layout == "stacked" else {}
    x = np.random.default_rng(seed).standard_normal((5, 2, features)).astype(np.float32)
    for said in (layout, None):
        found = read(file, said, **needed) if said else read(file, **needed)
        assert len(found.stack.layers) == layers
        # A sum of two biases is rounded once more.
        assert_matches(found(x), model(x))


def test_a_head_has_no_place_in_a_cell(tmp_path):
    model = Model(Stack([gru_layer(0, 3, 4), linear(1, 4, 2)]))
    with pytest.raises(InputError, match="flax has cells alone"):
        write_cells(model, tmp_path / "m.npz", layout="flax")


def test_cells_without_numbers_have_no_order(tmp_path):
    model = stack_for("equinox", 0, 4, 4, 2)
    write_cells(model, tmp_path / "m.npz", layout="equinox")
    arrays = {
        name.replace("0/", "encoder/").replace("1/", "decoder/"): array
        for name, array in np.load(tmp_path / "m.npz").items()
    }
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(InputError, match=r"several cells .* that are not numbered"):
        read_cells(tmp_path / "n.npz")


def test_a_bias_inside_the_reset_product_has_no_place_in_nnx(tmp_path):
    with pytest.raises(InputError, match="no bias inside the reset product"):
        write_cells(stack_for("equinox", 0, 3, 4, 1), tmp_path / "m.npz", layout="nnx")
    assert not list(tmp_path.iterdir())


def test_another_layout_than_was_said_is_refused(tmp_path):
    write_cells(stack_for("haste", 0, 3, 4, 1), tmp_path / "m.npz", layout="haste")
    with pytest.raises(InputError, match=r"has .*kernel.* which is no layout that is known"):
        read_cells(tmp_path / "m.npz", layout="equinox")
    with pytest.raises(InputError, match="layout must be one of flax, nnx"):
        read_cells(tmp_path / "m.npz", layout="jax")
