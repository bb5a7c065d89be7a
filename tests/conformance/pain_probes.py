"""What users of GRUs have asked for in vain, as 37 questions with the answers yes and no.

    python tests/conformance/pain_probes.py [PROBE ...]

Every probe is put to `tidegate.nn.GRU` and to `torch.nn.GRU`; one that raises has failed. The tests
that hold each promise in all its forms are listed in `test_pains.py`; here is one example of each,
which torch's GRU may pass as well. What it has no argument for, it fails.
"""

from __future__ import annotations

import copy
import io
import logging
import pickle
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.func import functional_call, grad, hessian, jvp, stack_module_state, vmap
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tidegate import nn as tidegate
from tidegate import reference

T, B, I, H = 7, 3, 4, 6
Kind = type[nn.GRU]
PROBES: dict[str, Callable[[Kind], None]] = {}


def probe(question: Callable[[Kind], None]) -> Callable[[Kind], None]:
    PROBES[question.__name__] = question
    return question


def sequence(steps: int = T, batch: int = B, features: int = I) -> Tensor:
    return torch.randn(steps, batch, features)


def equal(one: Tensor, other: Tensor) -> None:
    """To the bit."""
    assert torch.equal(one, other), "the bits differ"


def close(one: Tensor, other: Tensor, by: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, atol=by, rtol=by)


def by_hand(gru: nn.GRU, x: Tensor, **options) -> Tensor:
    """The output by the equations, in float64."""
    numbers = [p.detach().double().numpy() for p in gru.parameters()]
    h_0 = torch.zeros(x.size(1), H).double().numpy()
    result = reference.gru(x.double().numpy(), h_0, *numbers, **options)
    return torch.from_numpy(result.output).float()


def gradients(loss: Tensor, gru: nn.GRU) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(gru.parameters())))


# Compilers and exporters.


@probe
def compiles_into_one_graph(kind: Kind) -> None:
    gru, x = kind(I, H), sequence()
    close(torch.compile(gru, fullgraph=True, backend="eager")(x)[0], gru(x)[0])


@probe
def trains_compiled(kind: Kind) -> None:
    gru, x = kind(I, H), sequence()
    compiled = torch.compile(gru, fullgraph=True, backend="aot_eager")
    pairs = zip(*(gradients(run(x)[0].sum(), gru) for run in (gru, compiled)), strict=True)
    for one, other in pairs:
        close(one, other)


@probe
def compiles_once_for_every_time(kind: Kind) -> None:
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(kind(I, H), fullgraph=True, dynamic=True, backend=counter)
    for steps in (5, 9, 30):
        compiled(sequence(steps))
    assert counter.frame_count == 1


@probe
def exports_with_free_time(kind: Kind) -> None:
    gru, free = kind(I, H).eval(), {"input": {0: Dim("time"), 1: Dim("batch")}}
    program = torch.export.export(gru, (sequence(),), dynamic_shapes=free)
    x = sequence(12, 5)
    close(program.module()(x)[0], gru(x)[0])


@probe
def exports_a_graph_that_time_does_not_lengthen(kind: Kind) -> None:
    nodes = [
        len(torch.export.export(kind(I, H), (sequence(n),)).run_decompositions().graph.nodes)
        for n in (4, 16)
    ]
    assert nodes[0] == nodes[1]


def onnx(module: nn.Module, *args: Tensor, **options) -> Callable[..., list]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    program = torch.onnx.export(module, args, dynamo=True, verbose=False, **options)
    program.save(file := io.BytesIO())
    session = onnxruntime.InferenceSession(file.getvalue())
    names = [given.name for given in session.get_inputs()]
    return lambda *given: session.run(
        None, dict(zip(names, (t.numpy() for t in given), strict=True))
    )


@probe
def onnx_computes_the_same(kind: Kind) -> None:
    gru, x = kind(I, H).eval(), sequence()
    close(torch.from_numpy(onnx(gru, x)(x)[0]), gru(x)[0])


@probe
def onnx_has_free_time(kind: Kind) -> None:
    gru, x = kind(I, H).eval(), sequence(12, 5)
    free = {"input": {0: Dim("time"), 1: Dim("batch")}}
    close(torch.from_numpy(onnx(gru, sequence(), dynamic_shapes=free)(x)[0]), gru(x)[0])


class Ragged(nn.Module):
    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.gru = kind(I, H)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.gru(x, lengths=lengths)[0]


@probe
def onnx_takes_lengths(kind: Kind) -> None:
    model, lengths = Ragged(kind).eval(), torch.tensor([2, 7, 0])
    free = {"x": {0: Dim("time"), 1: Dim("batch")}, "lengths": {0: Dim("batch")}}
    run = onnx(model, sequence(), lengths, dynamic_shapes=free)
    x, lengths = sequence(9, 4), torch.tensor([9, 0, 3, 4])
    close(torch.from_numpy(run(x, lengths)[0]), model(x, lengths))


