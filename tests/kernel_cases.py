"""One call of the compiled kernels, drawn from a few numbers, and what the reference says of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helpers import GATES, assert_matches, double, gru_inputs
from tidegate import _kernels
from tidegate.reference import gru, gru_backward

RESETS = {
    "after": _kernels.RESET_AFTER,
    "before": _kernels.RESET_BEFORE,
    "none": _kernels.RESET_NONE,
}


@dataclass(frozen=True)
class Case:
    """Sizes and options of a call; its numbers follow from `seed`."""

    seed: int = 0
    dtype: type = np.float32
    reset: str = "after"
    time: int = 5
    batch: int = 3
    features: int = 4
    hidden: int = 6
    directions: int = 1
    threads: int = 1
    keep: str | None = None  # one number a "row" or a "unit"
    masked: bool = False
    ragged: bool = False
    layout: str = "time first"  # of x, output and gates: "batch first", "spaced" or "packed"
    d_layout: str = "time first"  # of their gradients, unless packed
    biased: bool = True
    start: bool = True  # h_0 is given
    saved: bool = True  # gates are kept for the backward, not recomputed
    gated: bool = True  # gates are returned, and have gradients


class Inputs(NamedTuple):
    """Arrays of a case, all (time, batch, ...) whatever the layout; absent ones are None."""

    x: NDArray
    h_0: NDArray | None
    weights: list[list[NDArray]]  # of each direction
    keep: NDArray | None
    mask: NDArray | None
    lengths: NDArray | None
    d_output: NDArray
    d_h_n: NDArray
    d_gates: NDArray | None


class Outputs(NamedTuple):
    """What a case computes; (directions, ...) first where the kernel has it so."""

    output: NDArray
    h_n: NDArray
    gates: NDArray | None
    d_x: NDArray
    d_h_0: NDArray
    d_keep: NDArray | None
    d_weight_ih: NDArray
    d_weight_hh: NDArray
    d_bias_ih: NDArray
    d_bias_hh: NDArray


WEIGHTS = Outputs._fields[-4:]


def draw(case: Case) -> Inputs:
    """The inputs of a case. What lies past a row's length is NaN."""
    rng = np.random.default_rng(case.seed)
    time, batch, width = case.time, case.batch, case.directions * case.hidden
    sizes = (time, batch, case.features, case.hidden, case.dtype, case.reset)
    x = gru_inputs(case.seed, *sizes).x
    lengths = rng.integers(0, time + 1, batch) if case.ragged or case.layout == "packed" else None
    if case.layout == "packed":
        lengths = np.sort(lengths)[::-1].copy()

    def normal(*shape: int) -> NDArray:
        return rng.standard_normal(shape).astype(case.dtype)

    def factor(*shape: int) -> NDArray:
        return rng.uniform(0, 1.2, shape).astype(case.dtype)

    inputs = Inputs(
        x=x,
        h_0=factor(case.directions, batch, case.hidden) - 0.6 if case.start else None,
        weights=[
            list(gru_inputs(case.seed + direction, *sizes)[2:])[: 4 if case.biased else 2]
            for direction in range(case.directions)
        ],
        keep={None: None, "row": factor(time, batch), "unit": factor(time, batch, case.hidden)}[
            case.keep
        ],
        mask=factor(case.directions, batch, case.hidden) if case.masked else None,
        lengths=lengths,
        d_output=normal(time, batch, width),
        d_h_n=normal(case.directions, batch, case.hidden),
        d_gates=normal(GATES[case.reset], time, batch, width) if case.gated else None,
    )
    if lengths is not None:
        past = np.arange(time)[:, None] >= lengths
        for array in (inputs.x, inputs.keep, inputs.d_output):
            if array is not None:
                array[past] = np.nan
        if inputs.d_gates is not None:
            inputs.d_gates[:, past] = np.nan
    return inputs


