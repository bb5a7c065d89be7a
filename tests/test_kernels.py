"""The compiled kernels against the reference, over every size and option, and their laws."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_matches, double, gru_inputs
from kernel_cases import (
    RESETS,
    Case,
    Outputs,
    address,
    check,
    draw,
    expected,
    pack,
    run,
    run_forward,
)
from tidegate import _kernels
from tidegate.reference import gru_step

options = {
    "seed": st.integers(0, 2**32 - 1),
    "dtype": st.sampled_from([np.float32, np.float64]),
    "reset": st.sampled_from(list(RESETS)),
    "directions": st.integers(1, 2),
    "threads": st.integers(1, 3),
    "keep": st.sampled_from([None, "row", "unit"]),
    "masked": st.booleans(),
    "ragged": st.booleans(),
    "layout": st.sampled_from(["time first", "batch first", "spaced", "packed"]),
    "d_layout": st.sampled_from(["time first", "batch first", "spaced"]),
    "biased": st.booleans(),
    "start": st.booleans(),
    "saved": st.booleans(),
    "gated": st.booleans(),
}
small = st.builds(
    Case,
    time=st.integers(0, 12),
    batch=st.integers(1, 70),
    features=st.integers(1, 40),
    hidden=st.integers(1, 70),
    **options,
)
# Few rows of many units: here threads share the units of a row and meet at every step.
wide = st.builds(
    Case,
    time=st.integers(0, 12),
    batch=st.integers(1, 8),
    features=st.integers(1, 40),
    hidden=st.integers(71, 300),
    **options,
)
# Long sequences: these are taken in chunks of steps.
long = st.builds(
    Case,
    time=st.integers(30, 150),
    batch=st.integers(1, 70),
    features=st.integers(1, 20),
    hidden=st.integers(1, 20),
    **options,
)


@given(small)
def test_small_layers_match_the_reference(case):
    check(case)


@given(wide)
def test_wide_layers_match_the_reference(case):
    check(case)


@given(long)
def test_long_sequences_match_the_reference(case):
    check(case)


# So many that the cells of a product are taken in blocks.
MANY_INPUTS = Case(time=30, batch=9, features=1300, hidden=5, saved=False)
FAR = [
    Case(time=3, batch=8, features=20, hidden=450, dtype=np.float64, threads=2),
    Case(time=3, batch=8, features=20, hidden=450, dtype=np.float64, threads=3, reset="before"),
    Case(time=2, batch=70, features=300, hidden=300, threads=2, directions=2, reset="none"),
    Case(time=300, batch=70, features=1, hidden=33, threads=2, saved=False, ragged=True),
    Case(time=60, batch=8, features=9, hidden=299, threads=2, reset="before", saved=False),
    Case(time=60, batch=2, features=9, hidden=299, threads=3, masked=True, ragged=True),
    Case(time=1, batch=1, features=700, hidden=1),
    MANY_INPUTS,
    Case(time=4, batch=1000, features=3, hidden=5, threads=3, ragged=True),
    Case(time=0, batch=3, directions=2),
    Case(time=3, batch=0, threads=2),
    # Long sums over steps and rows, which lose digits unless they are taken in blocks.
    Case(seed=5, time=123, batch=30, features=1, hidden=3, keep="unit", saved=False),
    Case(seed=5, time=400, batch=40, features=1, hidden=3, keep="unit"),
]


@pytest.mark.parametrize("case", FAR, ids=str)
def test_sizes_far_from_the_usual_match_the_reference(case):
    check(case)


def same_bits(a: Outputs, b: Outputs, names: tuple[str, ...] = Outputs._fields) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all(x is y is None or np.array_equal(x, y, equal_nan=True) for x, y in pairs)


# One row whose steps are one thread's, and the products another's.
LED = [
    Case(time=401, batch=1, features=64, hidden=50, threads=2),
    Case(time=401, batch=1, features=67, hidden=48, threads=2, saved=False, ragged=True),
    Case(time=401, batch=1, features=130, hidden=33, threads=2, reset="before", keep="unit"),
    Case(time=401, batch=1, features=99, hidden=40, threads=2, reset="before", saved=False),
    Case(time=401, batch=1, features=250, hidden=31, threads=2, reset="none", masked=True),
    Case(time=401, batch=1, features=65, hidden=64, threads=4, directions=2, gated=True),
    Case(time=401, batch=1, features=80, hidden=52, threads=2, dtype=np.float64, layout="packed"),
]


@pytest.mark.parametrize("case", LED, ids=str)
def test_threads_that_share_the_products_match_the_reference_with_the_bits_of_one(case):
    check(case)
    inputs = draw(case)
    together = run(case, inputs)
    assert same_bits(together, run(replace(case, threads=1), inputs))
    assert all(same_bits(together, run(case, inputs)) for _ in range(5))


ROWS = ("output", "h_n", "gates", "d_x", "d_h_0", "d_keep")  # what belongs to a row


def rows_of(inputs, rows):
    """The inputs of some rows of the batch."""

    def take(array, axis):
        return None if array is None else np.ascontiguousarray(np.take(array, rows, axis))

    return inputs._replace(
        x=take(inputs.x, 1),
        h_0=take(inputs.h_0, 1),
        keep=take(inputs.keep, 1),
        mask=take(inputs.mask, 1),
        lengths=take(inputs.lengths, 0),
        d_output=take(inputs.d_output, 1),
        d_h_n=take(inputs.d_h_n, 1),
        d_gates=take(inputs.d_gates, 2),
    )


@given(st.one_of(small, wide, long), st.data())
def test_a_rows_bits_do_not_depend_on_its_neighbours_nor_on_threads(case, data):
    inputs = draw(case)
    rows = data.draw(st.lists(st.integers(0, case.batch - 1), min_size=1, unique=True).map(sorted))
    few = replace(case, batch=len(rows), threads=data.draw(st.integers(1, 3)))
    together, apart = run(case, inputs), run(few, rows_of(inputs, rows))
    for name in ROWS:
        ours, theirs = getattr(together, name), getattr(apart, name)
        if ours is not None:
            axis = {"gates": 2, "d_keep": 2}.get(name, 1)
            assert np.array_equal(np.take(ours, rows, axis), theirs, equal_nan=True), name


def test_a_rows_bits_do_not_depend_on_the_cells_that_share_a_block():
    inputs = draw(MANY_INPUTS)
    together = run(MANY_INPUTS, inputs)
    apart = run(replace(MANY_INPUTS, batch=1), rows_of(inputs, [8]))
    assert np.array_equal(together.output[:, [8]], apart.output)
    assert np.array_equal(together.d_x[:, [8]], apart.d_x)


@given(st.one_of(small, wide, long), st.data())
def test_chunks_with_carried_state_have_the_bits_of_the_whole(case, data):
    layout = "time first" if case.layout == "packed" else case.layout
    case = replace(case, directions=1, ragged=False, layout=layout)
    cut = data.draw(st.integers(0, case.time))
    inputs = draw(case)

    def piece(steps, h_0, d_h_n):
        def take(array):
            return None if array is None else np.ascontiguousarray(array[steps])

        d_gates = None if inputs.d_gates is None else np.ascontiguousarray(inputs.d_gates[:, steps])
        of_steps = inputs._replace(
            x=take(inputs.x), keep=take(inputs.keep), d_output=take(inputs.d_output)
        )
        cut_case = replace(case, time=len(of_steps.x), start=h_0 is not None)
        return run(cut_case, of_steps._replace(h_0=h_0, d_h_n=d_h_n, d_gates=d_gates))

    whole = run(case, inputs)
    head_h_n = piece(slice(None, cut), inputs.h_0, inputs.d_h_n).h_n
    tail = piece(slice(cut, None), head_h_n, inputs.d_h_n)
    head = piece(slice(None, cut), inputs.h_0, tail.d_h_0)
    assert np.array_equal(np.concatenate((head.output, tail.output)), whole.output)
    assert np.array_equal(tail.h_n, whole.h_n)
    assert np.array_equal(np.concatenate((head.d_x, tail.d_x)), whole.d_x)
    assert np.array_equal(head.d_h_0, whole.d_h_0)


@given(st.one_of(small, wide, long))
def test_a_run_repeats_to_the_bit_and_so_do_gates_that_are_recomputed(case):
    inputs = draw(case)
    once = run(case, inputs)
    assert same_bits(once, run(case, inputs))
    assert same_bits(once, run(replace(case, saved=not case.saved), inputs))


@given(small, st.data())
def test_a_nan_stays_in_its_row(case, data):
    case = replace(case, time=max(case.time, 1))
    inputs = draw(case)
    healthy = run(case, inputs)
    row = data.draw(st.integers(0, case.batch - 1))
    inputs.x[data.draw(st.integers(0, case.time - 1)), row] = np.nan
    ill = run(case, inputs)
    others = np.delete(np.arange(case.batch), row)
    for name in ROWS:
        ours, theirs = getattr(ill, name), getattr(healthy, name)
        if ours is not None:
            axis = {"gates": 2, "d_keep": 2}.get(name, 1)
            ours, theirs = np.take(ours, others, axis), np.take(theirs, others, axis)
            assert np.array_equal(ours, theirs, equal_nan=True), name


def test_a_nan_is_not_lost():
    case = Case(time=4, batch=2)
    inputs = draw(case)
    inputs.x[1, 0] = np.nan
    results = run(case, inputs)
    assert np.isfinite(results.output[0]).all()
    assert np.isnan(results.output[1:, 0]).all()
    assert np.isnan(results.d_weight_ih).any()


def rounded(weight, storage):
    """A matrix as it is after it was stored narrower."""
    if storage == _kernels.STORED_INT8:
        largest = np.abs(weight).max(axis=1, keepdims=True)
        return np.rint(weight * (np.float32(127) / largest)) * (largest / np.float32(127))
    bits = weight.view(np.uint32)
    to_even = np.uint32(0x7FFF) + (bits >> 16 & 1)
    return (bits + to_even & np.uint32(0xFFFF0000)).view(np.float32)


STORAGES = [_kernels.STORED_BFLOAT16, _kernels.STORED_INT8]
narrowable = st.one_of(small, wide).map(
    lambda case: replace(case, dtype=np.float32, saved=False, layout="time first")
)


@pytest.mark.parametrize("storage", STORAGES)
@given(narrowable)
def test_narrow_weights_are_the_same_weights_rounded(storage, case):
    inputs = draw(case)
    wide_weights = pack(case, inputs)
    narrow = [weights.narrow(storage) for weights in wide_weights]
    assert all(a.nbytes < b.nbytes for a, b in zip(narrow, wide_weights, strict=True))
    for arrays in inputs.weights:
        arrays[:2] = [rounded(weight, storage) for weight in arrays[:2]]
    forward, reference = run_forward(case, inputs, narrow), expected(case, inputs)
    # Weights of 8 bits meet a state in 65535 steps of its largest number: 1e-6 was measured, 9 eps.
    # Those of bfloat16 meet numbers of 16 bits where the processor multiplies them by itself.
    eps = 48
    assert_matches(forward.output, reference.output, eps=eps)
    assert_matches(forward.h_n, reference.h_n, eps=eps)


@pytest.mark.parametrize("storage", STORAGES)
@given(narrowable, st.data())
def test_narrow_weights_give_a_row_its_bits_whatever_is_beside_it(storage, case, data):
    case = replace(case, start=True, gated=False)
    inputs = draw(case)
    narrow = [weights.narrow(storage) for weights in pack(case, inputs)]
    row = data.draw(st.integers(0, case.batch - 1))
    alone = replace(case, batch=1, threads=data.draw(st.integers(1, 3)))
    apart = run_forward(alone, rows_of(inputs, [row]), narrow)
    inputs.h_0[:, np.arange(case.batch) != row] = data.draw(st.sampled_from([np.nan, np.inf, 1e30]))
    together = run_forward(case, inputs, narrow)
    assert np.array_equal(together.output[:, row], apart.output[:, 0])
    assert np.array_equal(together.h_n[:, row], apart.h_n[:, 0])


@pytest.mark.parametrize("storage", STORAGES)
def test_narrow_weights_have_the_bits_of_one_thread_where_two_share_the_products(storage):
    case = LED[0]
    inputs = draw(case)
    narrow = [weights.narrow(storage) for weights in pack(case, inputs)]
    together = run_forward(case, inputs, narrow)
    alone = run_forward(replace(case, threads=1), inputs, narrow)
    assert same_bits(together, alone, ("output", "h_n"))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("hidden", [3, 40, 299])
def test_narrow_weights_keep_nan_and_states_over_one(storage, hidden):
    case = Case(time=1, batch=3, hidden=hidden)
    inputs = draw(case)
    narrow = [weights.narrow(storage) for weights in pack(case, inputs)]
    inputs.h_0[0, 0, -1] = np.nan
    inputs.h_0[0, 1] *= 10
    for arrays in inputs.weights:
        arrays[:2] = [rounded(weight, storage) for weight in arrays[:2]]
    found = run_forward(case, inputs, narrow).output[0]
    assert np.isnan(found[0]).all()
    scaled = expected(replace(case, batch=1), rows_of(inputs, [1]))
    assert_matches(found[1], scaled.output[0, 0], eps=400)  # with steps ten times as large


@pytest.mark.parametrize("storage", STORAGES)
def test_narrow_weights_go_forward_only(storage):
    case = Case()
    inputs = draw(case)
    (weights,) = pack(case, inputs)
    narrow = weights.narrow(storage)
    with pytest.raises(ValueError, match="backward"):
        run(case, inputs, [narrow])
    with pytest.raises(ValueError, match="narrow"):
        narrow.narrow(storage)
    with pytest.raises(ValueError, match="narrow"):
        weights.narrow(7)


@pytest.mark.parametrize("reset", list(RESETS))
def test_several_threads_pack_what_one_packs_into_memory_of_other_weights(reset):
    case = Case(time=2, batch=2, features=131, hidden=217, reset=reset)
    inputs = draw(case)
    once = run(case, inputs)
    for threads in (1, 2, 3, 100):
        pack(case, draw(replace(case, seed=1)))  # freed at once; the next has its block
        weights = pack(replace(case, threads=threads), inputs)
        assert same_bits(run(case, inputs, weights), once), threads


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layers", [1, 3])
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(RESETS)),
    st.integers(1, 9),
    st.integers(1, 20),
    st.one_of(st.integers(1, 70), st.integers(71, 300)),
    st.integers(1, 3),
)
def test_a_cell_steps_through_its_layers(
    dtype, layers, seed, reset, batch, features, hidden, threads
):
    stack = [
        gru_inputs(seed + layer, 5, batch, hidden if layer else features, hidden, dtype, reset)
        for layer in range(layers)
    ]
    weights = [
        _kernels.Weights(
            dtype is np.float64,
            RESETS[reset],
            layer.x.shape[2],
            hidden,
            *map(address, layer[2:]),
            backward=False,
        )
        for layer in stack
    ]
    cell = _kernels.Cell(weights, batch, threads)
    h = np.stack([layer.h_0 for layer in stack])
    state = double(h.copy())
    for x in stack[0].x:
        cell.step(address(x), address(h))
        above = x.astype(np.float64)
        for layer, arrays in enumerate(stack):
            above, _ = gru_step(above, state[layer], *double(arrays[2:]), reset=reset)
            state[layer] = above
        assert_matches(h, state)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden", [40, 300])
def test_a_cell_has_the_bits_of_the_whole_sequence(hidden, threads):
    case = Case(time=7, batch=3, features=5, hidden=hidden)
    inputs = draw(case)
    weights = pack(case, inputs)
    cell, h = _kernels.Cell(weights, case.batch, threads), inputs.h_0.copy()
    for x, output in zip(inputs.x, run(case, inputs, weights).output, strict=True):
        cell.step(address(x), address(h))
        assert np.array_equal(h[0], output)


def elementwise(name, x):
    y = np.full_like(x, np.nan)
    getattr(_kernels, name)(x.dtype == np.float64, x.size, address(x), address(y))
    return y


FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
of_each_function = pytest.mark.parametrize("name", FUNCTIONS)
of_each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@of_each_function
@of_each_dtype
def test_activations_are_within_four_ulp(name, dtype):
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    near_zero = np.exp(rng.uniform(np.log(info.tiny), 0, 200_000))
    x = np.concatenate((rng.uniform(-90, 90, 200_000), near_zero, -near_zero)).astype(dtype)
    exact = FUNCTIONS[name](x.astype(np.longdouble))
    error = np.abs(elementwise(name, x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    normal = np.abs(exact) > 1.01 * info.tiny  # denormals, and what is nearly one, become zero
    assert error[normal].max() <= 4


@of_each_function
@of_each_dtype
def test_activations_never_fall_where_they_saturate(name, dtype):
    """On runs of neighbouring numbers, and on a grid of all of them."""
    ends = np.array([sign * 2.0**e for e in np.arange(0, 7, 0.25) for sign in (-1, 1)], dtype)
    for end in ends:
        bits = end.view({4: np.int32, 8: np.int64}[end.itemsize])
        x = np.sort((bits + np.arange(-2000, 2000, dtype=bits.dtype)).view(dtype))
        assert (np.diff(elementwise(name, x)) >= 0).all(), end
    x = np.linspace(0.9, 100, 1_000_001).astype(dtype)
    assert (np.diff(elementwise(name, x)) >= 0).all()
    assert (np.diff(elementwise(name, -x)) <= 0).all()


@of_each_dtype
def test_activations_reach_their_limits_exactly(dtype):
    big = np.finfo(dtype).max
    x = np.array([-np.inf, -big, -1000, 0, 1000, big, np.inf], dtype)
    assert elementwise("sigmoid", x).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    assert elementwise("tanh", x).tolist() == [-1, -1, -1, 0, 1, 1, 1]
    assert np.signbit(elementwise("tanh", np.array([-0.0, 0.0], dtype))).tolist() == [True, False]


@of_each_function
@of_each_dtype
@pytest.mark.parametrize("size", [1, 3, 8, 17])
def test_activations_keep_nan_and_write_nothing_else(name, dtype, size):
    x = np.zeros(size, dtype)
    x[size // 2] = np.nan
    y = np.full(size + 4, 7, dtype)
    getattr(_kernels, name)(dtype is np.float64, size, address(x), address(y))
    assert np.isnan(y[size // 2])
    assert np.isfinite(np.delete(y[:size], size // 2)).all()
    assert (y[size:] == 7).all()


def test_denormals_of_the_caller_survive():
    case = Case()
    run(case, draw(case))
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_many_threads_of_python_at_once():
    cases = [
        Case(seed=i, time=20, batch=batch, hidden=96, threads=1 + i % 3, directions=1 + i % 2)
        for i, batch in enumerate((1, 2, 3, 16, 17, 40, 64, 5))
    ]
    drawn = [draw(case) for case in cases]
    weights = [pack(case, inputs) for case, inputs in zip(cases, drawn, strict=True)]
    alone = [run(*job) for job in zip(cases, drawn, weights, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            together = list(pool.map(run, cases, drawn, weights))
            assert all(same_bits(a, b) for a, b in zip(alone, together, strict=True))


def in_python(script, **environment):
    """Run a script in a fresh interpreter that finds what this one does."""
    path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


FORK = """
import os, numpy as np
from kernel_cases import Case, draw, run
case = Case(time=50, batch=64, features=16, hidden=64, threads=2)
inputs = draw(case)
before = run(case, inputs)
child = os.fork()
output = run(case, inputs).output
if child == 0:
    os._exit(0 if np.array_equal(output, before.output) else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
"""


def test_a_forked_child_computes_the_same():
    result = in_python(FORK, PYTHONWARNINGS="ignore::DeprecationWarning")
    assert result.returncode == 0, result.stderr


GRANTED = """
from kernel_cases import Case, check
check(Case(time=20, batch=64, features=16, hidden=64, threads=3))
check(Case(time=20, batch=1, features=16, hidden=200, threads=3, directions=2))
check(Case(time=401, batch=1, features=64, hidden=50, threads=2))
"""


@pytest.mark.parametrize(
    "variable", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=2", "OMP_MAX_ACTIVE_LEVELS=0"]
)
def test_fewer_threads_than_asked_for_do_the_same_work(variable):
    name, value = variable.split("=")
    result = in_python(GRANTED, **{name: value})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("isa", [isa for isa in _kernels.isas() if isa != _kernels.ISA])
def test_every_other_instruction_set_passes_the_same_tests(isa):
    """This file, briefly, in an interpreter where the instruction set is forced."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    result = subprocess.run(
        [*command, "--hypothesis-profile=brief", "-k", "not instruction_set and not fewer_threads"],
        env=os.environ | {"TIDEGATE_ISA": isa},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def test_an_unknown_instruction_set_is_refused_with_the_known_ones():
    result = in_python("import tidegate._kernels", TIDEGATE_ISA="sse9")
    assert result.returncode != 0
    assert "sse9" in result.stderr
    assert _kernels.isas()[-1] in result.stderr
