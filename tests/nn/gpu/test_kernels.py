"""The kernels for a GPU against torch operations in float64, under emulation on a CPU."""

import itertools

import pytest
import torch
from torch import Tensor

from gpu_cases import DTYPES, assert_near, draw, emulate, in_float64
from tidegate.nn import _functional
from tidegate.nn._layer import Cotangents, Layer, Plan, Wanted
from tidegate.nn.gpu import _kernel

# Kind of number and hidden size: one block, and clusters of two and four; no size fills its
# fragments, and of each length of number there are even ones, whose units lie in pairs, and odd.
SIZES = [("float32", 20), ("tf32", 33), ("float16", 38), ("bfloat16", 37)]
IN_CLUSTERS = [("bfloat16", 131), ("float32", 254)]


def assert_layer_matches(kind: str, hidden: int, plan: Plan, **options) -> None:
    layer = draw(plan, DTYPES[kind], hidden, **options)
    exact = in_float64(layer)
    expected = _functional.gru_layer(exact, plan)
    outputs = _kernel.forward(layer, plan)
    for actual, other in zip(outputs, expected, strict=True):
        if other is not None:
            assert_near(actual, other, kind)

    torch.manual_seed(1)
    d_output, d_h_n = (torch.randn_like(outputs[i]) for i in (0, 1))
    d_outputs = Cotangents(d_output, d_h_n, None)
    wanted = Wanted(True, True, layer.keep is not None, True)
    found = _kernel.backward(layer, plan, outputs.output, d_outputs, wanted)
    asked = [t for t in (*exact[:3], *exact.weights) if t is not None]
    slopes = torch.autograd.grad(expected[:2], asked, (d_output.double(), d_h_n.double()))
    gradients = [t for t in (*found[:3], *found.weights) if t is not None]
    for actual, other in zip(gradients, slopes, strict=True):
        assert_near(actual, other, kind)


@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize(("kind", "hidden"), SIZES)
def test_a_layer_and_its_gradients_match_the_equations(monkeypatch, kind, hidden, reset):
    emulate(monkeypatch, kind)
    assert_layer_matches(kind, hidden, Plan(reset, 1))
    options = {"keep": "unit", "ragged": "lengths"}
    assert_layer_matches(kind, hidden, Plan(reset, 2, batch_first=True, gates=True), **options)


@pytest.mark.parametrize(
    ("kind", "hidden", "reset"),
    [(*size, reset) for size, reset in zip(IN_CLUSTERS, ("after", "before"), strict=True)],
)
def test_blocks_of_a_cluster_share_a_state(monkeypatch, kind, hidden, reset):
    emulate(monkeypatch, kind)
    plan = Plan(reset, 2, gates=True)
    assert_layer_matches(kind, hidden, plan, time=3, keep="row", ragged="packed")


@pytest.mark.parametrize("reset", ["after", "before"])
def test_options_go_together(monkeypatch, reset):
    emulate(monkeypatch, "float32")
    kinds = itertools.product((None, "row", "unit"), (None, "lengths", "packed"))
    for index, (keep, ragged) in enumerate(kinds):
        bias, other = index % 2 == 0, index % 3 == 0
        plan = Plan(reset, 2 - other, bias, batch_first=bias, gates=other)
        size = {"time": 3, "batch": 9, "features": 2}
        assert_layer_matches("float32", 20, plan, **size, keep=keep, ragged=ragged)


def slopes(layer: Layer, plan: Plan, output: Tensor, d_output: Tensor) -> list[Tensor]:
    """Gradients of the input and the weights, from those of the output alone."""
    wanted, d_outputs = Wanted(True, True, False, True), Cotangents(d_output, None, None)
    found = _kernel.backward(layer, plan, output, d_outputs, wanted)
    return [found.x, *found.weights]


def test_an_absent_state_is_zero(monkeypatch):
    emulate(monkeypatch, "float32")
    plan, layer = Plan(), draw(Plan(), torch.float32, 20)._replace(h_0=None)
    zero = layer._replace(h_0=torch.zeros(1, 11, 20))
    results = []
    for given in (layer, zero):
        output, h_n, _ = _kernel.forward(given, plan)
        found = slopes(given, plan, output, torch.ones_like(output))
        results.append([output, h_n, *found])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("kind", ["float32", "tf32", "float16", "bfloat16"])
def test_a_gpus_own_nan_spreads_as_any(monkeypatch, kind):
    emulate(monkeypatch, kind)
    layer, plan = draw(Plan(), DTYPES[kind], 20), Plan()
    bits = torch.int32 if layer.x.element_size() == 4 else torch.int16
    nan = torch.tensor(torch.iinfo(bits).max, dtype=bits).view(DTYPES[kind])  # all bits set
    h_0, weight = layer.h_0.clone(), layer.weights[1].clone()
    h_0[0, 2, 7] = weight[25, 3] = nan
    output = _kernel.forward(layer._replace(h_0=h_0), plan).output
    assert output[:, 2].isnan().all()
    assert not output[:, [*range(2), *range(3, 11)]].isnan().any()
    (w_ih, _, *biases) = layer.weights
    output = _kernel.forward(layer._replace(weights=[w_ih, weight, *biases]), plan).output
    assert output[0, :, 5].isnan().all()
    assert output[1:].isnan().all()


def test_gradients_may_be_spread_over_one_number(monkeypatch):
    emulate(monkeypatch, "float32")
    plan = Plan("after", 2)
    layer = draw(plan, torch.float32, 20)
    output = _kernel.forward(layer, plan).output
    one = torch.ones(())
    found = [slopes(layer, plan, output, d) for d in (one.expand_as(output), output * 0 + 1)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_gradients_may_begin_between_two_words(monkeypatch, kind):
    emulate(monkeypatch, kind)
    plan = Plan()
    layer = draw(plan, DTYPES[kind], 20)
    output = _kernel.forward(layer, plan).output
    d_output = torch.rand_like(output)
    late = torch.cat((d_output.new_zeros(1), d_output.flatten()))[1:].view(output.shape)
    gaps = torch.cat((d_output, d_output[..., :1]), -1)[..., :-1]
    found = [slopes(layer, plan, output, d) for d in (d_output, late, gaps)]
    assert all(map(torch.equal, found[0], found[1]))
    assert all(map(torch.equal, found[0], found[2]))


def test_a_length_out_of_range_is_refused(monkeypatch):
    emulate(monkeypatch, "float32")
    layer = draw(Plan(), torch.float32, 20)._replace(lengths=torch.full((11,), 6))
    with pytest.raises(ValueError, match="lengths must lie between 0 and 5"):
        _kernel.forward(layer, Plan())
