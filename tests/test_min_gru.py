"""minGRU on NumPy arrays: reference, gradients of the reference, laws, every instruction set."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_gradients, assert_matches, double
from tidegate import _kernels, reference
from tidegate.ops import min_gru, min_gru_step

seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 17)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
candidates = pytest.mark.parametrize("candidate", ["linear", "positive"])


def draw(seed, time, batch, features, hidden, dtype=np.float64):
    rng = np.random.default_rng(seed)
    scale = hidden**-0.5
    return (
        rng.standard_normal((time, batch, features)).astype(dtype),
        rng.uniform(-1, 1, (batch, hidden)).astype(dtype),
        rng.uniform(-scale, scale, (2 * hidden, features)).astype(dtype),
        rng.uniform(-scale, scale, 2 * hidden).astype(dtype),
    )


def options_of(seed, time, batch, hidden, keep, ragged, reverse, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shape = {"row": (time, batch), "unit": (time, batch, hidden)}.get(keep)
    return {
        "keep": None if keep is None else rng.uniform(0, 1.2, shape).astype(dtype),
        "lengths": rng.integers(0, time + 1, batch) if ragged else None,
        "reverse": reverse,
    }


@dtypes
@candidates
@given(
    seed=seed,
    time=st.integers(0, 9),
    batch=size,
    features=size,
    hidden=st.integers(1, 70),
    keep=st.sampled_from([None, "row", "unit"]),
    ragged=st.booleans(),
    reverse=st.booleans(),
)
def test_matches_the_reference(
    dtype, candidate, seed, time, batch, features, hidden, keep, ragged, reverse
):
    arguments = draw(seed, time, batch, features, hidden, dtype)
    options = options_of(seed, time, batch, hidden, keep, ragged, reverse, dtype)
    exact = options | {"keep": None if keep is None else options["keep"].astype(np.float64)}
    expected = reference.min_gru(*double(arguments), candidate=candidate, **exact)
    for ours, theirs in zip(
        min_gru(*arguments, candidate=candidate, **options), expected[:2], strict=True
    ):
        assert ours.dtype == dtype
        assert_matches(ours, theirs)


@candidates
@pytest.mark.parametrize("keep", [None, "row", "unit"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_references_gradients_are_those_of_its_results(candidate, keep, reverse):
    x, h_0, weight, bias = draw(1, 4, 3, 2, 3)
    options = options_of(1, 4, 3, 3, keep, True, reverse)
    kept = options.pop("keep")
    rng = np.random.default_rng(2)
    d_output, d_h_n = rng.standard_normal((4, 3, 3)), rng.standard_normal((3, 3))
    options["candidate"] = candidate

    def loss(x, h_0, weight, bias, *keep):
        found = reference.min_gru(x, h_0, weight, bias, keep=keep[0] if keep else None, **options)
        return (found.output * d_output).sum() + (found.h_n * d_h_n).sum()

    found = reference.min_gru_backward(
        x, h_0, weight, bias, d_output=d_output, d_h_n=d_h_n, keep=kept, **options
    )
    arguments = [x, h_0, weight, bias] + ([] if kept is None else [kept])
    assert_gradients(loss, arguments, [g for g in found if g is not None])


@given(seed, st.integers(0, 8))
def test_state_carries_across_a_cut(seed, cut):
    x, h_0, *weights = draw(seed, 8, 2, 3, 19, np.float32)
    whole, _ = min_gru(x, h_0, *weights)
    head, between = min_gru(x[:cut], h_0, *weights)
    tail, _ = min_gru(x[cut:], between, *weights)
    assert np.array_equal(np.concatenate([head, tail]), whole)


@candidates
@given(seed)
def test_steps_make_the_sequence(candidate, seed):
    x, h, *weights = draw(seed, 5, 3, 4, 21, np.float32)
    whole, _ = min_gru(x, h, *weights, candidate=candidate)
    for t in range(5):
        h = min_gru_step(x[t], h, *weights, candidate=candidate)
        assert_matches(h, whole[t].astype(np.float64))


def test_a_gate_that_is_shut_keeps_and_one_that_is_open_takes():
    x, h_0, weight, bias = draw(0, 6, 2, 3, 4)
    weight[:4] = 0
    bias[:4] = -1e3
    output, _ = min_gru(x, h_0, weight, bias)
    assert (output == h_0).all()
    bias[:4] = 1e3
    output, _ = min_gru(x, h_0, weight, bias)
    assert_matches(output, x @ weight[4:].T + bias[4:])


def test_what_is_past_the_end_is_not_read_and_a_row_keeps_its_bits_in_any_company():
    x, h_0, *weights = draw(0, 40, 9, 3, 37, np.float32)
    lengths = np.arange(9) * 5
    x[np.arange(40)[:, None] >= lengths] = np.nan
    for reverse in (False, True):
        found = [
            min_gru(x, h_0, *weights, lengths=lengths, reverse=reverse, threads=threads)
            for threads in (1, 2, 3)
        ]
        for output, h_n in found:
            assert np.isfinite(output).all()
            assert np.array_equal(output, found[0][0])
            assert np.array_equal(h_n, found[0][1])
        alone, _ = min_gru(x[:, 6:7], h_0[6:7], *weights, lengths=lengths[6:7], reverse=reverse)
        assert_matches(alone[:, 0], found[0][0][:, 6].astype(np.float64))


def test_rows_before_steps_and_many_threads_have_the_same_bits():
    """The kernel itself, in either layout and split over units."""
    rng = np.random.default_rng(0)
    time, batch, hidden = 600, 2, 70
    x_gates = rng.standard_normal((time, batch, 2 * hidden)).astype(np.float32)
    results = []
    for rows_first, threads in ((False, 1), (False, 4), (True, 1), (True, 4)):
        x = np.ascontiguousarray(x_gates.swapaxes(0, 1) if rows_first else x_gates)
        output = np.full((batch, time, hidden) if rows_first else (time, batch, hidden), np.nan)
        output = output.astype(np.float32)
        h_n = np.full((batch, hidden), np.nan, np.float32)
        steps = [s // 4 for s in x.strides[:2]][:: -1 if rows_first else 1]
        places = [s // 4 for s in output.strides[:2]][:: -1 if rows_first else 1]
        _kernels.min_gru_forward(
            False, threads, time, batch, hidden, False, False, x.ctypes.data, *steps,
            0, 0, 0, 0, 0, 0, output.ctypes.data, *places, h_n.ctypes.data,
        )  # fmt: skip
        results.append(output.swapaxes(0, 1) if rows_first else output)
    for other in results[1:]:
        assert np.array_equal(other, results[0])


@pytest.mark.parametrize("isa", _kernels.isas())
def test_every_instruction_set_passes(isa):
    names = ["matches_the_reference", "open_takes", "in_any_company", "kernels_gradients"]
    if isa == _kernels.ISA or os.environ.get("TIDEGATE_ISA"):
        pytest.skip("these are the kernels that all other tests run")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k",
         " or ".join(names)],
        env={**os.environ, "TIDEGATE_ISA": isa}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


@dtypes
@candidates
@pytest.mark.parametrize("keep", [None, "row", "unit"])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_kernels_gradients_are_the_references(dtype, candidate, keep, reverse):
    time, batch, hidden = 7, 5, 37
    rng = np.random.default_rng(3)
    arguments = draw(3, time, batch, 2 * hidden, hidden, dtype)
    x, h_0, weight, _ = arguments
    weight[:] = np.eye(2 * hidden, dtype=dtype)  # the product is the input
    bias = np.zeros(2 * hidden, dtype)
    options = options_of(3, time, batch, hidden, keep, True, reverse, dtype)
    kept, lengths = options["keep"], options["lengths"].astype(np.int64)
    d_output = rng.standard_normal((time, batch, hidden)).astype(dtype)
    d_h_n = rng.standard_normal((batch, hidden)).astype(dtype)
    output, _ = min_gru(x, h_0, weight, bias, candidate=candidate, **options)
    d_x = np.full_like(x, np.nan)
    d_h_0 = np.full_like(h_0, np.nan)
    d_keep = np.full_like(output, np.nan)
    per_unit = int(keep == "unit")
    width = hidden if per_unit else 1
    _kernels.min_gru_backward(
        dtype is np.float64, 2, time, batch, hidden, reverse, candidate == "positive",
        x.ctypes.data, batch * 2 * hidden, 2 * hidden, lengths.ctypes.data,
        0 if kept is None else kept.ctypes.data, batch * width, width, per_unit,
        h_0.ctypes.data, output.ctypes.data, batch * hidden, hidden,
        d_output.ctypes.data, batch * hidden, hidden, d_h_n.ctypes.data,
        d_x.ctypes.data, batch * 2 * hidden, 2 * hidden, d_h_0.ctypes.data,
        0 if kept is None else d_keep.ctypes.data,
    )  # fmt: skip
    exact = options | {"keep": None if kept is None else kept.astype(np.float64)}
    expected = reference.min_gru_backward(
        *double((x, h_0, weight, bias)),
        d_output=d_output.astype(np.float64),
        d_h_n=d_h_n.astype(np.float64),
        candidate=candidate,
        **exact,
    )
    assert_matches(d_x, expected.x)
    assert_matches(d_h_0, expected.h_0)
    if kept is not None:
        ours = d_keep.sum(2) if keep == "row" else d_keep
        assert_matches(ours, expected.keep, scale=hidden**0.5 if keep == "row" else 1.0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"weight": np.ones((3, 2))}, "two gates of equal size, not 3 rows"),
        ({"x": np.ones((2, 1, 3))}, r"x must have shape \(\*, \*, 2\)"),
        ({"h_0": np.ones((1, 3))}, "h_0 must have shape"),
        ({"candidate": "tanh"}, "candidate must be 'linear' or 'positive'"),
        ({"lengths": np.array([3])}, r"lengths\[0\] must be from 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(change, error):
    good = {"x": np.ones((2, 1, 2)), "h_0": None, "weight": np.ones((4, 2))}
    with pytest.raises(ValueError, match=error):
        min_gru(**good | change)


@pytest.mark.parametrize("name", ["x", "h_0", "bias", "keep"])
def test_another_dtype_is_refused_by_name(name):
    given = {"x": np.ones((2, 1, 2)), "h_0": np.ones((1, 2)), "weight": np.ones((4, 2))}
    given |= {"bias": np.ones(4), "keep": np.ones((2, 1))}
    with pytest.raises(TypeError, match=f"{name} must be float64, as weight is, not float32"):
        min_gru(**given | {name: given[name].astype(np.float32)})
