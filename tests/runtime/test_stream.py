"""Streams: each step gives what the whole sequence gives there, whatever happens in between."""

import dataclasses
import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import assert_matches
from runtime_cases import RESETS, embedding, gru_layer, layer_norm, linear, truth
from tidegate import _kernels
from tidegate.errors import InputError
from tidegate.ops import pack_gru
from tidegate.runtime import GRU, Activation, AddInput, Last, Linear, Model, Stack, Stream
from tidegate.runtime._layers import ACTIVATIONS

size = st.integers(1, 35)


def small(dtype=np.float32) -> Stack:
    return Stack([gru_layer(0, 3, 5, dtype), gru_layer(1, 5, 4, dtype), linear(2, 4, 2, dtype)])


def inputs(*shape, seed=0, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def snapshot(stream: Stream) -> tuple[int, list[bytes]]:
    return stream.steps, [state.tobytes() for state in stream.states]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 99),
    batch=size,
    features=size,
    hidden=size,
    outputs=size,
    reset=st.sampled_from(RESETS),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_stream_gives_what_the_sequence_gives(
    seed, batch, features, hidden, outputs, reset, dtype
):
    first = gru_layer(seed, features, hidden, dtype, reset)
    second = gru_layer(seed + 1, hidden, 7, dtype, reset)
    stack = Stack([first, layer_norm(seed, hidden, dtype), second, linear(seed, 7, outputs, dtype)])
    x = inputs(5, batch, features, seed=seed, dtype=dtype)
    stream = Stream(stack, batch)
    y = np.stack([stream.step(step).copy() for step in x])
    assert_matches(y, truth(stack, x), eps=16)
    np.testing.assert_array_equal(Stream(stack, batch).run(x), y)
    assert stream.steps == 5


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_activation_matches_its_equation(name, dtype):
    stack = Stack([linear(0, 9, 19, dtype), Activation(name, 0.3)])
    x = 5 * inputs(4, 3, 9, dtype=dtype)
    assert_matches(Stream(stack, 3).run(x), truth(stack, x))
    far = Stream(Stack([Linear(np.eye(4, dtype=dtype)), Activation(name, 0.3)]))
    assert np.isfinite(far.step([-1e4, -200.0, 200.0, 1e4])).all()


def test_states_have_the_bits_of_the_sequence():
    stack, x = Stack([gru_layer(0, 33, 70, reset="before")]), inputs(40, 3, 33)
    stream = Stream(stack, 3)
    np.testing.assert_array_equal(stream.run(x), stack(x))


def test_a_row_has_the_bits_that_it_has_alone():
    stack = Stack([gru_layer(0, 3, 20), linear(1, 20, 3), Activation("softmax"), linear(2, 3, 40)])
    x = inputs(6, 70, 3)
    many = Stream(stack, 70, threads=2).run(x)
    for row in (0, 31, 32, 69):
        np.testing.assert_array_equal(Stream(stack).run(x[:, row]), many[:, row])


def test_a_step_takes_what_looks_like_numbers():
    stream, x = Stream(small()), [0.5, -1.0, 2.0]
    forms = [
        x,
        tuple(x),
        np.array(x),
        np.array(x, np.float32),
        np.array(x, np.float16),
        np.array([*x, *x])[:3],
        np.array([[a, 0] for a in x])[:, 0],
        np.asfortranarray(np.array([x])),
    ]
    results = []
    for form in forms:
        stream.reset()
        results.append(stream.step(form).reshape(2).copy())
    assert all((result == results[0]).all() for result in results)
    assert stream.step(x).shape == (2,)
    assert stream.step([x]).shape == (1, 2)


def test_one_number_is_enough_where_one_is_read():
    stack = Stack([gru_layer(0, 1, 4), linear(1, 4, 1)])
    results = []
    for x in (0.25, np.float32(0.25), np.array(0.25), [0.25], [[0.25]]):
        results.append(Stream(stack).step(x).item())
    assert len(set(results)) == 1


def test_what_step_returns_is_one_array():
    stream = Stream(small())
    assert stream.step(np.ones(3)) is stream.step(np.zeros(3))


def test_symbols_and_a_connection_around():
    stack = Stack([embedding(0, 9, 4), gru_layer(0, 4, 5), Last(), linear(0, 5, 9)])
    x = np.random.default_rng(0).integers(0, 9, (6, 2))
    y = Stream(stack, 2).run(x)
    for step in range(1, 7):
        assert_matches(y[step - 1], truth(stack, x[:step]))
    assert Stream(stack).step(3).shape == (9,)
    for wrong in (9, -1):
        with pytest.raises(ValueError, match="x must be from 0 to 8"):
            Stream(stack).step(wrong)
        with pytest.raises(ValueError, match="x must be from 0 to 8"):
            Stream(stack).run([wrong])
    around = Stack([gru_layer(0, 3, 2), AddInput(2)])
    numbers = inputs(4, 2, 3)
    assert_matches(Stream(around, 2).run(numbers), truth(around, numbers))


