"""`MinGRU`: the operator keeps torch's contract, the module computes the reference, and learns."""

import itertools

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from helpers import assert_matches
from tidegate import reference
from tidegate.nn import MinGRU
from tidegate.nn._min_gru_op import Scan, in_torch, min_gru


def draw(*, keep=None, ragged=False, reverse=False, positive=False, start=True, rows_first=False):
    torch.manual_seed(0)
    time, batch, hidden = 5, 3, 6
    x = torch.randn(time, batch, 2 * hidden, dtype=torch.float64)
    if rows_first:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    keeps = {None: None, "row": torch.rand(time, batch, 1), "unit": torch.rand(time, batch, hidden)}
    scan = Scan(
        x,
        torch.randn(batch, hidden, dtype=torch.float64) if start else None,
        None if keep is None else keeps[keep].double(),
        torch.tensor([3, 0, 5]) if ragged else None,
        reverse,
        positive,
    )
    for tensor in scan[:3]:
        if tensor is not None:
            tensor.requires_grad_()
    return scan


CHOICES = [
    dict(zip(("keep", "ragged", "reverse", "positive", "start", "rows_first"), c, strict=True))
    for c in itertools.product((None, "row", "unit"), *[(False, True)] * 5)
]


# torch 2.14 hides what its check warns of, but not from those for whom warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("choices", [CHOICES[0], CHOICES[-1], CHOICES[50]])
def test_the_operator_passes_torchs_own_check(choices):
    scan = draw(**choices)
    torch.library.opcheck(torch.ops.tidegate.min_gru.default, tuple(scan))
    still = Scan(*(None if t is None else t.detach() for t in scan[:4]), *scan[4:])
    output, h_n = min_gru(still)
    torch.library.opcheck(
        torch.ops.tidegate.min_gru_backward.default,
        (output, torch.randn_like(output), torch.randn_like(h_n), *still),
        test_utils=("test_schema", "test_faketensor"),  # nothing differentiates it here
    )


def test_both_roads_lead_to_the_same_place():
    for choices in CHOICES:
        scan = draw(**choices)
        inputs = [t for t in scan[:3] if t is not None]
        found = []
        for road in (min_gru, in_torch):
            output, h_n = road(scan)
            torch.manual_seed(1)
            loss = (output * torch.randn(5, 3, 6).double()).sum() + (h_n * h_n).sum()
            found.append([output, h_n, *torch.autograd.grad(loss, inputs)])
        for ours, theirs in zip(*found, strict=True):
            assert_matches(ours.detach().numpy(), theirs.detach().numpy(), eps=32)


@pytest.mark.parametrize("choices", [CHOICES[2], CHOICES[-2], CHOICES[60]])
def test_first_and_second_derivatives_are_right(choices):
    scan = draw(**choices)
    inputs = [t for t in scan[:3] if t is not None]

    def run(*tensors):
        left = iter(tensors)
        return min_gru(Scan(*(None if t is None else next(left) for t in scan[:3]), *scan[3:]))

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("candidate", ["linear", "positive"])
def test_the_module_is_the_reference_layer_by_layer(candidate):
    torch.manual_seed(0)
    layer = MinGRU(3, 5, 2, bidirectional=True, candidate=candidate, dtype=torch.float64)
    x, hx = torch.randn(6, 4, 3).double(), torch.randn(4, 4, 5).double()
    lengths, keep = np.array([6, 0, 3, 5]), torch.rand(6, 4).double()
    output, h_n, gates = layer(x, hx, lengths=lengths, keep=keep, return_gates=True)
    below, ends = x.numpy(), []
    for number in range(2):
        outputs, updates = [], []
        for suffix in ("", "_reverse"):
            found = reference.min_gru(
                below,
                hx[len(ends)].numpy(),
                layer.get_parameter(f"weight_ih_l{number}{suffix}").detach().numpy(),
                layer.get_parameter(f"bias_ih_l{number}{suffix}").detach().numpy(),
                candidate=candidate,
                keep=keep.numpy(),
                lengths=lengths,
                reverse=bool(suffix),
            )
            outputs.append(found.output)
            ends.append(found.h_n)
            inside = np.arange(6)[:, None, None] < lengths[:, None]
            updates.append(np.where(inside, 1 - found.gates[0], 0))
        below = np.concatenate(outputs, 2)
        assert_matches(gates.update[number].detach().numpy(), np.concatenate(updates, 2))
    assert_matches(output.detach().numpy(), below)
    assert_matches(h_n.detach().numpy(), np.stack(ends))


