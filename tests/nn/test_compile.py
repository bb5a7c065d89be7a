"""Compiled and exported, with one graph for any number of steps and rows."""

import copy
import io

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.export import Dim
from torch.nn.utils.rnn import pack_padded_sequence

from nn_cases import gradients
from tidegate.nn import GRU, GRUCell

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
OPTIONS = [
    {},
    {"reset": "before", "stack": "residual"},
    {"reset": "none", "proj_size": 3, "learn_hx": True},
    {"layer_norm": True, "stack": "dense"},
]


class Model(nn.Module):
    """A GRU in a model, called with what its users call it with."""

    def __init__(self, **options):
        super().__init__()
        self.gru = GRU(4, 6, 2, bidirectional=True, batch_first=True, **options)

    def forward(self, x, lengths=None, keep=None):
        result = self.gru(x.sin(), lengths=lengths, keep=keep, return_gates=True)
        output, h_n = result[:2]
        states = h_n if isinstance(h_n, torch.Tensor) else torch.cat(h_n)
        return output.cos(), states, result.last(), result.gates.update[1]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


def arguments(batch: int, time: int) -> tuple[torch.Tensor, ...]:
    lengths = torch.arange(batch) % (time + 1)
    return torch.randn(batch, time, 4), lengths, torch.rand(batch, time)


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("options", OPTIONS)
def test_one_graph_serves_every_size(options):
    model, counter = Model(**options), CompileCounter()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    for batch, time in ((3, 5), (4, 9), (2, 17), (7, 6)):
        given = arguments(batch, time)
        assert_same(compiled(*given), model(*given))
    assert counter.frame_count == 1


def test_time_that_changes_costs_one_compilation_more():
    model, counter = Model(), CompileCounter()
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for time in (5, 6, 9, 17):
        compiled(torch.randn(3, time, 4))
    assert counter.frame_count == 2


@pytest.mark.parametrize("options", OPTIONS[:1])
def test_training_through_inductor_is_training(options):
    model = Model(**options)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for batch, time in ((3, 5), (4, 9)):
        x, lengths, keep = arguments(batch, time)
        x.requires_grad_()
        inputs = [x, *model.parameters()]
        found = [gradients(run(x, lengths, keep), inputs) for run in (model, compiled)]
        assert_same(*found)


def test_a_packed_sequence_compiles():
    gru, compiled = (gru := GRU(4, 6)), torch.compile(gru, backend="eager", fullgraph=True)
    for lengths in ([2, 3, 1], [4, 4, 4]):
        packed = pack_padded_sequence(torch.randn(5, 3, 4), lengths, enforce_sorted=False)
        assert torch.equal(compiled(packed).output.data, gru(packed).output.data)
        assert torch.equal(compiled(packed).h_n, gru(packed).h_n)


def test_torchs_own_gru_is_left_to_torch():
    """The leave that ours has from Dynamo is not passed on."""
    torch.compile(GRU(4, 6), fullgraph=True, backend="eager")(torch.randn(5, 3, 4))
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(nn.GRU(4, 6), fullgraph=True, backend="eager")(torch.randn(5, 3, 4))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_an_exported_program_serves_every_size(strict, options):
    model = Model(**options).eval()
    batch, time = Dim("batch"), Dim("time")
    free = {0: batch, 1: time}
    program = torch.export.export(
        model,
        arguments(3, 5),
        dynamic_shapes={"x": free, "lengths": {0: batch}, "keep": free},
        strict=strict,
    )
    calls = [node for node in program.graph.nodes if "gru_layer" in str(node.target)]
    assert len(calls) == 2
    run = program.run_decompositions().module()  # as an exporter takes it further
    for sizes in (
        (2, 11),
        (5, 6),
        (1, 1),
        (2, 2),
        (6, 6),
    ):  # what else has such a size is no matter
        given = arguments(*sizes)
        assert_same(run(*given), model(*given))


def test_an_exported_program_can_be_saved():
    gru, x, file = GRU(4, 6), torch.randn(5, 3, 4), io.BytesIO()
    torch.export.save(torch.export.export(gru, (x,)), file)
    file.seek(0)
    result = torch.export.load(file).module()(x)
    assert torch.equal(result.last(), gru(x).last())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_holds_torchs_operator():
    gru = GRU(4, 6, 2, bidirectional=True)
    traced = torch.jit.trace(gru, (torch.randn(5, 3, 4),))
    assert "aten::gru" in str(traced.graph)
    x = torch.randn(9, 2, 4)
    assert_same(traced(x), gru(x))


def test_torchscript_compiles_torchs_gru_with_our_parameters():
    model = nn.Sequential(GRU(4, 6, 2))
    gru, x = model[0], torch.randn(5, 3, 4)
    scripted = torch.jit.script(copy.copy(model))
    assert_same(scripted(x), gru(x))


def test_torchscript_refuses_our_options_in_a_sentence():
    with pytest.raises(TypeError, match="torch's own arguments only"):
        torch.jit.script(nn.Sequential(GRU(4, 6, reset="none")))


class Read(nn.Module):
    """A model that takes its GRU's result apart."""

    def __init__(self):
        super().__init__()
        self.gru, self.cell = GRU(4, 6), GRUCell(6, 6, reset="before")

    def forward(self, x, lengths):
        result = self.gru(x, lengths=lengths)
        output, h_n = result
        return output.sin(), self.cell(h_n[0], result.last())


def test_a_symbolic_trace_has_a_gru_for_one_node():
    model = Read()
    traced = torch.fx.symbolic_trace(model)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["gru", "cell"]
    x, lengths = torch.randn(9, 2, 4), torch.tensor([9, 3])
    assert_same(traced(x, lengths), model(x, lengths))


def test_cost_modes_see_the_operator():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        assert GRU(4, 6)(torch.randn(5, 3, 4)).output.isfinite().all()
