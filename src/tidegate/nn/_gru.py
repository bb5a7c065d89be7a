"""`GRU`: all of `torch.nn.GRU`, and what it lacks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from tidegate.nn import _call, _dynamo, _fx, _init, _short, _stack, gpu
from tidegate.nn._layer import GATES, Plan, in_dtype
from tidegate.nn._result import GRUResult, GRUResultWithGates
from tidegate.nn._stack import STACKS, Regularisers

MEMORIES = ("save", "recompute")


class GRU(nn.GRU):
    """A gated recurrent unit: `torch.nn.GRU`, several times faster on a CPU, and with more options.

    With torch's arguments alone it has torch's parameters, `state_dict`, results and random
    numbers. On a GPU such a GRU runs torch's own kernels, unless ours were measured to be faster
    there or `TIDEGATE_GPU=always` is set.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h_t = (1 - z) * n + z * h_{t-1}

    Args:
        input_size: features of each step.
        hidden_size: units of the state; a sequence gives each layer its own number.
        num_layers: as torch's; follows from `hidden_size` where that is a sequence.
        bias: as torch's.
        batch_first: as torch's; the output is contiguous in either order.
        dropout: as torch's, on the output of each layer but the last.
        bidirectional: as torch's.
        device: of the parameters.
        dtype: of the parameters; half precision is computed in float32 on a CPU.
        reset: where the reset gate acts: "after" the recurrent product, as above and in cuDNN;
            "before" it, n = tanh(W_in x + b_in + W_hn (r * h) + b_hn), as in arXiv:1406.1078v3;
            "none": no reset gate, and two thirds of the parameters, stacked z, n.
        recurrent_dropout: probability of dropping a unit of the state where it meets the recurrent
            weights, the same units at every step of a sequence (arXiv:1512.05287). The state itself
            is not dropped: under a fixed mask it would fade or grow.
        zoneout: probability that a unit keeps its old state at a step (arXiv:1606.01305); the mean
            of both when not training.
        weight_dropout: probability of dropping a recurrent weight for a whole call.
        layer_norm: normalise the products before their biases are added (arXiv:1607.06450), with
            gains `norm_ih_l0` and `norm_hh_l0`.
        memory: "save" keeps the gates for the backward pass, less than torch keeps; "recompute"
            keeps the states alone, computes the gates again, and trains on sequences several times
            longer in the same memory, a fifth to a third slower.
        init: "torch"; "orthogonal": each gate's recurrent matrix; "chrono": update biases for
            memories of `chrono_range` steps (arXiv:1804.11188); or several of them.
        chrono_range: shortest and longest memory, in steps, for `init="chrono"`.
        learn_hx: learn the initial state, `hx_l0` and so on, used where no `hx` is given.
        stack: "plain"; "residual": a layer's input is added to its output where widths agree;
            "dense": a layer reads the input and the outputs of all layers below.
        proj_size: the recurrence and the output see the state through a matrix `weight_hr_l0` of so
            many rows; 0 for none. The state itself is not projected: `h_n` has `hidden_size`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, or options exclude each other.

    Example:
        >>> gru = GRU(input_size=3, hidden_size=8, batch_first=True)
        >>> result = gru(torch.randn(2, 5, 3), lengths=[5, 3])
        >>> output, h_n = result
        >>> output.shape, h_n.shape, result.last().shape
        (torch.Size([2, 5, 8]), torch.Size([1, 2, 8]), torch.Size([2, 8]))
    """

    # A `torch.nn.GRU` that became ours (`accelerate`) has no more than these.
    reset: str = "after"
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    weight_dropout: float = 0.0
    layer_norm: bool = False
    memory: str = "save"
    init: tuple[str, ...] = ("torch",)
    chrono_range: tuple[float, float] = (2.0, 100.0)
    learn_hx: bool = False
    stack: str = "plain"
    _hidden_sizes: tuple[int, ...] | None = None
    states_in_one_tensor: bool = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device=None,
        dtype=None,
        *,
        reset: str = "after",
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_dropout: float = 0.0,
        layer_norm: bool = False,
        memory: str = "save",
        init: str | Sequence[str] = "torch",
        chrono_range: tuple[float, float] = (2.0, 100.0),
        learn_hx: bool = False,
        stack: str = "plain",
        proj_size: int = 0,
    ) -> None:
        self.reset = _one_of("reset", reset, tuple(GATES))
        self.recurrent_dropout = _probability("recurrent_dropout", recurrent_dropout)
        self.zoneout = _probability("zoneout", zoneout)
        self.weight_dropout = _probability("weight_dropout", weight_dropout)
        self.layer_norm = _yes_or_no("layer_norm", layer_norm)
        self.memory = _one_of("memory", memory, MEMORIES)
        names: tuple = tuple(init) if isinstance(init, (tuple, list)) else (init,)
        self.init = tuple(_one_of("init", name, _init.INITS) for name in names)
        self.chrono_range = chrono_range
        self.stack = _one_of("stack", stack, STACKS)
        if "chrono" in self.init:
            _check_chrono(bias, chrono_range)
        if not isinstance(dropout, Real):
            raise TypeError(f"dropout must be a number, but it is {dropout!r}")
        sizes = _read_sizes(hidden_size, num_layers)
        uniform = len(set(sizes)) <= 1
        if not uniform:
            self._hidden_sizes = sizes
        as_torch = (
            uniform and reset != "none" and stack != "dense" and not layer_norm and not proj_size
        )
        super().__init__(
            input_size,
            sizes[0] if sizes else hidden_size,
            len(sizes),
            bias,
            batch_first,
            dropout,
            bool(bidirectional),
            device=device if as_torch else "meta",
            dtype=dtype,
        )
        self.hidden_size = sizes[-1]
        self.proj_size = _check_proj_size(proj_size, sizes)
        self.states_in_one_tensor = uniform and not proj_size
        if not as_torch:
            self._make_parameters(device, dtype)
        if _yes_or_no("learn_hx", learn_hx):
            self._make_initial_states(device, dtype)

    def _make_parameters(self, device, dtype) -> None:
        """Replace torch's parameters by those of our options."""
        directions = 1 + self.bidirectional
        sizes = _stack.layer_sizes(
            self.input_size, self.hidden_sizes, self.proj_size, directions, self.stack
        )
        kinds = _stack.parameter_kinds(self.bias, self.proj_size, self.layer_norm)
        self._parameters.clear()
        self._all_weights = []
        for layer, size in enumerate(sizes):
            for suffix in _SUFFIXES[:directions]:
                names = [f"{kind}_l{layer}{suffix}" for kind in kinds]
                self._all_weights.append(names)
                for kind, name in zip(kinds, names, strict=True):
                    shape = _stack.parameter_shape(kind, size, self.reset)
                    empty = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name, nn.Parameter(empty))
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()
        self.reset_parameters()

    def _make_initial_states(self, device, dtype) -> None:
        self.learn_hx = True
        for name, size in self._initial_state_names():
            zeros = torch.zeros(size, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(zeros))

    def _initial_state_names(self) -> list[tuple[str, int]]:
        suffixes = _SUFFIXES[: 1 + self.bidirectional]
        return [
            (f"hx_l{layer}{suffix}", size)
            for layer, size in enumerate(self.hidden_sizes)
            for suffix in suffixes
        ]

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Units of each layer."""
        return self._hidden_sizes or (self.hidden_size,) * self.num_layers

    def initial_states(self) -> list[Tensor]:
        """The learnt initial state of each layer, (directions, hidden); see `learn_hx`."""
        vectors = [getattr(self, name) for name, _ in self._initial_state_names()]
        directions = 1 + self.bidirectional
        return [
            torch.stack(vectors[start : start + directions])
            for start in range(0, len(vectors), directions)
        ]

    def reset_parameters(self) -> None:
        """Draw the parameters again, as `init` says."""
        _init.uniform_(self, self.hidden_sizes)
        if "orthogonal" in self.init:
            _init.orthogonal_(self)
        if "chrono" in self.init:
            _init.chrono_(self, *self.chrono_range)

    def flatten_parameters(self) -> None:
        """Lay the parameters out for cuDNN where torch's own kernels run; else do nothing."""
        if self._is_torchs:
            super().flatten_parameters()

    @property
    def _is_torchs(self) -> bool:
        """Whether torch's kernels compute this GRU."""
        plain = self.reset == "after" and self.stack == "plain" and self.states_in_one_tensor
        regular = self.zoneout or self.recurrent_dropout or self.weight_dropout
        return plain and not (self.layer_norm or self.learn_hx or regular)

    def forward(  # pyrefly: ignore[bad-override]  # more arguments, and a result with names
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | Sequence[Tensor] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        keep: Tensor | None = None,
        return_gates: bool = False,
    ) -> GRUResult | GRUResultWithGates:
        """Run the GRU over a sequence.

        Args:
            input: as torch's: (time, batch, input_size), or (batch, time, input_size) with
                `batch_first`, or (time, input_size), or a packed sequence.
            hx: initial state, (num_layers * directions, batch, hidden_size). Where layers differ
                in size, or with `proj_size`: a tensor (directions, batch, hidden) for each layer.
            lengths: steps of each row, in any order, zero allowed. Past its length a row's output
                is zero, `h_n` is its state at its own end, and the reverse direction starts there.
            keep: multiplies the incoming state before each step: shape of `input`'s first two axes,
                or with a third of `hidden_size`. Zero restarts a row; has a gradient.
            return_gates: also return the gates of every step and layer.

        Returns:
            `output, h_n`, or `output, h_n, gates`: tuples with names, and a method `last()`.

        Raises:
            RuntimeError: `input` or `hx` has the wrong shape or device, as in torch.
            TypeError: an argument is of the wrong type.
            ValueError: an argument has the wrong shape, dtype or value.
        """
        if isinstance(input, Proxy):
            gates = return_gates or None
            return _fx.call(self, input, hx=hx, lengths=lengths, keep=keep, return_gates=gates)
        _call.check_types(input, hx, keep, return_gates)
        if lengths is not None and _short.are_whole(self, input, lengths):
            lengths = None
        options = lengths is not None or keep is not None or return_gates
        if not (options or torch.compiler.is_compiling()):
            if (result := _short.run(self, input, hx)) is not None:
                return result
            if self._is_torchs and _is_for_torch(input) and not gpu.takes(self, input):
                # torch's stub has a signature for each kind of input, and none for either.
                return GRUResult(*super().forward(input, hx))  # pyrefly: ignore[no-matching-overload]
        if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
            raise NotImplementedError(
                "The older ONNX exporter writes a GRU with torch's own arguments only: "
                "give torch.onnx.export dynamo=True"
            )
        form, inputs = _call.read(self, input, hx, lengths, keep, return_gates)
        plan = Plan(
            self.reset,
            1 + self.bidirectional,
            self.bias,
            self.layer_norm,
            form.batch_first,
            return_gates,
        )
        chances = Regularisers(
            self.dropout,
            self.recurrent_dropout,
            self.zoneout,
            self.weight_dropout,
            self.training,
        )
        with _without_autocast(form.x.device.type):
            outputs = _stack.run(
                inputs,
                self._weights(form.compute),
                _stack.parameter_kinds(self.bias, self.proj_size, self.layer_norm),
                plan,
                self.stack,
                chances,
                self.memory == "save",
            )
        return _call.write(self, form, outputs, return_gates)

    def __prepare_scriptable__(self) -> nn.GRU:
        """The `torch.nn.GRU` that TorchScript compiles in our place, with the same parameters."""
        if not self._is_torchs:
            raise TypeError("TorchScript can compile a GRU with torch's own arguments only")
        twin: nn.GRU = copy.copy(self)
        twin.__class__ = nn.GRU
        return twin

    def _weights(self, dtype: torch.dtype) -> list[list[Tensor]]:
        """The parameters of each layer as they are now, direction by direction."""
        step = 1 + self.bidirectional
        by_direction = self._all_weights
        return [
            [
                in_dtype(getattr(self, name), dtype)
                for names in by_direction[start : start + step]
                for name in names
            ]
            for start in range(0, len(by_direction), step)
        ]

    def extra_repr(self) -> str:
        """As torch's, then what differs from the defaults."""
        parts = [super().extra_repr()]
        if self._hidden_sizes:
            parts = [parts[0].replace(f", {self.hidden_size}", f", {list(self._hidden_sizes)}", 1)]
        for name in _OPTIONS:
            value = getattr(self, name)
            if value != getattr(GRU, name):
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