def test_a_call_has_the_forms_of_a_grus():
    layer = MinGRU(3, 5, batch_first=True)
    x = torch.randn(2, 7, 3)
    result = layer(x, lengths=[7, 4])
    assert result.output.shape == (2, 7, 5)
    assert result.output.is_contiguous()
    assert torch.equal(result.last()[1], result.output[1, 3])
    alone = layer(x[0])
    torch.testing.assert_close(alone.output, result.output[0])
    assert alone.h_n.shape == (1, 5)
    restarted = layer(x, keep=torch.arange(7).ne(3).expand(2, 7)).output
    torch.testing.assert_close(restarted[:, 3:], layer(x[:, 3:]).output)


@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_rows_are_the_padded_ones_with_their_lengths(batch_first):
    torch.manual_seed(0)
    layer = MinGRU(3, 5, 2, bidirectional=True, batch_first=batch_first)
    lead = (4, 6) if batch_first else (6, 4)
    x, hx, keep = torch.randn(*lead, 3), torch.randn(4, 4, 5), torch.rand(*lead)
    lengths = torch.tensor([2, 6, 3, 5])  # in no order
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    found = layer(packed, hx, keep=keep, return_gates=True)
    expected = layer(x, hx, lengths=lengths, keep=keep, return_gates=True)
    assert torch.equal(found.h_n, expected.h_n)
    assert torch.equal(found.last(), expected.last())
    pairs = [(found.output, expected.output), (found.gates.update[1], expected.gates.update[1])]
    for one, other in pairs:
        assert torch.equal(one.batch_sizes, packed.batch_sizes)
        assert torch.equal(pad_packed_sequence(one, batch_first)[0], other)
    with pytest.raises(ValueError, match="lengths must be None with a PackedSequence"):
        layer(packed, lengths=lengths)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_scanned_in_float32(half):
    torch.manual_seed(0)
    layer = MinGRU(3, 5, 2, bidirectional=True, dtype=half)
    whole = MinGRU(3, 5, 2, bidirectional=True)
    whole.load_state_dict(layer.state_dict())
    x, hx, keep = (
        torch.randn(600, 2, 3, dtype=half),
        torch.randn(4, 2, 5, dtype=half),
        torch.ones(600, 2),
    )
    found = layer(x, hx, keep=keep, return_gates=True)
    expected = whole(x.float(), hx.float(), keep=keep)
    assert {found.output.dtype, found.h_n.dtype, found.gates.update[1].dtype} == {half}
    # Rounded on the way to each layer, not at every step, which loses ten times as much.
    torch.testing.assert_close(found.output.float(), expected.output, atol=0.03, rtol=0)


def test_autocast_gives_results_as_a_grus():
    layer, x = MinGRU(3, 5, 2), torch.randn(6, 2, 3)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x, torch.zeros(2, 2, 5), keep=torch.ones(6, 2))
        layer(x.bfloat16(), found.h_n)
        with pytest.raises(
            TypeError, match=r"input must have a floating-point dtype, but it has torch.int64"
        ):
            layer(x.long())
    assert found.output.dtype == found.h_n.dtype == torch.float32
    torch.testing.assert_close(found.output, expected.output, atol=0.05, rtol=0)


