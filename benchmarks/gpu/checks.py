"""What must be right on a device beside plain calls: prints a line of JSON for each check.

Every option on small layers of odd sizes, against float64 on the CPU; and streams, graphs, threads,
compiled graphs, autocast, other devices, where the same call made plainly gives the same bits.
With `sanitized`, the options alone.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from unittest import mock

import one
import torch
from one import DTYPES, ROUNDING, WrongError, error_of
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from tidegate.nn import GRU
from tidegate.nn.gpu import _launch

TIME, BATCH, FEATURES = 5, 11, 3
LENGTHS = (5, 0, 2, 5, 1, 4, 3, 5, 2, 1, 4)
MANY_ROWS = 200_000
# One block; a cluster of two, or of four.
SIZES = {"float32": (20, 129), "tf32": (33, 250), "float16": (37, 192), "bfloat16": (37, 131)}
IN_CLUSTER = 131
ROUNDINGS = 8


def main(sanitized: bool = False) -> None:
    """Make every check."""
    for name, check in checks(sanitized).items():
        fault = ""
        try:
            check()
        except Exception as error:
            fault = f"{type(error).__name__}: {error}".partition("\n")[0]
            print(name, file=sys.stderr)
            traceback.print_exc()
        print(json.dumps({"check": name, "fault": fault}), flush=True)


def checks(sanitized: bool) -> dict[str, Callable[[], None]]:
    """Every check by its name."""
    found: dict[str, Callable[[], None]] = {
        f"{kind}, {hidden} units, reset {reset}": functools.partial(options, kind, hidden, reset)
        for kind, sizes in SIZES.items()
        for hidden in sizes
        for reset in ("after", "before")
    }
    if sanitized:
        return found
    others = (packed, views, many_rows, nothing, autocast, stream, graph, thread, compiled)
    return found | {check.__name__: check for check in (*others, another_device, parallel)}


def options(kind: str, hidden: int, reset: str) -> None:
    """Both directions, a first state, lengths, keep and gates; outputs and all gradients."""
    gru, x, h_0 = draw(kind, hidden, batch_first=True, bidirectional=True, reset=reset)
    keep = torch.rand(BATCH, TIME, hidden).to(x.dtype)
    given = {"lengths": torch.tensor(LENGTHS), "keep": keep, "return_gates": True}
    compare(kind, gru, (x, h_0), given)


def packed() -> None:
    """Packed rows in any order, two layers."""
    gru, x, h_0 = draw("float32", 20, num_layers=2)
    lengths = [max(1, length) for length in LENGTHS]

    def results(gru: GRU, x: Tensor, h_0: Tensor) -> list[Tensor]:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, h_n = gru(packed, h_0)
        return [output.data, h_n]

    compare("float32", gru, (x, h_0), {}, results)


def views() -> None:
    """Tensors that begin at no multiple of anything, with gaps, and spread over one number."""
    gru, x, h_0 = draw("bfloat16", 37)

    def results(gru: GRU, x: Tensor, h_0: Tensor) -> list[Tensor]:
        gaps = torch.stack((x.new_zeros(x.shape), x), -1).flatten(2)[..., 1::2]
        state = torch.cat((h_0.new_zeros(1), h_0.flatten()))[1:].view(h_0.shape)
        keep = x.new_full((1, 1), 0.5).expand(TIME, BATCH)
        output, h_n = gru(gaps, state, keep=keep)
        return [output.sum(), h_n]

    compare("bfloat16", gru, (x, h_0), {}, results)


def many_rows() -> None:
    """More blocks than 2^16 is wide."""
    gru, x, h_0 = draw("float32", 20, time=1, batch=MANY_ROWS)
    gru.requires_grad_(False)  # sums over all rows are a library's, and round more
    compare("float32", gru, (x, h_0), {})


def nothing() -> None:
    """No steps, and no rows."""
    gru, x, h_0 = on_device(*draw("float32", 20))
    output, h_n = gru(x[:0], h_0)
    require(output.shape == (0, BATCH, 20) and torch.equal(h_n, h_0), "no steps change the state")
    output, h_n = gru(x[:, :0], h_0[:, :0])
    require(output.shape == (TIME, 0, 20) and h_n.shape == (1, 0, 20), "no rows have a result")


def autocast() -> None:
    """In half precision, as torch's."""
    gru, x, h_0 = on_device(*draw("float32", 37))
    half = [t.detach().bfloat16() for t in (x, h_0)]
    exact = copy.deepcopy(gru).bfloat16()(*half)
    with through_ours("gru_forward"), torch.autocast(one.DEVICE, torch.bfloat16):
        found = gru(x, h_0)
    require(found.output.dtype == torch.bfloat16, f"the output is {found.output.dtype}")
    same(list(found), list(exact))


