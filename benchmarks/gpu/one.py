"""One kernel of `run.py`, in a process of its own: prints a line of JSON for each call.

It makes itself ready, and begins to measure when a line comes in: `run.py` starts it while another
measures.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator

import torch
from results import LARGEST, Case, Kernel, calls
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from tidegate.nn import GRU, gpu

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
ROUNDING = {"float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DEVICE = "cuda"
TIME, REPEATS = 512, 100
TIMES, FEWEST, SECONDS = 20, 5, 0.12  # a median is of so many calls; of fewer if they take longer
Input = Tensor | PackedSequence


class WrongError(Exception):
    """A result that is not right."""


def main(kind: str, hidden: int) -> None:
    """Measure every call of one kernel, or of FlashRNN."""
    if kind == "flashrnn":
        time_flashrnn(hidden)
        return
    make_ready(kind, hidden)
    sys.stdin.readline()
    for case in calls(Kernel(kind, hidden)):
        print(json.dumps(case._asdict() | measure(case)), flush=True)


def time_flashrnn(hidden: int) -> None:
    """Measure what FlashRNN has of a size: padded, forward."""
    for case in calls(Kernel("bfloat16", hidden)):
        if not (case.training or case.packed):
            found = medians({"flashrnn": flashrnn(case)})
            if found:
                print(json.dumps(case._asdict() | found), flush=True)


def make_ready(kind: str, hidden: int) -> None:
    """Have the kernel compiled, so that this takes none of the time for measuring."""
    if hidden <= LARGEST:
        with contextlib.suppress(WrongError):
            _require_ours(*problem(Case(kind, False, False, hidden, 1), GRU, 1))


def measure(case: Case) -> dict[str, float | str]:
    """Milliseconds of each road, and the error of ours, or what is wrong with it."""
    found: dict[str, float | str] = {}
    roads = {"eager": eager(case, nn.GRU)}
    if not case.packed:  # a graph holds one set of lengths
        roads["graph"] = in_graph(case)
    if case.hidden <= LARGEST:
        try:
            # The forward pass of a training step is the same.
            found["error"] = prove(case, TIME, REPEATS if case.training else 1)
            roads["ours"] = eager(case, GRU)
        except WrongError as wrong:
            found["fault"] = str(wrong)
        except Exception as error:
            traceback.print_exc()
            found["fault"] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return found | medians(roads)


def set_up(kind: str) -> None:
    """Ours wherever they can, and float32 products as the kind of number says."""
    os.environ["TIDEGATE_GPU"] = "always"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"


def problem(case: Case, gru: type[nn.GRU], steps: int, seed: int = 0) -> tuple[nn.GRU, Input]:
    """A GRU at initial scale and its input, drawn anew for each seed."""
    set_up(case.kind)
    torch.manual_seed(seed)
    module = gru(case.hidden, case.hidden, device=DEVICE, dtype=DTYPES[case.kind])
    x = torch.randn(steps, case.batch, case.hidden, device=DEVICE, dtype=DTYPES[case.kind])
    if not case.packed:
        return module, x.requires_grad_(case.training)
    lengths = torch.linspace(steps, max(1, steps // 4), case.batch).long()
    packed = pack_padded_sequence(x, lengths)
    packed.data.requires_grad_(case.training)
    return module, packed


def slope(case: Case, module: nn.GRU, x: Input) -> Tensor | None:
    """In training, the gradient of the output: the same for every road."""
    if not case.training:
        return None
    data = x.data if isinstance(x, PackedSequence) else x
    shape = (*data.shape[:-1], module.hidden_size)
    numbers = torch.arange(math.prod(shape), device=DEVICE, dtype=torch.float64)
    return torch.cos(numbers).view(shape).to(data.dtype)


def step(module: nn.GRU, x: Input, d_output: Tensor | None) -> list[Tensor]:
    """One call; given the gradient of its output, those of its input and weights too."""
    with torch.set_grad_enabled(d_output is not None):
        output, h_n = module(x)
    output = output.data if isinstance(output, PackedSequence) else output
    if d_output is None:
        return [output, h_n]
    asked = [x.data if isinstance(x, PackedSequence) else x, *module.parameters()]
    gradients = torch.autograd.grad(output, asked, d_output)
    return [output.detach(), h_n.detach(), *gradients]


def prove(case: Case, steps: int, repeats: int) -> float:
    """The largest error in roundings against float64; and every repeat the same bits.

    Right is what is within 8 roundings, or twice as far off as torch's own: the sums over all steps
    and rows in the gradients of the weights are a library's, and lose more than that in float32.
    """
    worst, rounding, dtype = 0.0, ROUNDING[case.kind], DTYPES[case.kind]
    for seed in range(3):
        module, x = problem(case, GRU, steps, seed)
        _require_ours(module, x)
        d_output = slope(case, module, x)
        with poisoned():
            found = step(module, x, d_output)
        torchs = step(*_through_torch(module, x, dtype), d_output)
        d_exact = None if d_output is None else d_output.double()
        exact = step(*_through_torch(module, x, torch.float64), d_exact)
        for ours, other, expected in zip(found, torchs, exact, strict=True):
            error, others = error_of(ours, expected), error_of(other, expected)
            worst = max(worst, error / rounding)
            if not error <= max(8 * rounding, 2 * others):
                raise WrongError(
                    f"an error of {error:.3g} against float64, seed {seed}; torch's: {others:.3g}"
                )
    for _ in range(repeats):
        with poisoned():
            again = step(module, x, d_output)
        if not all(map(torch.equal, found, again)):
            raise WrongError("two runs differ in their bits")
    return worst


def _require_ours(module: nn.GRU, x: Input) -> None:
    if not (isinstance(module, GRU) and gpu.takes(module, x)):
        raise WrongError("the kernels do not run this on this device")


def error_of(actual: Tensor, exact: Tensor) -> float:
    """The root mean square, relative to that of the numbers where it is above 1."""
    scale = max(1.0, float(exact.square().mean().sqrt()))
    return float((actual.double() - exact).square().mean().sqrt()) / scale


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Let new results start as NaN: a cell that no kernel writes is seen."""
    makers = {name: getattr(Tensor, name) for name in ("new_empty", "new_empty_strided")}

    def of_nan(maker: Callable) -> Callable:
        def make(self, *args, **kwargs):
            result = maker(self, *args, **kwargs)
            return result.fill_(float("nan")) if result.is_floating_point() else result

        return make

    try:
        for name, maker in makers.items():
            setattr(Tensor, name, of_nan(maker))
        yield
    finally:
        for name, maker in makers.items():
            setattr(Tensor, name, maker)