def test_the_state_goes_on_elsewhere():
    stack, x = small(), inputs(20, 3, 3)
    whole = Stream(stack, 3).run(x)
    one, other = Stream(stack, 3), Stream(stack, 3)
    one.run(x[:11])
    other.from_bytes(one.to_bytes())
    assert other.steps == 11
    np.testing.assert_array_equal(other.run(x[11:]), whole[11:])
    third = Stream(stack, 3, hx=one.states)
    np.testing.assert_array_equal(third.run(x[11:]), whole[11:])


def test_the_state_is_not_of_a_model_with_another_reset_gate():
    after = gru_layer(0, 3, 5)
    before = GRU((dataclasses.replace(after.directions[0], reset="before"),))
    state = Stream(Stack([after])).to_bytes()
    with pytest.raises(InputError, match="the state is of a stream of another model"):
        Stream(Stack([before])).from_bytes(state)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    hidden=st.integers(1, 150),
    cut=st.integers(0, 40),
    reset=st.sampled_from(RESETS),
    storage=st.sampled_from(["native", "bfloat16", "int8"]),
)
def test_many_steps_in_a_call_have_the_bits_of_one_by_one(seed, hidden, cut, reset, storage):
    stack = Stack([gru_layer(seed, 3, hidden, reset=reset), linear(1, hidden, 2)])
    x = inputs(40, 3, seed=seed)
    one, many = (Stream(stack, storage=storage) for _ in range(2))
    found = np.concatenate([many.run(x[:cut]), many.run(x[cut:])])
    np.testing.assert_array_equal(found, [one.step(row).copy() for row in x])
    assert snapshot(one) == snapshot(many)