def test_a_map_is_a_loop_with_gradients_too():
    torch.manual_seed(0)
    layer = MinGRU(2, 3, bidirectional=True, dtype=torch.float64)
    x, hx = torch.randn(4, 5, 3, 2).double(), torch.randn(4, 2, 3, 3).double()
    keep, lengths = torch.rand(5, 3).double(), torch.randint(0, 6, (4, 3))
    parameters = dict(layer.named_parameters())

    def loss(parameters, x, hx, keep, lengths):
        output, h_n = functional_call(layer, parameters, (x, hx, lengths, keep))
        return output.pow(2).sum() + h_n.sin().sum()

    derivative = grad(loss, argnums=(0, 1, 2, 3))
    mapped = vmap(derivative, in_dims=(None, 0, 0, None, 0))(parameters, x, hx, keep, lengths)
    for member in range(4):
        given = (parameters, x[member], hx[member], keep, lengths[member])
        value = loss(*given)
        inner = [given[1].requires_grad_(), given[2].requires_grad_(), keep.requires_grad_()]
        value = loss(parameters, *inner, lengths[member])
        plain = torch.autograd.grad(value, [*parameters.values(), *inner])
        alone = [*mapped[0].values(), *mapped[1:]]
        for one, other in zip(alone, plain, strict=True):
            torch.testing.assert_close(one[member], other)
    together = grad(lambda keep: vmap(loss, (None, 0, 0, None, 0))(
        parameters, x, hx, keep, lengths).sum())(keep.detach())  # fmt: skip
    torch.testing.assert_close(together, mapped[3].sum(0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_forward_mode_and_second_derivatives_under_transforms():
    torch.manual_seed(0)
    layer = MinGRU(2, 3, dtype=torch.float64)
    x, tangent = torch.randn(2, 4, 1, 2).double()

    def run(x):
        return layer(x).output

    across = vjp(run, x)[1](torch.ones(4, 1, 3).double())[0]
    assert_matches(jvp(run, (x,), (tangent,))[1].sum().item(), (across * tangent).sum().item())
    torch.testing.assert_close(jacrev(run)(x), jacfwd(run)(x))

    def loss(x):
        return run(x).pow(2).sum()

    torch.testing.assert_close(hessian(loss)(x), torch.autograd.functional.hessian(loss, x))
    torch.testing.assert_close(hessian(loss)(x), jacrev(jacrev(loss))(x))


def test_it_compiles_without_a_break_and_a_copy_of_its_state_is_itself():
    layer = MinGRU(3, 5, 2, bidirectional=True)
    other = MinGRU(3, 5, 2, bidirectional=True)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 2, 3)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(layer))
    assert torch.equal(traced(x).output, other(x).output)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, lengths=torch.tensor([4, 2])).output,
                               other(x, lengths=[4, 2]).output)  # fmt: skip


def test_a_bias_for_long_memories_remembers():
    layer = MinGRU(1, 64, chrono_range=(50.0, 500.0))
    x = torch.zeros(40, 1, 1)
    output, _ = layer(x, torch.ones(1, 1, 64))
    with torch.no_grad():
        for bias in (layer.bias_ih_l0[64:], layer.weight_ih_l0):
            bias.zero_()
    output, _ = layer(x, torch.ones(1, 1, 64))
    assert output[-1].min() > np.exp(-40 / 49) - 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"candidate": "tanh"}, "candidate must be one of"),
        ({"chrono_range": (1.0, 5.0)}, "chrono_range must be"),
        ({"dropout": 1.0}, "dropout must be"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MinGRU(**{"input_size": 2, "hidden_size": 3} | options)


def test_calls_that_do_not_fit_are_refused():
    layer = MinGRU(2, 3)
    x = torch.randn(4, 2, 2)
    with pytest.raises(ValueError, match=r"input must be \(time, batch, 2\)"):
        layer(x[..., :1])
    with pytest.raises(ValueError, match="hx must be"):
        layer(x, torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="lengths must lie between 0 and 4"):
        layer(x, lengths=[5, 1])
    with pytest.raises(TypeError, match="input must be a tensor or packed, but it is a list"):
        layer([x])
    with pytest.raises(TypeError, match="hx must be a tensor, but it is a list"):
        layer(x, [x])
    with pytest.raises(TypeError, match="lengths must be integers, one a row, but they are 3"):
        layer(x, lengths=3)
    with pytest.raises(ValueError, match=r"input must have the parameters' dtype, torch.float32"):
        layer(x.double())
    with pytest.raises(TypeError, match=r"hidden_size must be an integer, but it is 2\.5"):
        MinGRU(2, 2.5)
