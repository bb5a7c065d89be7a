"""What our kernels do not run on a GPU goes to torch's own GRU: on a CPU, by steering."""

import copy

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence

from helpers import assert_matches
from nn_cases import gradients
from tidegate.nn import GRU, _functional, _gru, _kernel, _short, _torchs
from tidegate.nn._layer import Layer, Plan

LENGTHS = torch.tensor([4, 0, 2, 3, 1])


@pytest.fixture
def ran(monkeypatch) -> list[Tensor]:
    """Send every layer to torch's GRU, and remember what each was given."""
    given = []
    gru = torch.gru

    def watched(x, *rest):
        given.append(x)
        return gru(x, *rest)

    def stepwise(*call):
        raise AssertionError("step by step")

    monkeypatch.setattr(_kernel, "runs", lambda layer: False)
    monkeypatch.setattr(_short, "run", lambda *call: None)
    monkeypatch.setattr(_torchs, "is_at_home", lambda x: True)
    monkeypatch.setattr(torch, "gru", watched)
    monkeypatch.setattr(_functional, "gru_layer", stepwise)
    return given


def make(**options) -> tuple[GRU, Tensor, Tensor]:
    torch.manual_seed(0)
    gru = GRU(3, 6, **options)
    layers = gru.num_layers * (1 + gru.bidirectional)
    return gru, torch.randn(4, 5, 3), torch.rand(layers, 5, 6)


def results(gru, x, h_0, **options) -> list[Tensor]:
    x, h_0 = x.detach().requires_grad_(), h_0.detach().requires_grad_()
    found = gru(x, h_0, **options)
    return [*found, *gradients(tuple(found), [x, h_0, *gru.parameters()])]


def assert_same(actual, expected) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert_matches(one.detach().numpy(), other.detach().double().numpy())


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_are_packed_for_torch(request, batch_first):
    gru, x, h_0 = make(num_layers=2, bidirectional=True, batch_first=batch_first)
    x = x.transpose(0, 1) if batch_first else x
    exact = results(copy.deepcopy(gru).double(), x.double(), h_0.double(), lengths=LENGTHS)
    beyond = torch.arange(4)[:, None] >= LENGTHS
    x[beyond.T if batch_first else beyond] = float("nan")
    ran = request.getfixturevalue("ran")
    found = results(gru, x, h_0, lengths=LENGTHS)
    assert_same(found, exact)
    assert found[0].is_contiguous()
    assert [t.shape for t in ran] == [(11, 3), (11, 12)]  # ten steps, and one for the empty row


def test_a_length_out_of_range_is_refused(ran):
    gru, x, h_0 = make()
    with pytest.raises(ValueError, match="lengths must lie between 0 and 4, the time steps"):
        gru(x, h_0, lengths=LENGTHS + 1)


def test_layers_of_our_stacks_are_torchs(request):
    gru, x, _ = make(num_layers=2, stack="residual", learn_hx=True)
    exact = copy.deepcopy(gru).double()
    packed = pack_padded_sequence(x, [4, 1, 3, 2, 1], enforce_sorted=False)
    expected = exact(packed._replace(data=packed.data.double()))
    ran = request.getfixturevalue("ran")
    found = gru(packed)
    assert_same((found.output.data, found.h_n), (expected.output.data, expected.h_n))
    assert len(ran) == 2


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}])
def test_a_compiled_graph_runs_it_in_the_calls_own_type(ran, options):
    gru, x, h_0 = make(bidirectional=True)
    exact = results(copy.deepcopy(gru), x, h_0, **options)
    compiled = torch.compile(gru, backend="aot_eager", fullgraph=True)
    del ran[:]
    assert_same(results(compiled, x, h_0, **options), exact)
    assert len(ran) == 2  # forward, and again for the gradients
    del ran[:]
    half = copy.deepcopy(gru).bfloat16()
    again = torch.compile(half, backend="aot_eager", fullgraph=True)
    result = again(x.bfloat16(), h_0.bfloat16(), **options)
    assert {result.output.dtype, ran[0].dtype} == {torch.bfloat16}


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_the_operator_keeps_torchs_contract(ran, lengths):
    gru, x, h_0 = make(bidirectional=True)
    weights = [p.detach().requires_grad_() for p in gru.parameters()]
    plan = Plan(directions=2, batch_first=True)
    torch.library.opcheck(
        torch.ops.tidegate.gru_layer.default,
        (x, h_0, None, None, None, lengths, None, weights, *plan),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    assert ran


def test_autocast_is_in_half_precision_as_torchs(ran):
    gru, x, h_0 = make()
    with torch.autocast("cpu", torch.bfloat16):
        result = gru(x, h_0, lengths=LENGTHS)
    assert {result.output.dtype, result.h_n.dtype, ran[0].dtype} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        gru.double()(x.double(), lengths=LENGTHS)
    assert ran[-1].dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "torchs"), [((4, 5, 3), True), ((0, 5, 3), False), ((4, 0, 3), False)]
)
def test_no_steps_or_no_rows_are_not_torchs(shape, torchs):
    with FakeTensorMode():
        assert _gru._is_for_torch(torch.empty(shape, device="cuda")) == torchs


def test_what_torch_lacks_is_not_torchs(monkeypatch):
    gru, x, h_0 = make()
    layer = Layer(x, h_0, None, None, None, None, None, list(gru.parameters()))
    assert not _torchs.runs(layer, Plan())  # on a CPU
    monkeypatch.setattr(_torchs, "is_at_home", lambda x: True)
    assert _torchs.runs(layer, Plan())
    keep = torch.ones(4, 5, 1)
    wrong = [
        (layer._replace(keep=keep), Plan()),
        (layer._replace(mask=h_0), Plan()),
        (layer._replace(zone=x), Plan()),
        (layer, Plan(gates=True)),
        (layer, Plan(norm=True)),
        (layer, Plan("before")),
        (layer._replace(x=x[:0]), Plan()),
        (layer._replace(h_0=h_0.double()), Plan()),
    ]
    assert not any(_torchs.runs(*case) for case in wrong)
    assert _torchs.call_dtype(gru, x, plain=False) is None
    assert _torchs.call_dtype(GRU(3, 6, zoneout=0.1), x, plain=True) is None
