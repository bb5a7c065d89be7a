import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_matches, double, gru_inputs
from tidegate import reference
from tidegate.ops import Stepper, gru, gru_step, pack_gru

seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 17)
resets = pytest.mark.parametrize("reset", ["after", "before", "none"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@resets
@dtypes
@given(
    seed=seed,
    time=st.integers(0, 9),
    batch=size,
    features=size,
    hidden=size,
    keep=st.sampled_from([None, "row", "unit"]),
    masked=st.booleans(),
    ragged=st.booleans(),
    reverse=st.booleans(),
    threads=st.sampled_from([None, 1, 2]),
)
def test_matches_the_reference(
    dtype, reset, seed, time, batch, features, hidden, keep, masked, ragged, reverse, threads
):
    arguments = gru_inputs(seed, time, batch, features, hidden, dtype, reset)
    rng = np.random.default_rng(seed)
    keep_shape = {"row": (time, batch), "unit": (time, batch, hidden)}.get(keep)
    keep = None if keep is None else rng.uniform(0, 1.2, keep_shape).astype(dtype)
    mask = rng.uniform(0, 1.2, (batch, hidden)).astype(dtype) if masked else None
    lengths = rng.integers(0, time + 1, batch) if ragged else None
    options = {"reset": reset, "lengths": lengths, "reverse": reverse}
    expected = reference.gru(
        *double(arguments),
        keep=None if keep is None else keep.astype(np.float64),
        mask=1.0 if mask is None else mask.astype(np.float64),
        **options,
    )
    results = gru(*arguments, keep=keep, mask=mask, return_gates=True, threads=threads, **options)
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.dtype == dtype
        assert_matches(ours, theirs)


@resets
@given(seed, size, size, size)
def test_a_step_is_a_sequence_of_one(reset, seed, batch, features, hidden):
    x, h_0, *weights = gru_inputs(seed, 1, batch, features, hidden, np.float32, reset)
    before = h_0.copy()
    h = gru_step(x[0], h_0, pack_gru(*weights, reset=reset))
    assert np.array_equal(h, gru(x, h_0, *weights, reset=reset)[1])
    assert np.array_equal(h_0, before)


@given(seed, st.integers(0, 12))
def test_state_carries_across_a_cut(seed, cut):
    x, h_0, *weights = gru_inputs(seed, time=12, batch=2, features=3, hidden=5)
    whole, h_n = gru(x, h_0, *weights)
    head, h_cut = gru(x[:cut], h_0, *weights)
    tail, h_end = gru(x[cut:], h_cut, *weights)
    assert np.array_equal(np.concatenate((head, tail)), whole)
    assert np.array_equal(h_end, h_n)


def test_arrays_of_any_strides_are_read_as_they_look():
    x, h_0, *weights = gru_inputs(0, time=6, batch=4, features=3, hidden=5)
    expected, _ = gru(x, h_0, *weights)
    transposed = [np.asfortranarray(array) for array in (x, h_0, *weights)]
    assert np.array_equal(gru(*transposed)[0], expected)
    every_other = np.repeat(x, 2, axis=0)[::2]
    assert np.array_equal(gru(every_other, h_0, *weights)[0], expected)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_lengths_may_be_any_integers(dtype):
    arguments = gru_inputs(0, time=6, batch=4, features=3, hidden=5)
    lengths = [3, 0, 6, 1]
    expected, _ = gru(*arguments, lengths=np.array(lengths))
    assert np.array_equal(gru(*arguments, lengths=np.array(lengths, dtype))[0], expected)
    strided = np.repeat(np.array(lengths, dtype), 2)[::2]
    assert np.array_equal(gru(*arguments, lengths=strided)[0], expected)


def test_a_state_left_out_is_zero_and_so_is_a_bias():
    x, h_0, weight_ih, weight_hh, bias_ih, bias_hh = gru_inputs(0, 4, 2, 3, 5)
    zeros = [np.zeros_like(array) for array in (h_0, bias_ih, bias_hh)]
    expected, _ = gru(x, zeros[0], weight_ih, weight_hh, *zeros[1:])
    assert np.array_equal(gru(x, None, weight_ih, weight_hh)[0], expected)


def test_packed_weights_are_a_copy():
    x, h_0, *weights = gru_inputs(0, 1, 2, 3, 5)
    packed = pack_gru(*weights)
    expected = gru_step(x[0], h_0, packed)
    for array in weights:
        array[:] = np.nan
    assert np.array_equal(gru_step(x[0], h_0, packed), expected)


@resets
@pytest.mark.parametrize("threads", [1, 2])
@given(seed, size, size, size)
def test_a_stepper_gives_the_bits_of_the_sequence(reset, threads, seed, batch, features, hidden):
    x, h_0, *weights = gru_inputs(seed, 4, batch, features, hidden, np.float32, reset)
    _, _, *above = gru_inputs(seed + 1, 4, batch, hidden, 7, np.float32, reset)
    stepper = Stepper([pack_gru(*w, reset=reset) for w in (weights, above)], batch, threads)
    stepper.states[0][:] = h_0
    steps = np.stack([stepper.step(row).copy() for row in x])
    below, _ = gru(x, h_0, *weights, reset=reset)
    assert np.array_equal(steps, gru(below, None, *above, reset=reset)[0])


@pytest.mark.parametrize(("storage", "digits"), [("bfloat16", 2**-8), ("int8", 1 / 127)])
def test_narrow_weights_are_near(storage, digits):
    x, h_0, *weights = gru_inputs(0, 1, 3, 20, 40, np.float32)
    exact, narrow = (
        gru_step(x[0], h_0, pack_gru(*weights, storage=s)) for s in ("native", storage)
    )
    error = np.abs(exact - narrow).max()
    assert 0 < error < digits
    with pytest.raises(TypeError, match="float32 weights"):
        pack_gru(*(w.astype(np.float64) for w in weights), storage=storage)
    with pytest.raises(ValueError, match="storage must be"):
        pack_gru(*weights, storage="int4")


def test_a_stepper_refuses_what_does_not_fit():
    _, _, *weights = gru_inputs(0, 1, 2, 3, 5)
    packed = pack_gru(*weights)
    with pytest.raises(ValueError, match=r"x must have shape \(2, 3\), not \(2, 4\)"):
        Stepper([packed], 2).step(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="each layer must take what the one before gives"):
        Stepper([packed, packed])
    with pytest.raises(ValueError, match="one layer or more"):
        Stepper([])


def test_a_stepper_of_several_threads_goes_on_after_a_fork():
    _, _, *weights = gru_inputs(0, 1, 4, 512, 512, np.float32)
    stepper, x = Stepper([pack_gru(*weights)], 4, threads=2), np.ones((4, 512), np.float32)
    expected = stepper.step(x).copy()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        stepper.states[0][:] = 0
        os._exit(0 if np.array_equal(stepper.step(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


WRONG_SHAPES = {
    "x": ((4, 2, 9), r"x must have shape \(\*, \*, 3\), not \(4, 2, 9\)"),
    "h_0": ((3, 5), r"h_0 must have shape \(2, 5\), not \(3, 5\)"),
    "weight_ih": ((14, 3), r"weight_ih must have shape \(15, \*\), not \(14, 3\)"),
    "weight_hh": ((15,), r"weight_hh must have shape \(\*, \*\), not \(15,\)"),
    "bias_ih": ((15, 1), r"bias_ih must have shape \(15,\), not \(15, 1\)"),
    "bias_hh": ((10,), r"bias_hh must have shape \(15,\), not \(10,\)"),
    "keep": ((4, 3), r"keep must have shape \(4, 2\), not \(4, 3\)"),
    "mask": ((2, 4), r"mask must have shape \(2, 5\), not \(2, 4\)"),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_a_wrong_shape_is_refused_by_name(name):
    shape, message = WRONG_SHAPES[name]
    arguments = gru_inputs(0, 4, 2, 3, 5)._asdict()
    with pytest.raises(ValueError, match=message):
        gru(**arguments | {name: np.zeros(shape)})


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_another_dtype_is_refused_by_name(name):
    arguments = gru_inputs(0, 4, 2, 3, 5)._asdict()
    arguments |= {"keep": np.ones((4, 2)), "mask": np.ones((2, 5))}
    named = "weight_ih" if name == "weight_hh" else name  # weight_hh says what the rest must be
    with pytest.raises(TypeError, match=f"{named} must be float(32|64), as weight_hh is"):
        gru(**arguments | {name: arguments[name].astype(np.float32)})
    with pytest.raises(TypeError, match=f"{name} must be float32 or float64, not int64"):
        gru(**arguments | {name: arguments[name].astype(np.int64)})


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([1, 5], ValueError, r"lengths\[1\] must be from 0 to 4, not 5"),
        ([-1, 4], ValueError, r"lengths\[0\] must be from 0 to 4, not -1"),
        ([1], ValueError, r"lengths must have shape \(2,\), not \(1,\)"),
        ([1.0, 2.0], TypeError, "lengths must be integers, not float64"),
    ],
)
def test_wrong_lengths_are_refused(lengths, error, message):
    with pytest.raises(error, match=message):
        gru(*gru_inputs(0, 4, 2, 3, 5), lengths=np.array(lengths))


def test_an_unknown_reset_is_refused():
    with pytest.raises(ValueError, match="reset must be"):
        gru(*gru_inputs(0, 4, 2, 3, 5), reset="later")


def test_the_other_byte_order_is_refused():
    swapped = np.dtype(np.float32).newbyteorder(">" if sys.byteorder == "little" else "<")
    arguments = [array.astype(swapped) for array in gru_inputs(0, 4, 2, 3, 5)]
    with pytest.raises(TypeError, match="must be float32 or float64"):
        gru(*arguments)
