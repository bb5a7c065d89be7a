"""`tidegate.nn` over the GPU's road, emulated: modules, autograd, transforms, the operator."""

import copy
import warnings

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from gpu_cases import take_every_road
from helpers import assert_matches
from nn_cases import gradients
from tidegate.nn import GRU, _device, gpu
from tidegate.nn._layer import Layer, Plan
from tidegate.nn.gpu import _choice
from tidegate.nn.gpu._nvrtc import Unusable

TIME, BATCH, FEATURES, HIDDEN = 4, 9, 3, 20


def make(**options) -> tuple[GRU, torch.Tensor]:
    torch.manual_seed(0)
    gru = GRU(FEATURES, HIDDEN, **options)
    return gru, torch.randn(TIME, BATCH, FEATURES)


def assert_same(actual, expected) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert_matches(one.detach().numpy(), other.detach().double().numpy())


def run(gru: GRU, x: torch.Tensor, **options) -> list[torch.Tensor]:
    """Results of a call and gradients of all that can have one."""
    x = x.detach().requires_grad_()
    keep = options.pop("keep", None)
    keep = None if keep is None else keep.to(x.dtype).requires_grad_()
    output, h_n, *gates = gru(x, keep=keep, **options)
    inputs = [x, *gru.parameters(), *([] if keep is None else [keep])]
    shown = [output, h_n, *(g for gate in gates for layer in gate for g in layer)]
    return [*shown, *gradients((output, h_n), inputs)]


@pytest.mark.parametrize("reset", ["after", "before"])
def test_a_module_gives_what_it_gives_on_a_cpu(monkeypatch, reset):
    gru, x = make(num_layers=2, bidirectional=True, batch_first=True, reset=reset)
    options = {
        "lengths": torch.tensor([4, 0, 2, 3, 1, 4, 4, 2, 1]),
        "keep": torch.rand(BATCH, TIME, HIDDEN),
        "return_gates": True,
    }
    x = x.transpose(0, 1)
    exact = run(copy.deepcopy(gru).double(), x.double(), **options)
    emulator = take_every_road(monkeypatch)
    assert_same(run(gru, x, **options), exact)
    assert emulator.launched.count("gru_forward") == emulator.launched.count("gru_backward") == 2


def test_the_outputs_alone_are_kept_for_the_gradients(monkeypatch):
    gru, x = make(bidirectional=True)
    take_every_road(monkeypatch)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = gru(x).output
    given = {t.data_ptr() for t in (x, *gru.parameters())}
    (made,) = [t for t in kept if t.data_ptr() not in given]
    assert made.data_ptr() == output.data_ptr()


def test_packed_input_goes_the_same_road(monkeypatch):
    gru, x = make(bidirectional=True)
    lengths = [4, 1, 2, 3, 1, 4, 4, 2, 1]
    x.requires_grad_()
    double = copy.deepcopy(gru).double()
    packed = pack_padded_sequence(x.double(), lengths, enforce_sorted=False)
    exact = double(packed)
    slopes = gradients((exact.output.data, exact.h_n), [x, *double.parameters()])
    emulator = take_every_road(monkeypatch)
    result = gru(pack_padded_sequence(x, lengths, enforce_sorted=False))
    assert_same((result.output.data, result.h_n), (exact.output.data, exact.h_n))
    found = gradients((result.output.data, result.h_n), [x, *gru.parameters()])
    assert_same(found, slopes)
    assert emulator.launched.count("gru_forward") == 1


def test_a_loss_of_the_gates_is_differentiated(monkeypatch):
    gru, x = make()
    double = copy.deepcopy(gru).double()

    def slopes(gru, x):
        *_, gates = gru(x, return_gates=True)
        return gradients((gates.reset[0], gates.update[0], gates.new[0]), [*gru.parameters()])

    exact = slopes(double, x.double())
    take_every_road(monkeypatch)
    assert_same(slopes(gru, x), exact)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own