@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_the_state_goes_on_with_other_instructions(tmp_path, isa):
    if isa not in _kernels.isas():
        pytest.skip(f"this machine has no {isa}")
    model, x = Model(small()), inputs(40, 3)
    model.save(tmp_path / "m.safetensors")
    stream = model.stream()
    stream.run(x[:25])
    (tmp_path / "state").write_bytes(stream.to_bytes({"who": "the first"}))
    np.save(tmp_path / "x.npy", x[25:])
    script = f"""
import sys
sys.path[:0] = {sys.path}
import numpy as np
from tidegate import _kernels
from tidegate.runtime import load
stream = load("m.safetensors").stream()
print(_kernels.ISA, stream.from_bytes(open("state", "rb").read()), stream.steps)
np.save("y.npy", stream.run(np.load("x.npy")))
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TIDEGATE_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert process.stdout == f"{isa} {{'who': 'the first'}} 25\n", process.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), stream.run(x[25:]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data[:-1], "damaged"),
        (lambda data: b"", "damaged"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (lambda data: data.replace(b"stream/1", b"stream/2"), "must be tidegate.stream/1"),
        (lambda data: Stream(Stack([gru_layer(9, 3, 5)])).to_bytes(), "of another model"),
        (lambda data: Stream(small(), 2).to_bytes(), "must have shapes"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, sentence):
    stream = Stream(small())
    stream.step([1, 2, 3])
    data = stream.to_bytes()
    stream.step([1, 2, 3])
    before = snapshot(stream)
    with pytest.raises(InputError, match=sentence):
        stream.from_bytes(change(data))
    assert snapshot(stream) == before


def test_reset_puts_rows_back_to_the_beginning():
    stream, x = Stream(small(), 4), inputs(5, 4, 3)
    first = stream.run(x)
    stream.reset([1, 3])
    second = stream.run(x)
    np.testing.assert_array_equal(second[:, [1, 3]], first[:, [1, 3]])
    assert (second[:, [0, 2]] != first[:, [0, 2]]).any()
    stream.reset()
    np.testing.assert_array_equal(stream.run(x), first)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(value):
    stream = Stream(small(), 3)
    stream.run(inputs(4, 3, 3))
    before, x = snapshot(stream), inputs(3, 3)
    x[1, 2] = value
    with pytest.raises(ValueError, match=r"not finite in row 1.*missing=\"skip\""):
        stream.step(x)
    assert snapshot(stream) == before


def test_the_steps_before_one_that_is_refused_were_taken():
    stream, other, x = Stream(small()), Stream(small()), inputs(7, 3)
    other.run(x[:4])
    x[4, 0] = np.nan
    with pytest.raises(ValueError, match="nothing was done from step 4 on"):
        stream.run(x)
    assert snapshot(stream) == snapshot(other)


def test_a_row_that_is_not_finite_is_skipped_alone():
    x = inputs(6, 3, 3)
    holes = x.copy()
    holes[2, 1, 0] = np.nan
    y = Stream(small(), 3, missing="skip").run(holes)
    np.testing.assert_array_equal(y[:, [0, 2]], Stream(small(), 3).run(x)[:, [0, 2]])
    assert np.isnan(y[2, 1]).all()
    without = np.delete(x[:, 1], 2, axis=0)
    np.testing.assert_array_equal(np.delete(y[:, 1], 2, 0), Stream(small()).run(without))


def test_what_is_not_finite_passes_if_asked():
    stream = Stream(small(), missing="pass")
    assert np.isnan(stream.step([np.nan, 0, 0])).all()
    assert np.isnan(stream.step([0, 0, 0])).all()


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_narrow_weights_give_what_they_stand_for(storage):
    stack, x = Stack([gru_layer(0, 3, 40), linear(1, 40, 2)]), inputs(20, 3)
    narrow = Stream(stack, storage=storage).run(x)
    exact = Stream(stack).run(x)
    assert 0 < np.abs(narrow - exact).max() < 0.05
    weights = stack.layers[0].directions[0]
    assert pack_gru(*weights.arrays, storage=storage).kernel.nbytes < 40 * 43 * 3 * 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Stream(small(), 0), "batch and threads must be at least 1, got 0 and 1"),
        (lambda: Stream(small(), threads=0), "batch and threads must be at least 1"),
        (lambda: Stream(small(), missing="maybe"), "missing must be 'refuse', 'skip' or 'pass'"),
        (lambda: Stream(small(), storage="int4"), "storage must be 'native', 'bfloat16' or 'int8'"),
        (lambda: Stream(small(), hx=[np.zeros((1, 5))]), "states must have shapes"),
        (lambda: Stream(Stack([gru_layer(0, 3, 5, reverse=True)])), "reads backward"),
        (lambda: Stream(Stack([gru_layer(0, 3, 5, directions=2)])), "reads backward"),
        (lambda: Stream(small()).step(np.ones(4)), r"shape \(3,\) or \(1, 3\), not \(4,\)"),
        (lambda: Stream(small(), 2).step(np.ones(3)), r"shape \(2, 3\), not \(3,\)"),
        (lambda: Stream(small()).step(0.5), r"shape \(3,\) or \(1, 3\), not \(\)"),
        (lambda: Stream(small()).step("abc"), "x must be numbers, not <U3"),
        (lambda: Stream(small()).step([1j, 0, 0]), "x must be numbers, not complex128"),
        (lambda: Stream(small()).step(None), "x must be numbers, not object"),
        (lambda: Stream(small()).run(np.ones((4, 2))), r"shape \(steps, 1, 3\), not \(4, 2\)"),
        (lambda: Stream(Stack([embedding(0, 9, 4)])).step(0.5), "whole numbers, not float64"),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_fork_goes_on_by_itself():
    stack, x = small(), inputs(12, 64, 3)
    whole = Stream(stack, 64).run(x)
    stream = Stream(stack, 64, threads=2)
    stream.run(x[:6])
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        same = np.array_equal(stream.run(x[6:]), whole[6:])
        os.write(writes, b"1" if same else b"0")
        os._exit(0)
    assert os.read(reads, 1) == b"1"
    os.waitpid(child, 0)
    np.testing.assert_array_equal(stream.run(x[6:]), whole[6:])


def test_threads_have_streams_of_their_own():
    stack, x = Stack([gru_layer(0, 8, 200), linear(1, 200, 2)]), inputs(300, 8)
    expected = Stream(stack).run(x)
    results = {}

    def work(number):
        stream = Stream(stack)
        results[number] = np.stack([stream.step(step).copy() for step in x])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results.values():
        np.testing.assert_array_equal(result, expected)


def test_two_threads_in_one_stream_are_refused():
    stream = Stream(Stack([gru_layer(0, 64, 400)]), 64)
    x, refused, go = inputs(60, 64, 64), [], threading.Barrier(2)

    def work():
        go.wait()
        for _ in range(4):
            try:
                stream.run(x)
            except RuntimeError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert refused
    assert all("give each thread a stream of its own" in sentence for sentence in refused)


def test_a_stream_is_freed():
    stream = Model(small()).stream()
    stream.step([1, 2, 3])
    alive = weakref.ref(stream)
    del stream
    gc.collect()
    assert alive() is None


def test_a_stream_keeps_its_model_alive():
    stream = Stream(Stack([GRU(gru_layer(0, 3, 50).directions), linear(0, 50, 2)]))
    gc.collect()
    np.testing.assert_array_equal(stream.step([0, 0, 0]), Stream(stream.stack).step([0, 0, 0]))