def expected(case: Case, inputs: Inputs) -> Outputs:
    """The case by the reference, in float64."""
    results, gradients = [], []
    gates, hidden = GATES[case.reset], case.hidden
    zeros = [np.zeros(gates * hidden)] * 2
    lengths = np.full(case.batch, case.time) if inputs.lengths is None else inputs.lengths
    inside = np.arange(case.time)[:, None] < lengths
    keep = None if inputs.keep is None else double([inputs.keep])[0]
    if case.keep == "row":
        keep = np.broadcast_to(keep[:, :, None], (*keep.shape, hidden))
    for direction in range(case.directions):
        units = np.s_[..., direction * hidden : (direction + 1) * hidden]
        h_0 = np.zeros((case.batch, hidden)) if inputs.h_0 is None else inputs.h_0[direction]
        weights = double(inputs.weights[direction])
        arguments = [*double([inputs.x, h_0]), *weights, *([] if case.biased else zeros)]
        options = {
            "reset": case.reset,
            "keep": keep,
            "mask": 1.0 if inputs.mask is None else double([inputs.mask[direction]])[0],
            "lengths": inputs.lengths,
            "reverse": direction == 1,
        }
        results.append(gru(*arguments, **options))
        d_gates = None if inputs.d_gates is None else double([inputs.d_gates[units]])[0]
        d_output, d_h_n = double([inputs.d_output[units], inputs.d_h_n[direction]])
        gradients.append(
            gru_backward(*arguments, d_output=d_output, d_h_n=d_h_n, d_gates=d_gates, **options)
        )
    return Outputs(
        output=np.concatenate([result.output for result in results], axis=-1),
        h_n=np.stack([result.h_n for result in results]),
        gates=np.concatenate([result.gates for result in results], axis=-1) if case.gated else None,
        d_x=np.where(inside[:, :, None], sum(d.x for d in gradients), np.nan),
        d_keep=np.stack([d.keep for d in gradients]) if case.keep else None,
        **{
            f"d_{name}": np.stack([getattr(d, name) for d in gradients])
            for name in ("h_0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
        },
    )


class Layout(NamedTuple):
    """How a (..., time, batch, width) array lies in memory."""

    name: str
    inside: NDArray  # (time, batch): which cells a packed layout has

    def store(self, array: NDArray) -> NDArray:
        """The array laid out; what is between its cells is NaN."""
        if self.name == "packed":
            return np.ascontiguousarray(array[..., self.inside, :])
        if self.name == "batch first":
            return np.ascontiguousarray(np.swapaxes(array, -3, -2))
        gap = 5 if self.name == "spaced" else 0
        memory = np.full((*array.shape[:-1], array.shape[-1] + gap), np.nan, array.dtype)
        memory[..., : array.shape[-1]] = array
        return memory

    def load(self, memory: NDArray, width: int) -> NDArray:
        """The array of `width` that lies there; NaN where a packed layout has no cell."""
        if self.name == "packed":
            array = np.full((*memory.shape[:-2], *self.inside.shape, width), np.nan, memory.dtype)
            array[..., self.inside, :] = memory
            return array
        return (np.swapaxes(memory, -3, -2) if self.name == "batch first" else memory)[..., :width]

    def strides(self, memory: NDArray) -> tuple[int, int]:
        """Elements from step to step and from row to row."""
        *_, a, b, _ = (stride // memory.itemsize for stride in (0, *memory.strides))
        if self.name == "packed":
            return 0, b
        return (b, a) if self.name == "batch first" else (a, b)


def poison(case: Case, *shape: int) -> NDArray:
    """Memory in which a cell that nobody writes is seen."""
    return np.full(shape, np.nan, case.dtype)


def address(array: NDArray | None) -> int:
    """Where the kernels find an array."""
    return 0 if array is None else array.ctypes.data


def pack(case: Case, inputs: Inputs) -> list[_kernels.Weights]:
    """Packed weights of each direction."""
    return [
        _kernels.Weights(
            case.dtype is np.float64,
            RESETS[case.reset],
            case.features,
            case.hidden,
            *(address(array) for array in arrays),
            *(() if case.biased else (0, 0)),
            backward=True,
            threads=case.threads,
        )
        for arrays in inputs.weights
    ]


class Sequence:
    """The memory of a forward call, and the arguments that a backward call shares with it."""

    def __init__(self, case: Case, inputs: Inputs, weights: list[_kernels.Weights]) -> None:
        time, batch, width = case.time, case.batch, case.directions * case.hidden
        lengths = np.full(batch, time) if inputs.lengths is None else inputs.lengths
        inside = np.arange(time)[:, None] < lengths
        packed = case.layout == "packed"
        self.layout = Layout(case.layout, inside)
        self.d_layout = Layout("packed" if packed else case.d_layout, inside)
        self.width = width
        self.offsets = np.cumsum([0, *inside.sum(axis=1)])[:-1] if packed else None
        self.x = self.layout.store(inputs.x)
        self.output = self.layout.store(poison(case, time, batch, width))
        self.h_n = poison(case, case.directions, batch, case.hidden)
        gates = poison(case, GATES[case.reset], time, batch, width)
        self.gates = self.layout.store(gates) if case.gated else None
        size = _kernels.saved_size(weights[0], int(lengths.sum()))
        self.saved = poison(case, case.directions, size) if case.saved else None
        self.arguments = (
            weights[0],
            weights[1] if case.directions == 2 else None,
            case.threads,
            time,
            batch,
            address(self.x),
            *self.layout.strides(self.x),
            address(self.offsets),
            address(inputs.lengths),
            address(inputs.keep),
            *keep_strides(inputs.keep),
            address(inputs.mask),
            address(inputs.h_0),
            address(self.output),
            *self.layout.strides(self.output),
        )


def keep_strides(keep: NDArray | None) -> tuple[int, int, int]:
    """Elements from step to step, from row to row and from unit to unit of `keep`."""
    if keep is None:
        return 0, 0, 0
    time, batch, *unit = (stride // keep.itemsize for stride in keep.strides)
    return time, batch, *(unit or [0])


def run_forward(case: Case, inputs: Inputs, weights: list[_kernels.Weights]) -> Sequence:
    """The forward half of a case by the kernels."""
    sequence = Sequence(case, inputs, weights)
    _kernels.gru_forward(
        *sequence.arguments,
        h_n=address(sequence.h_n),
        saved=address(sequence.saved),
        gates=address(sequence.gates),
        gates_gate=0 if sequence.gates is None else sequence.gates[0].size,
    )
    return sequence


def run(case: Case, inputs: Inputs, weights: list[_kernels.Weights] | None = None) -> Outputs:
    """The case by the kernels."""
    forward = run_forward(case, inputs, weights or pack(case, inputs))
    layout, d_layout = forward.layout, forward.d_layout
    states = (case.directions, case.batch, case.hidden)
    rows = (case.directions, GATES[case.reset] * case.hidden)
    d_output = d_layout.store(inputs.d_output)
    d_gates = None if inputs.d_gates is None else d_layout.store(inputs.d_gates)
    d_x = d_layout.store(poison(case, case.time, case.batch, case.features))
    d_h_0 = poison(case, *states)
    d_keep = poison(case, case.directions, case.time, *states[1:]) if case.keep else None
    d_weights = [
        poison(case, *rows, *columns) for columns in ((case.features,), (case.hidden,), (), ())
    ]
    _kernels.gru_backward(
        *forward.arguments,
        address(forward.saved),
        address(d_output),
        *d_layout.strides(d_output),
        address(inputs.d_h_n),
        address(d_gates),
        0 if d_gates is None else d_gates[0].size,
        *((0, 0) if d_gates is None else d_layout.strides(d_gates)),
        address(d_x),
        *d_layout.strides(d_x),
        address(d_h_0),
        address(d_keep),
        *map(address, d_weights),
    )
    return Outputs(
        output=layout.load(forward.output, forward.width),
        h_n=forward.h_n,
        gates=None if forward.gates is None else layout.load(forward.gates, forward.width),
        d_x=d_layout.load(d_x, case.features),
        d_h_0=d_h_0,
        d_keep=d_keep,
        **dict(zip(WEIGHTS, d_weights, strict=True)),
    )


def check(case: Case) -> None:
    """Assert that the kernels compute what the reference does, and write every cell they should."""
    inputs = draw(case)
    results, reference = run(case, inputs), expected(case, inputs)
    inside = slice(None)
    terms = max(1, case.time * case.batch)
    if inputs.lengths is not None:
        inside = np.arange(case.time)[:, None] < inputs.lengths
    for name, ours, theirs in zip(Outputs._fields, results, reference, strict=True):
        if theirs is None:
            continue
        # Past a row's length the gradient of x is nobody's, and a packed layout has no such cell.
        if name == "d_x" or (name == "output" and case.layout == "packed"):
            ours, theirs = ours[inside], theirs[inside]
        if name == "gates" and case.layout == "packed":
            ours, theirs = ours[:, inside], theirs[:, inside]
        try:
            assert_matches(ours, theirs, scale=terms**0.5 if name in WEIGHTS else 1.0)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