@probe
def is_taken_by_torchscript(kind: Kind) -> None:
    model, x = nn.Sequential(kind(I, H)), sequence()
    close(torch.jit.script(model)(x)[0], model(x)[0])


# Lengths.


@probe
def packed_rows_are_rows(kind: Kind) -> None:
    gru, x, lengths = kind(I, H), sequence(), torch.tensor([2, 7, 3])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, _ = pad_packed_sequence(gru(packed)[0])
    for row, length in enumerate(lengths):
        close(output[:length, row], gru(x[:length, row])[0])


def milliseconds(gru: nn.GRU, x: Tensor | PackedSequence) -> float:
    def step() -> float:
        start = time.perf_counter()
        output = gru(x)[0]
        (output.data if isinstance(output, PackedSequence) else output).sum().backward()
        return 1000 * (time.perf_counter() - start)

    return statistics.median(step() for _ in range(5))


@probe
def packed_rows_train_at_the_price_of_padded_ones(kind: Kind) -> None:
    gru, x = kind(32, 64), sequence(500, 16, 32)
    packed = pack_padded_sequence(x, torch.full((16,), 500))
    assert milliseconds(gru, packed) < 2 * milliseconds(gru, x)


@probe
def takes_lengths_in_any_order_and_of_zero(kind: Kind) -> None:
    gru, x, lengths = kind(I, H), sequence(), [3, 0, 7]
    hx = torch.randn(1, B, H)
    output, h_n = gru(x, hx, lengths=lengths)
    equal(h_n[:, 1], hx[:, 1])
    for row, length in enumerate(lengths):
        assert not output[length:, row].any()
        if length:
            close(h_n[:, row], gru(x[:length, row], hx[:, row])[1])


@probe
def no_steps_are_a_sequence(kind: Kind) -> None:
    hx = torch.randn(1, B, H)
    output, h_n = kind(I, H)(sequence(0), hx)
    assert output.shape == (0, B, H)
    equal(h_n, hx)


# Inside the recurrence.


@probe
def an_episode_begins_inside_a_sequence(kind: Kind) -> None:
    gru, x, keep = kind(I, H), sequence(), torch.ones(T, B)
    keep[4] = 0
    equal(gru(x, keep=keep)[0][4:], gru(x[4:])[0])


@probe
def a_gap_in_time_fades_the_state(kind: Kind) -> None:
    gru, x, hx, keep = kind(I, H), sequence(1), torch.randn(1, B, H), torch.rand(1, B, H)
    close(gru(x, hx, keep=keep)[0], gru(x, keep * hx)[0])


@probe
def recurrent_dropout_is_one_mask_a_sequence(kind: Kind) -> None:
    gru = kind(I, H, recurrent_dropout=0.5)
    gru(sequence(), torch.ones(1, B, H))[0].sum().backward()
    gru.zero_grad()
    gru(sequence(50, 1))[0].sum().backward()  # a unit that was dropped never met its weights
    assert 0 < gru.weight_hh_l0.grad.any(0).sum() < H


@probe
def weight_dropout_drops_recurrent_weights(kind: Kind) -> None:
    gru = kind(I, H, weight_dropout=0.5)
    gru(sequence())[0].sum().backward()
    assert 0.2 < (gru.weight_hh_l0.grad == 0).float().mean() < 0.8


@probe
def zoneout_keeps_units(kind: Kind) -> None:
    output = kind(I, H, zoneout=0.5)(sequence(50))[0]
    assert 0.3 < (output[1:] == output[:-1]).float().mean() < 0.7


@probe
def layer_norm_takes_the_scale_out(kind: Kind) -> None:
    gru, x = kind(I, H, layer_norm=True), sequence()
    close(gru(100 * x)[0], gru(1000 * x)[0], 1e-3)


@probe
def the_reset_gate_may_act_before_the_product(kind: Kind) -> None:
    gru, x = kind(I, H, reset="before"), sequence()
    close(gru(x)[0], by_hand(gru, x, reset="before"))


@probe
def gates_can_be_seen(kind: Kind) -> None:
    gru, x = kind(I, H), sequence()
    output, _, gates = gru(x, return_gates=True)
    z, n = gates.update[0], gates.new[0]
    close(output[1:], (1 - z[1:]) * n[1:] + z[1:] * output[:-1])


@probe
def an_initial_state_is_learnt(kind: Kind) -> None:
    gru = kind(I, H, learn_hx=True)
    gru(sequence())[0].sum().backward()
    assert gru.hx_l0.grad.any()


@probe
def a_projection_narrows_the_output(kind: Kind) -> None:
    assert kind(I, H, proj_size=2)(sequence())[0].shape == (T, B, 2)