def stream() -> None:
    """On a stream that is not the default one."""
    gru, x, h_0 = on_device(*draw("float32", 20))
    expected = step(gru, x, h_0)
    other = torch.cuda.Stream()
    other.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(other):
        found = step(gru, x, h_0)
    torch.cuda.current_stream().wait_stream(other)
    same(found, expected)


def graph() -> None:
    """Captured with other numbers than it is replayed with, forward and backward."""
    gru, x, h_0 = on_device(*draw("bfloat16", IN_CLUSTER))
    expected = step(gru, x, h_0)
    numbers = x.detach().clone()
    found: list[Tensor] = []

    def call() -> None:
        found[:] = step(gru, x, h_0)

    with torch.no_grad():
        x.zero_()
    captured = one.captured(call)
    with torch.no_grad():
        x.copy_(numbers)
    captured.replay()
    torch.cuda.synchronize()
    same(found, expected)


def thread() -> None:
    """From a thread that torch has not met."""
    gru, x, h_0 = on_device(*draw("bfloat16", 37))
    expected, found = step(gru, x, h_0), []
    other = threading.Thread(target=lambda: found.extend(step(gru, x, h_0)))
    other.start()
    other.join()
    same(found, expected)


def compiled() -> None:
    """In one graph of torch's compiler, with lengths."""
    gru, x, h_0 = on_device(*draw("float32", 20))
    lengths = torch.tensor(LENGTHS, device=one.DEVICE)
    again = torch.compile(gru, backend="aot_eager", fullgraph=True)
    expected = step(gru, x, h_0, functools.partial(gru, lengths=lengths))
    same(step(gru, x, h_0, functools.partial(again, lengths=lengths)), expected)