def _without_autocast(device: str) -> contextlib.AbstractContextManager:
    """All is computed in one dtype; a product in another would be read as what it is not."""
    if torch._C._is_any_autocast_enabled():
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _is_for_torch(input: Tensor | PackedSequence) -> bool:
    """Whether torch's kernels run where the input lies, or a TorchScript trace wants its names.

    torch's refuse a sequence without steps.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    at_home = data.device.type not in ("cpu", "meta") and data.numel() > 0
    return at_home or torch.jit.is_tracing()


_SUFFIXES = ("", "_reverse")
_OPTIONS = (
    "reset",
    "recurrent_dropout",
    "zoneout",
    "weight_dropout",
    "layer_norm",
    "memory",
    "init",
    "learn_hx",
    "stack",
)


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, but it is {value!r}")
    return value


def _yes_or_no(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, but it is {value!r}")
    return value


def _probability(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1), but it is {value!r}")
    return float(value)


def _check_chrono(bias: bool, memories: tuple[float, float]) -> None:
    if not bias:
        raise ValueError('init="chrono" sets the update bias, so bias must be True')
    pair = isinstance(memories, (tuple, list)) and len(memories) == 2
    if not pair or not all(isinstance(memory, Real) for memory in memories):
        raise TypeError(f"chrono_range must be two numbers of steps, but it is {memories!r}")
    if not 1 < memories[0] <= memories[1]:
        raise ValueError(f"chrono_range must be 1 < shortest <= longest, but it is {memories}")


def _check_proj_size(proj_size: int, hidden_sizes: tuple[int, ...]) -> int:
    if isinstance(proj_size, bool) or not isinstance(proj_size, int):
        raise TypeError(f"proj_size must be a whole number, but it is {proj_size!r}")
    if not 0 <= proj_size < min(hidden_sizes):
        raise ValueError(
            f"proj_size must be 0 or less than hidden_size, {min(hidden_sizes)}, "
            f"but it is {proj_size}"
        )
    return proj_size


def _read_sizes(hidden_size: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    if not isinstance(num_layers, int):
        raise TypeError(f"num_layers must be a whole number, but it is {num_layers!r}")
    if isinstance(hidden_size, int):
        return (hidden_size,) * num_layers
    if not isinstance(hidden_size, (list, tuple)):  # begun in torch's words
        raise TypeError(
            f"hidden_size should be of type int, or a list of them, got: {hidden_size!r}"
        )
    if num_layers not in (1, len(hidden_size)):
        raise ValueError(
            f"num_layers must be {len(hidden_size)}, the number of hidden sizes, "
            f"but it is {num_layers}"
        )
    right = all(type(size) is int and size > 0 for size in hidden_size)
    if not right or not hidden_size:
        raise ValueError(f"hidden_size must be positive whole numbers, but it is {hidden_size}")
    return tuple(hidden_size)


_dynamo.allow(GRU)