@probe
def the_last_state_is_at_hand(kind: Kind) -> None:
    gru, x = kind(I, H, 2, bidirectional=True), sequence()
    result = gru(x)
    close(result.last(), torch.cat((result[0][-1, :, :H], result[0][0, :, H:]), -1))


# Derivatives and transforms.


@probe
def maps_over_a_batch(kind: Kind) -> None:
    gru, x = kind(I, H), torch.randn(5, T, B, I)
    close(vmap(lambda one: gru(one)[0])(x), torch.stack([gru(one)[0] for one in x]))


@probe
def maps_over_an_ensemble(kind: Kind) -> None:
    members, x = [kind(I, H) for _ in range(4)], sequence()
    weights, _ = stack_module_state(members)
    found = vmap(lambda of_one: functional_call(members[0], of_one, (x,))[0])(weights)
    close(found, torch.stack([member(x)[0] for member in members]))


@probe
def gives_gradients_of_each_sample(kind: Kind) -> None:
    gru, x = kind(I, H), torch.randn(5, T, 1, I)
    weights = {name: p.detach() for name, p in gru.named_parameters()}

    def loss(of_gru: dict, one: Tensor) -> Tensor:
        return functional_call(gru, of_gru, (one,))[0].sum()

    found = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    whole = gradients(gru(x[:, :, 0].transpose(0, 1))[0].sum(), gru)
    for one, other in zip(found.values(), whole, strict=True):
        close(one.sum(0), other, 1e-4)


@probe
def has_second_derivatives(kind: Kind) -> None:
    gru, x = kind(2, 3).double(), sequence(3, 2, 2).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: gru(x)[0], x)


@probe
def has_forward_derivatives(kind: Kind) -> None:
    gru, x, towards = kind(I, H).double(), sequence().double(), sequence().double()
    _, found = jvp(lambda x: gru(x)[0], (x,), (towards,))
    small = 1e-6
    close(found, (gru(x + small * towards)[0] - gru(x - small * towards)[0]) / (2 * small))


@probe
def has_a_hessian(kind: Kind) -> None:
    gru, x = kind(2, 3).double(), sequence(3, 1, 2).double()
    found = hessian(lambda x: gru(x)[0].sin().sum())(x).reshape(6, 6)
    close(found, found.T)


# The same bits, and copies.


@probe
def a_row_does_not_depend_on_its_company(kind: Kind) -> None:
    gru, x = kind(32, 64), sequence(20, 16, 32)
    for row in range(16):
        equal(gru(x)[0][:, row : row + 1], gru(x[:, row : row + 1])[0])


@probe
def chunks_are_the_whole(kind: Kind) -> None:
    gru, x = kind(32, 64), sequence(20, 4, 32)
    head, h = gru(x[:9])
    equal(torch.cat((head, gru(x[9:], h)[0])), gru(x)[0])


@probe
def a_nan_stays_in_its_row(kind: Kind) -> None:
    x = sequence()
    x[2, 1] = float("nan")
    assert kind(I, H)(x)[0].isnan().any(-1).any(0).tolist() == [False, True, False]


@probe
def copies_and_pickles(kind: Kind) -> None:
    gru, x = kind(I, H), sequence()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for twin in (copy.deepcopy(gru), pickle.loads(pickle.dumps(gru))):
            equal(twin(x)[0], gru(x)[0])


@probe
def takes_parametrized_weights(kind: Kind) -> None:
    gru, x = kind(I, H), sequence()
    before = gru(x)[0]
    close(parametrizations.weight_norm(gru, "weight_hh_l0")(x)[0], before)


@probe
def trains_in_half_precision(kind: Kind) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        gru = kind(I, H).to(dtype)
        output = gru(sequence().to(dtype))[0]
        output.sum().backward()
        assert output.dtype == dtype
        assert gru.weight_hh_l0.grad.isfinite().all()


@probe
def survives_dynamic_quantization(kind: Kind) -> None:
    model, x = nn.Sequential(kind(I, H)).eval(), sequence()
    smaller = torch.ao.quantization.quantize_dynamic(model, {nn.GRU}, dtype=torch.qint8)
    close(smaller(x)[0], model(x)[0], 0.1)


def passes(question: Callable[[Kind], None], kind: Kind) -> str:
    """Empty, or what went wrong."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    try:
        question(kind)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:90]}"
    return ""


def main() -> int:
    """Ask all questions, or those that are named; 1 if ours fails one."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    names = sys.argv[1:] or list(PROBES)
    failed = {"Tidegate": 0, "torch": 0}
    for name in names:
        for who, kind in zip(failed, (tidegate.GRU, nn.GRU), strict=True):
            if why := passes(PROBES[name], kind):
                failed[who] += 1
                print(f"{name}: {who} fails, {why}")
    for who, count in failed.items():
        print(f"{who}: {len(names) - count} of {len(names)}")
    return failed["Tidegate"] > 0


if __name__ == "__main__":
    sys.exit(main())
