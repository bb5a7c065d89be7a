"""One kernel of `run.py`, in a process of its own: prints a line of JSON for each call."""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
from collections.abc import Callable

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
TIME, REPEATS = 512, 100
Input = Tensor | PackedSequence


class WrongError(Exception):
    """A result that is not right."""


def main(kind: str, hidden: int = 0) -> None:
    """Measure every call of one kernel; or prove a tiny layer of each kind."""
    if kind == "tiny":
        for each in DTYPES:
            prove(Case(each, True, True, 40, 9), time=5, repeats=2)
        return
    for case in calls(Kernel(kind, hidden)):
        print(json.dumps(case._asdict() | measure(case)), flush=True)


def measure(case: Case) -> dict[str, float | str]:
    """Milliseconds of each road, and the error of ours, or what is wrong with it."""
    found: dict[str, float | str] = {}
    if case.hidden <= LARGEST:
        try:
            found["error"] = prove(case, TIME, REPEATS)
            found["ours"] = timed(case, *problem(case, GRU, TIME))
        except WrongError as wrong:
            found["fault"] = str(wrong)
    found["eager"] = timed(case, *problem(case, nn.GRU, TIME))
    for road, other in (("graph", in_graph), ("flashrnn", flashrnn)):
        milliseconds = other(case)
        if milliseconds is not None:
            found[road] = milliseconds
    return found


def set_up(kind: str) -> None:
    """Ours wherever they can, and float32 products as the kind of number says."""
    os.environ["TIDEGATE_GPU"] = "always"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"


def problem(case: Case, gru: type[nn.GRU], time: int, seed: int = 0) -> tuple[nn.GRU, Input]:
    """A GRU at initial scale and its input, drawn anew for each seed."""
    set_up(case.kind)
    torch.manual_seed(seed)
    module = gru(case.hidden, case.hidden, device="cuda", dtype=DTYPES[case.kind])
    x = torch.randn(time, case.batch, case.hidden, device="cuda", dtype=DTYPES[case.kind])
    if not case.packed:
        return module, x.requires_grad_(case.training)
    lengths = torch.linspace(time, max(1, time // 4), case.batch).long()
    packed = pack_padded_sequence(x, lengths)
    packed.data.requires_grad_(case.training)
    return module, packed


def step(module: nn.GRU, x: Input, training: bool) -> list[Tensor]:
    """One call, with its gradients in training."""
    data = x.data if isinstance(x, PackedSequence) else x
    with torch.set_grad_enabled(training):
        output, h_n = module(x)
    output = output.data if isinstance(output, PackedSequence) else output
    if not training:
        return [output, h_n]
    asked = [data, *module.parameters()]
    d_output = torch.cos(torch.arange(output.numel(), device=output.device)).view_as(output)
    return [output, h_n, *torch.autograd.grad(output, asked, d_output.to(output.dtype))]


def prove(case: Case, time: int, repeats: int) -> float:
    """The largest error in roundings against float64; and every repeat the same bits."""
    worst = 0.0
    for seed in range(3):
        module, x = problem(case, GRU, time, seed)
        if not (isinstance(module, GRU) and gpu.takes(module, x)):
            raise WrongError("the kernels do not run this on this device")
        poison()
        found = step(module, x, case.training)
        exact = step(*_in_float64(module, x), case.training)
        for actual, expected in zip(found, exact, strict=True):
            scale = max(1.0, float(expected.square().mean().sqrt()))
            error = float((actual.double() - expected).square().mean().sqrt()) / scale
            worst = max(worst, error / ROUNDING[case.kind])
            if not error <= 8 * ROUNDING[case.kind]:
                raise WrongError(f"an error of {error:.3g} against float64, seed {seed}")
    for _ in range(repeats):
        poison()
        if not all(map(torch.equal, found, step(module, x, case.training))):
            raise WrongError("two runs differ in their bits")
    return worst


def poison() -> None:
    """Fill the memory that results will be put in with NaN: a cell left out is seen."""
    free = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    blocks = [torch.full((1 << 18,), float("nan"), device="cuda") for _ in range(free >> 20)]
    del blocks


def _in_float64(module: nn.GRU, x: Input) -> tuple[nn.GRU, Input]:
    """The same numbers through torch's own GRU."""
    exact = nn.GRU(module.input_size, module.hidden_size, device="cuda", dtype=torch.float64)
    exact.load_state_dict(copy.deepcopy(module.state_dict()))
    if isinstance(x, PackedSequence):
        data = x.data.detach().double().requires_grad_(x.data.requires_grad)
        return exact, x._replace(data=data)
    return exact, x.detach().double().requires_grad_(x.requires_grad)


def timed(case: Case, module: nn.GRU, x: Input) -> float:
    """Milliseconds of a call."""
    return median(lambda: step(module, x, case.training))


def median(call: Callable[[], object], repeats: int = 20) -> float:
    """Milliseconds between events around single calls."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def in_graph(case: Case) -> float | None:
    """torch's own in a CUDA graph; packed input cannot be captured everywhere."""
    module, x = problem(case, nn.GRU, TIME)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(module, x, case.training)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(module, x, case.training)
    except RuntimeError:
        return None
    return median(graph.replay)


def flashrnn(case: Case) -> float | None:
    """FlashRNN's GRU, forward, where it is installed: (batch, time, gates, heads, hidden)."""
    try:
        from flashrnn import flashrnn as run
    except Exception:  # it builds its own extension when imported
        return None
    if case.packed or case.training or case.kind != "bfloat16":
        return None
    like = {"device": "cuda", "dtype": torch.bfloat16}
    gates = torch.randn(case.batch, TIME, 3, 1, case.hidden, **like)
    weight = torch.randn(3, 1, case.hidden, case.hidden, **like) * case.hidden**-0.5
    bias = torch.zeros(3, 1, case.hidden, **like)
    try:
        return median(lambda: run(gates, weight, bias, function="gru", backend="cuda_fused"))
    except Exception:
        return None


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