def _through_torch(module: nn.GRU, x: Input, dtype: torch.dtype) -> tuple[nn.GRU, Input]:
    """The same numbers for torch's own GRU."""
    twin = nn.GRU(module.input_size, module.hidden_size, device=DEVICE, dtype=dtype)
    twin.load_state_dict(copy.deepcopy(module.state_dict()))
    if isinstance(x, PackedSequence):
        data = x.data.detach().to(dtype).requires_grad_(x.data.requires_grad)
        return twin, x._replace(data=data)
    return twin, x.detach().to(dtype).requires_grad_(x.requires_grad)


def eager(case: Case, gru: type[nn.GRU]) -> Callable[[], object]:
    """A call of a module."""
    module, x = problem(case, gru, TIME)
    return functools.partial(step, module, x, slope(case, module, x))


def in_graph(case: Case) -> Callable[[], object]:
    """torch's own in a CUDA graph, which is captured with the first call."""
    graph: torch.cuda.CUDAGraph | None = None
    call = eager(case, nn.GRU)  # and with it what the graph reads

    def replay() -> None:
        nonlocal graph
        if graph is None:
            graph = captured(call)
        graph.replay()

    return replay


def captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A graph of a call, after three on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def flashrnn(case: Case) -> Callable[[], object]:
    """FlashRNN's GRU, forward, whose input product the caller makes: (batch, time, gates, ...)."""
    from flashrnn import flashrnn as run

    like = {"device": DEVICE, "dtype": torch.bfloat16}
    gates = torch.randn(case.batch, TIME, 3, 1, case.hidden, **like)
    weight = torch.randn(3, 1, case.hidden, case.hidden, **like) * case.hidden**-0.5
    bias = torch.zeros(3, 1, case.hidden, **like)
    return functools.partial(run, gates, weight, bias, function="gru", backend="cuda_fused")


def medians(roads: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each road's call, all by turns; without those that fail."""
    roads = {road: call for road, call in roads.items() if is_warm(road, call)}
    times: dict[str, list[float]] = {road: [] for road in roads}
    end = time.monotonic() + SECONDS * len(roads)
    for turn in range(TIMES):
        if turn >= FEWEST and time.monotonic() > end:
            break
        for road, call in roads.items():
            times[road].append(timed(call))
    return {road: round(statistics.median(found), 4) for road, found in times.items()}


def is_warm(road: str, call: Callable[[], object]) -> bool:
    """Whether a call can be made; it is made three times."""
    try:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
    except Exception:
        print(f"{road} cannot be timed:", file=sys.stderr)
        traceback.print_exc()
        return False
    return True


def timed(call: Callable[[], object]) -> float:
    """Milliseconds between events around a call."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
