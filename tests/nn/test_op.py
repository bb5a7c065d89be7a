"""The registered operator keeps torch's contract, and computes what the module computes."""

import itertools

import pytest
import torch
from torch import Tensor

from nn_cases import assert_close
from tidegate.nn import _functional, _road
from tidegate.nn._layer import GATES, Layer, Plan

RESETS = ["after", "before", "none"]


def draw(plan: Plan, *, keep=None, masked=False, zoned=False, ragged=None) -> Layer:
    """A random layer of five steps, three rows, four features and six units."""
    torch.manual_seed(0)
    time, batch, features, hidden = 5, 3, 4, 6
    gates = len(GATES[plan.reset]) * hidden

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    weights = []
    for _ in range(plan.directions):
        weights += [normal(gates, features) / 2, normal(gates, hidden) / 2]
        weights += [normal(gates), normal(gates)] if plan.bias else []
        weights += [normal(gates), normal(gates)] if plan.norm else []
    sizes = torch.tensor([3, 3, 2, 1, 1]) if ragged == "packed" else None
    x = normal(time, batch, features) if sizes is None else normal(int(sizes.sum()), features)
    layer = Layer(
        x=x,
        h_0=normal(plan.directions, batch, hidden),
        keep=None if keep is None else normal(time, batch, hidden if keep == "unit" else 1),
        mask=normal(plan.directions, batch, hidden) if masked else None,
        zone=torch.rand(time, batch, plan.directions * hidden).double() if zoned else None,
        lengths=torch.tensor([3, 0, 5]) if ragged == "lengths" else None,
        batch_sizes=sizes,
        weights=weights,
    )
    for tensor in (*layer[:3], *weights):
        if tensor is not None:
            tensor.requires_grad_()
    return layer


PLANS = [
    (Plan(), {}),
    (Plan("before", 2, gates=True), {"keep": "row", "ragged": "lengths"}),
    (Plan("none", 2, bias=False, batch_first=True, gates=True), {"keep": "unit", "masked": True}),
    (Plan("after", 2), {"ragged": "packed"}),
    (Plan("after", 2, batch_first=True), {"zoned": True, "ragged": "lengths"}),
    (Plan("after", 2, norm=True, batch_first=True), {"zoned": True, "ragged": "lengths"}),
]


# torch 2.14 hides what its check warns of, but not from those for whom warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("plan", "options"), PLANS)
def test_the_operators_pass_torchs_own_check(plan, options):
    layer = draw(plan, **options)
    torch.library.opcheck(torch.ops.tidegate.gru_layer.default, (*layer, *plan))
    with torch.no_grad():
        output, h_n, gates = torch.ops.tidegate.gru_layer(*layer, *plan)
    d_gates = torch.randn_like(gates) if plan.gates else None
    d_outputs = (torch.randn_like(output), torch.randn_like(h_n), d_gates)
    still = Layer(*(None if t is None else t.detach() for t in layer[:-1]), [])
    still = still._replace(weights=[w.detach() for w in layer.weights])
    wanted = [True, True, layer.keep is not None, True]
    torch.library.opcheck(
        torch.ops.tidegate.gru_layer_backward.default,
        (output, *d_outputs, wanted, *still, *plan),
        test_utils=("test_schema", "test_faketensor"),  # nothing differentiates it here
    )


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("ragged", [None, "lengths", "packed"])
def test_every_road_leads_to_the_same_place(reset, ragged):
    for directions, bias, batch_first, gates, keep, masked, zoned in itertools.product(
        (1, 2), *[(False, True)] * 3, (None, "row", "unit"), *[(False, True)] * 2
    ):
        plan = Plan(reset, directions, bias, False, batch_first, gates)
        layer = draw(plan, keep=keep, masked=masked, zoned=zoned, ragged=ragged)
        inputs = [t for t in (*layer[:3], *layer.weights) if t is not None]
        found = []
        for road in (
            _functional.gru_layer,
            _road.gru_layer,
            lambda *call: _road.gru_layer(*call, save=True),
            torch_operator,
        ):
            results = [t for t in road(layer, plan) if t is not None and t.numel()]
            torch.manual_seed(1)
            loss = sum((result * torch.randn_like(result)).sum() for result in results)
            found.append([*results, *torch.autograd.grad(loss, inputs)])
        for other in found[1:]:
            for actual, expected in zip(other, found[0], strict=True):
                assert_close(actual, expected)


def torch_operator(layer: Layer, plan: Plan) -> tuple[Tensor, ...]:
    return torch.ops.tidegate.gru_layer(*layer, *plan)
