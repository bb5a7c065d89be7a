"""The compiled kernels: addresses and sizes in, results written in place.

Every array is named by its address (`tensor.data_ptr()`, `array.ctypes.data`); an absent one is 0.
Little is checked here: `tidegate.ops` and `tidegate.nn` check shapes and types before they call.
Strides count elements, not bytes; the last axis is always contiguous.
"""

from typing import Any, Final

ISA: Final[str]  # "avx512", "avx2", "neon" or "scalar": what runs; TIDEGATE_ISA chooses

RESET_AFTER: Final[int]
RESET_BEFORE: Final[int]
RESET_NONE: Final[int]
STORED_BFLOAT16: Final[int]
STORED_INT8: Final[int]

def isas() -> list[str]:
    """Instruction sets in this build that this machine can run, widest first."""

def default_threads() -> int:
    """Threads for a caller who names none: OpenMP's number; 1 in a forked child."""

class Weights:
    """The packed weights of one direction of one layer: a snapshot, immutable, thread-safe.

    weight_ih (3 * hidden, input), weight_hh (3 * hidden, hidden), bias_ih and bias_hh (3 * hidden),
    gates stacked r, z, n, contiguous; a bias may be 0. With `RESET_NONE` there are two gates,
    z and n, and the leading sizes are 2 * hidden.
    """

    def __init__(
        self,
        double: bool,
        reset: int,
        input: int,
        hidden: int,
        weight_ih: int,
        weight_hh: int,
        bias_ih: int,
        bias_hh: int,
        backward: bool,  # also pack what gru_backward needs
        keep_source: bool = False,  # keep a copy of the arrays for `is_of`
        norm_ih: int = 0,  # gains (3 * hidden) of a layer normalisation of the products, which are
        norm_hh: int = 0,  # normalised before their biases are added: r with z, and n; both or none
        threads: int = 1,
    ) -> None: ...
    nbytes: Final[int]
    def is_of(
        self,
        weight_ih: int,
        weight_hh: int,
        bias_ih: int,
        bias_hh: int,
        norm_ih: int = 0,
        norm_hh: int = 0,
    ) -> bool:
        """Whether arrays of the same sizes hold the bytes that were packed with `keep_source`."""

    def narrow(self, storage: int) -> Weights:
        """The same float32 weights, without gains, stored narrower, for `gru_forward` and `Cell`.

        As bfloat16, or as int8 in 255 steps of each row's largest weight; arithmetic stays float32.
        """

def saved_size(weights: Weights, rows: int) -> int:
    """Elements of the `saved` buffer for `rows` = sum of lengths (time * batch without lengths)."""

def block_tensor(is_double: bool, rows: int, columns: int) -> Any:
    """A tensor of torch, not filled, in memory that served before and will serve again."""

def gru_forward(
    forward: Weights,
    reverse: Weights | None,  # second direction, run side by side
    threads: int,
    time: int,
    batch: int,
    x: int,
    x_time: int,  # stride of a step
    x_batch: int,  # stride of a row
    offsets: int,  # int64 (time,): packed layout, step t starts at row offsets[t]; else 0.
    #                With it element (t, b) of x and output lies at (offsets[t] + b) * *_batch.
    lengths: int,  # int64 (batch,), 0 <= length <= time; else 0. Any order (packed: descending).
    keep: int,  # multiplier of the incoming state, before each step; else 0
    keep_time: int,
    keep_batch: int,
    keep_unit: int,  # 0: one number a row; 1: one a unit
    mask: int,  # multiplier (directions, batch, hidden) of the state where it meets weight_hh only,
    #             the same at every step: variational recurrent dropout; else 0
    h_0: int,  # (directions, batch, hidden); else 0 for zeros
    output: int,  # (time, batch, directions * hidden); cells past a row's length are set to 0
    output_time: int,
    output_batch: int,
    h_n: int,  # (directions, batch, hidden): each row's state at its own end
    saved: int,  # (directions, saved_size): gates kept for gru_backward; 0: it recomputes them
    gates: int,  # (gate, ...) as output for each gate (r, z, n; z, n with RESET_NONE); else 0
    gates_gate: int,  # stride from gate to gate; steps and rows have the strides of output
    zone: int = 0,  # (time, batch, directions * hidden): share of the old state that stays in the
    #                 new one, after the gates: zoneout; else 0
    zone_time: int = 0,
    zone_batch: int = 0,
    zone_unit: int = 0,  # 0: one number for all units
    tokens: int = 0,  # int64 (time, batch), strides x_time and x_batch, each below input, in place
    #                   of x (then 0), of weights stored natively: x is one at this place, else zero
) -> None:
    """Run one layer over a sequence, in one or both directions."""