def test_transforms_and_second_derivatives_hold(monkeypatch):
    gru, x = make()
    h_0 = torch.rand(1, BATCH, HIDDEN)

    def loss(x):
        return torch.cos(gru(x, h_0).output).sum()

    def curvature(x):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(x), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), x)[0]

    many = torch.stack((x, 2 * x))
    plain = [torch.func.grad(loss)(x), torch.func.vmap(loss)(many), curvature(x)]
    jacobian = torch.func.jvp(loss, (x,), (x,))
    take_every_road(monkeypatch)
    again = [torch.func.grad(loss)(x), torch.func.vmap(loss)(many), curvature(x)]
    for one, other in zip(again, plain, strict=True):  # two programs that both round
        assert_matches(one.detach().numpy(), other.detach().double().numpy(), eps=64)
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (x,)), jacobian)


def test_the_operator_takes_the_road_and_keeps_torchs_contract(monkeypatch):
    gru, x = make(bidirectional=True, batch_first=True)
    x = x.transpose(0, 1).contiguous().transpose(0, 1)
    layer = (x, None, None, None, None, torch.tensor([4, 0, 2, 3, 1, 4, 4, 2, 1]), None)
    plan = Plan(directions=2, batch_first=True)
    weights = [p.detach().requires_grad_() for p in gru.parameters()]
    emulator = take_every_road(monkeypatch)
    torch.library.opcheck(
        torch.ops.tidegate.gru_layer.default,
        (*layer, weights, *plan),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    output, *_ = torch.ops.tidegate.gru_layer(*layer, weights, *plan)
    (output.sum() * 2).backward()
    assert emulator.launched[-1] == "gru_backward"


def test_under_a_compiler_metadata_alone_decides(monkeypatch):
    from torch._subclasses import FakeTensorMode

    monkeypatch.setenv("TIDEGATE_GPU", "always")
    gru = GRU(FEATURES, HIDDEN, bidirectional=True, device="meta", dtype=torch.bfloat16)
    with FakeTensorMode(), torch.no_grad():  # autograd would ask for the device itself
        like = {"device": "cuda", "dtype": torch.bfloat16}
        for name, parameter in list(gru.named_parameters()):
            setattr(gru, name, torch.nn.Parameter(torch.empty(parameter.shape, **like), False))
        x = torch.empty(TIME, BATCH, FEATURES, **like)
        result = gru(x, lengths=torch.full((BATCH,), TIME, device="cuda"))
    assert result.output.shape == (TIME, BATCH, 2 * HIDDEN)
    assert result.output.dtype == torch.bfloat16
    assert result.output.is_cuda
    assert result.h_n.is_cuda


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_refused_launch_is_torchs_and_said_once(monkeypatch, where):
    gru, x = make()
    exact = run(copy.deepcopy(gru).double(), x.double())
    take_every_road(monkeypatch)
    monkeypatch.setattr(_choice, "_unusable", set())

    def refuse(*call):
        raise Unusable("cuLaunchKernel failed: out of resources")

    monkeypatch.setattr(gpu, where, refuse)
    said = "20 units of float32 cannot run on cpu: cuLaunchKernel failed: out of resources"
    with pytest.warns(RuntimeWarning, match=said):
        assert_same(run(gru, x), exact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(run(gru, x), exact)


def test_there_is_a_road_for_no_layer_of_the_cpu():
    gru, x = make()
    weights = list(gru.parameters())
    layer = gpu_layer(x, weights)
    assert _choice.fits(layer, Plan())
    assert not gpu.runs(layer, Plan(), training=False)
    assert _device.runs(layer, Plan(), training=False)


def gpu_layer(x, weights):
    return Layer(x, None, None, None, None, None, None, weights)


def test_what_the_kernels_lack_is_not_theirs():
    gru, x = make()
    layer = gpu_layer(x, list(gru.parameters()))
    mask = torch.ones(1, BATCH, HIDDEN)
    wrong = [
        (layer._replace(mask=mask), Plan()),
        (layer._replace(zone=mask), Plan()),
        (layer, Plan(norm=True)),
        (layer, Plan("none")),
        (layer._replace(x=x[:0]), Plan()),
        (layer._replace(x=x.double()), Plan()),
        (layer._replace(h_0=mask.double()), Plan()),
        (layer._replace(h_0=mask.to("meta")), Plan()),  # of another device
        (gpu_layer(x, list(GRU(FEATURES, 257).parameters())), Plan()),
    ]
    assert not any(_choice.fits(*case) for case in wrong)