def parallel() -> None:
    """Under DistributedDataParallel, alone in its group."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    gru, x, h_0 = on_device(*draw("float32", 20))
    expected = step(gru, x, h_0)
    backend = "nccl" if one.DEVICE == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        with through_ours("gru_forward", "gru_backward"):
            output, h_n = DistributedDataParallel(gru)(x, h_0)
            (output.float().sum() + h_n.float().sum()).backward()
        gradients = [p.grad for p in (x, h_0, *gru.parameters()) if p.grad is not None]
        same([output, h_n, *gradients], expected)
    finally:
        dist.destroy_process_group()


def another_device() -> None:
    """On the second device while the first is current; where there is one."""
    if torch.cuda.device_count() < 2:
        return
    gru, x, h_0 = on_device(*draw("bfloat16", IN_CLUSTER))
    expected = step(gru, x, h_0)
    gru, x, h_0 = on_device(gru, x, h_0, device="cuda:1")
    same([t.to(one.DEVICE) for t in step(gru, x, h_0)], expected)


def draw(
    kind: str, hidden: int, *, time: int = TIME, batch: int = BATCH, **settings
) -> tuple[GRU, Tensor, Tensor]:
    """A GRU at initial scale, its input and first state, on the CPU."""
    one.set_up(kind)
    torch.manual_seed(0)
    gru = GRU(FEATURES, hidden, dtype=DTYPES[kind], **settings)
    lead = (batch, time) if gru.batch_first else (time, batch)
    states = gru.num_layers * (1 + gru.bidirectional)
    x, h_0 = torch.randn(*lead, FEATURES), torch.rand(states, batch, hidden) - 0.5
    return gru, x.to(DTYPES[kind]), h_0.to(DTYPES[kind])


def on_device(
    gru: GRU, x: Tensor, h_0: Tensor, device: str | None = None
) -> tuple[GRU, Tensor, Tensor]:
    """All of a call on a device, its tensors asking for gradients."""
    device = device or one.DEVICE
    x, h_0 = (t.detach().to(device, copy=True).requires_grad_() for t in (x, h_0))
    return copy.deepcopy(gru).to(device), x, h_0


def step(gru: GRU, x: Tensor, h_0: Tensor, call: Callable | None = None) -> list[Tensor]:
    """Results of a call, and the gradients of their sum."""
    with through_ours("gru_forward", "gru_backward"):
        output, h_n = (call or gru)(x, h_0)
        total = output.float().sum() + h_n.float().sum()
        return [output, h_n, *torch.autograd.grad(total, [x, h_0, *gru.parameters()])]


def compare(
    kind: str,
    gru: GRU,
    tensors: tuple[Tensor, Tensor],
    given: dict,
    results: Callable | None = None,
) -> None:
    """Hold results and gradients against those in float64 on the CPU.

    Raises:
        WrongError: they differ by more than roundings, or are not our kernels'.
    """
    exact = [t.detach().double().requires_grad_() for t in tensors]
    keep = given.get("keep")
    many = {} if keep is None else {"keep": keep.double().requires_grad_()}
    expected = _slopes(copy.deepcopy(gru).double(), exact, given | many, results)
    gru, *moved = on_device(gru, *tensors)
    there = {
        name: value.detach().to(one.DEVICE) if isinstance(value, Tensor) else value
        for name, value in given.items()
    }
    if keep is not None:
        there["keep"].requires_grad_()
    with through_ours("gru_forward", "gru_backward"), one.poisoned():
        found = _slopes(gru, moved, there, results)
    for i, (actual, other) in enumerate(zip(found, expected, strict=True)):
        error = error_of(actual.cpu(), other) / ROUNDING[kind]
        if not error <= ROUNDINGS:
            raise WrongError(f"result {i} is {error:.3g} roundings from float64")


def _slopes(gru: GRU, tensors: list[Tensor], given: dict, results: Callable | None) -> list[Tensor]:
    """Results and gradients of all that can have one, from fixed gradients of the results."""
    if results is None:
        output, h_n, *gates = gru(*tensors, **given)
        shown, others = [output, h_n], [g for gate in gates for layer in gate for g in layer]
    else:
        shown, others = results(gru, *tensors), []
    keep = [given["keep"]] if "keep" in given else []
    d_shown = [
        torch.cos(torch.arange(t.numel(), dtype=torch.float64)).view(t.shape).to(t) for t in shown
    ]
    weights = [p for p in gru.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(shown, [*tensors, *keep, *weights], d_shown)
    return [t.detach() for t in (*shown, *others, *gradients)]


@contextlib.contextmanager
def through_ours(*wanted: str) -> Iterator[None]:
    """See that our kernels run.

    Raises:
        WrongError: one of them did not.
    """
    with mock.patch.object(_launch, "launch", wraps=_launch.launch) as launch:
        yield
    missing = set(wanted) - {call.args[0] for call in launch.call_args_list}
    require(not missing, f"{', '.join(sorted(missing))} did not run")


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    """Require the same bits."""
    pairs = enumerate(zip(found, expected, strict=True))
    differ = [i for i, (one, other) in pairs if not one.equal(other)]
    require(not differ, f"results {differ} differ in their bits")


def require(holds: bool, otherwise: str) -> None:
    """Raise unless it holds."""
    if not holds:
        raise WrongError(otherwise)


if __name__ == "__main__":
    main("sanitized" in sys.argv[1:])