def gru_backward(
    forward: Weights,
    reverse: Weights | None,
    threads: int,
    time: int,
    batch: int,
    x: int,
    x_time: int,
    x_batch: int,
    offsets: int,
    lengths: int,
    keep: int,
    keep_time: int,
    keep_batch: int,
    keep_unit: int,
    mask: int,
    h_0: int,
    output: int,
    output_time: int,
    output_batch: int,
    saved: int,
    d_output: int,  # else 0
    d_output_time: int,
    d_output_batch: int,
    d_h_n: int,  # (directions, batch, hidden); else 0
    d_gates: int,  # gradient of `gates`, laid out as output for each gate; else 0
    d_gates_gate: int,
    d_gates_time: int,
    d_gates_batch: int,
    d_x: int,  # OUT, strides of its own, every valid cell written; else 0
    d_x_time: int,
    d_x_batch: int,
    d_h_0: int,  # OUT (directions, batch, hidden); else 0
    d_keep: int,  # OUT (directions, time, batch, hidden), contiguous, always one a unit, every cell
    #               written (0 past the length); else 0, as it must be without keep
    d_weight_ih: int,  # OUT (directions, gates * hidden, input); else 0
    d_weight_hh: int,  # OUT (directions, gates * hidden, hidden); else 0
    d_bias_ih: int,  # OUT (directions, gates * hidden); else 0
    d_bias_hh: int,  # OUT (directions, gates * hidden); else 0
    zone: int = 0,
    zone_time: int = 0,
    zone_batch: int = 0,
    zone_unit: int = 0,
    tokens: int = 0,  # d_x must be 0 then
    d_norm_ih: int = 0,  # OUT (directions, gates * hidden); else 0
    d_norm_hh: int = 0,
) -> None:
    """Gradients of one layer; arguments as given to `gru_forward`, and its results."""

def min_gru_forward(
    double: bool,
    threads: int,
    time: int,
    batch: int,
    hidden: int,
    reverse: bool,  # each row from its own end to its beginning
    positive: bool,  # the candidate is g(x_n), not x_n
    x_gates: int,  # (time, batch, 2 * hidden): x_z, then x_n
    x_time: int,
    x_batch: int,
    lengths: int,  # int64 (batch,); else 0
    keep: int,  # (time, batch, hidden if keep_unit else 1); else 0
    keep_time: int,
    keep_batch: int,
    keep_unit: int,
    h_0: int,  # (batch, hidden); else 0
    output: int,  # OUT (time, batch, hidden), every cell written
    output_time: int,
    output_batch: int,
    h_n: int,  # OUT (batch, hidden)
) -> None:
    """The recurrence of a minGRU over a sequence; its z admits the new."""

def min_gru_backward(
    double: bool,
    threads: int,
    time: int,
    batch: int,
    hidden: int,
    reverse: bool,
    positive: bool,
    x_gates: int,
    x_time: int,
    x_batch: int,
    lengths: int,
    keep: int,
    keep_time: int,
    keep_batch: int,
    keep_unit: int,
    h_0: int,
    output: int,  # as forward left it
    output_time: int,
    output_batch: int,
    d_output: int,  # else 0
    d_output_time: int,
    d_output_batch: int,
    d_h_n: int,  # (batch, hidden); else 0
    d_x_gates: int,  # OUT (time, batch, 2 * hidden), every cell written
    d_x_time: int,
    d_x_batch: int,
    d_h_0: int,  # OUT (batch, hidden)
    d_keep: int,  # OUT (time, batch, hidden), contiguous, always one a unit; else 0
) -> None:
    """Gradients of `min_gru_forward`."""

def cross_entropy(
    double: bool,
    threads: int,
    rows: int,
    features: int,
    vocabulary: int,
    output: int,  # (rows, features)
    weight: int,  # (vocabulary, features)
    bias: int,  # (vocabulary,)
    targets: int,  # int64 (rows,)
    losses: int,  # OUT (rows,)
    d_output: int = 0,  # OUT (rows, features): of the mean loss; all three or none
    d_weight: int = 0,  # OUT (vocabulary, features)
    d_bias: int = 0,  # OUT (vocabulary,)
) -> None:
    """-log softmax(output @ weight.T + bias)[target] of each row, and the gradients of the mean."""

class Cell:
    """One step at a time through a stack of layers, all buffers its own: the streaming kernel."""

    def __init__(self, layers: list[Weights], batch: int, threads: int = 1) -> None: ...
    def step(self, x: int, h: int) -> None:
        """One step for all rows: x (batch, input), h (layers, batch, hidden) updated in place."""

def draw(double: bool, seed: int, size: int, parts: int, numbers: int) -> None:
    """Set each of the numbers to one with the chance parts / 65536, else to zero.

    0 <= seed < 2 ** 64 decides them all; csrc/draw.hpp says how, and nn/_draw.py does the same.
    """

def sigmoid(double: bool, size: int, x: int, y: int) -> None:
    """Elementwise, as the kernels compute it; for tests."""

def tanh(double: bool, size: int, x: int, y: int) -> None:
    """Elementwise, as the kernels compute it; for tests."""

class Stream:
    """A whole model, one step at a time; `tidegate.runtime.Stream` says what its layers are.

    Each layer is (kind, function, input, output, weight, bias, alpha, weights of a GRU, its state).
    """

    def __init__(
        self,
        layers: list[tuple],
        double: bool,
        input: int,
        symbols: int,  # rows of the embedding; 0 where x is numbers
        batch: int,
        threads: int,
        missing: int,  # 0: a number that is not finite is refused, 1: its row skipped, 2: passed
        y_rows: object,  # what step returns: the array at y, and its only row
        y_row: object,
        y: int,
        convert: object,  # called with any x that is no array of the right type
    ) -> None: ...
    taken: Final[int]  # steps that the last call took before it ended or was refused
    def step(self, x: object) -> Any: ...
    def run(self, x: int, steps: int, y: int) -> None: ...
