"""`GRU` with torch's arguments is `torch.nn.GRU`: results, gradients, parameters, and manners."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nn_cases import FLOAT32_AND_64, assert_close, gradients, twins
from tidegate.nn import GRU, _functional, _road
from tidegate.nn._layer import Layer, Plan

FORMS = ["batched", "unbatched", "packed", "packed unsorted"]


def call(gru, x, hx, form):
    if form.startswith("packed"):
        rows, longest = x.shape[:2] if gru.batch_first else x.shape[1::-1]
        lengths = torch.linspace(longest, 1, rows).round().long()
        lengths = lengths.flip(0) if form == "packed unsorted" else lengths
        x = pack_padded_sequence(
            x, lengths, batch_first=gru.batch_first, enforce_sorted=form == "packed"
        )
    output, h_n = gru(x, hx)
    return (output.data if isinstance(output, PackedSequence) else output), h_n


@pytest.mark.parametrize("dtype", FLOAT32_AND_64)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("memory", ["recompute", "save"])
def test_results_and_gradients_are_torchs_for_every_argument(dtype, form, memory):
    for layers, bidirectional, bias, batch_first, with_hx in itertools.product(
        (1, 2, 3), *[(False, True)] * 4
    ):
        theirs, ours = twins(
            4,
            6,
            layers,
            bias=bias,
            batch_first=batch_first,
            bidirectional=bidirectional,
            dropout=0.3 if layers > 1 else 0.0,
            dtype=dtype,
        )
        ours.memory = memory
        shape = (5, 4) if form == "unbatched" else (3, 5, 4) if batch_first else (5, 3, 4)
        x = torch.randn(shape, dtype=dtype, requires_grad=True)
        batch = () if form == "unbatched" else (3,)
        hx = torch.randn(layers * (1 + bidirectional), *batch, 6, dtype=dtype, requires_grad=True)
        results = []
        for gru in (theirs, ours):
            torch.manual_seed(1)  # both drop the same
            outputs = call(gru, x, hx if with_hx else None, form)
            results.append((*outputs, *gradients(outputs, [x, hx, *gru.parameters()])))
        for actual, expected in zip(results[1], results[0], strict=True):
            assert_close(actual, expected)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    time=st.integers(1, 20),
    batch=st.integers(1, 20),
    features=st.integers(1, 20),
    hidden=st.integers(1, 40),
    dtype=st.sampled_from(FLOAT32_AND_64),
    bidirectional=st.booleans(),
)
def test_results_and_gradients_are_torchs_at_any_size(
    seed, time, batch, features, hidden, dtype, bidirectional
):
    theirs, ours = twins(features, hidden, seed=seed, bidirectional=bidirectional, dtype=dtype)
    x = torch.randn(time, batch, features, dtype=dtype, requires_grad=True)
    for actual, expected in zip(
        (outputs := ours(x)) + gradients(outputs, [x, *ours.parameters()]),
        (outputs := theirs(x)) + gradients(outputs, [x, *theirs.parameters()]),
        strict=True,
    ):
        assert_close(actual, expected)


def test_a_packed_sequence_comes_back_as_torchs():
    theirs, ours = twins(4, 6, batch_first=True)
    packed = pack_padded_sequence(
        torch.randn(3, 5, 4), [2, 5, 3], batch_first=True, enforce_sorted=False
    )
    expected, actual = theirs(packed)[0], ours(packed)[0]
    for one, other in zip(actual[1:], expected[1:], strict=True):
        assert torch.equal(one, other)
    padded, lengths = pad_packed_sequence(actual, batch_first=True)
    assert padded.shape == (3, 5, 6)
    assert lengths.tolist() == [2, 5, 3]


def test_the_input_may_have_any_strides():
    theirs, ours = twins(4, 6, bidirectional=True)
    x = torch.randn(4, 3, 10).permute(2, 1, 0)[::2].requires_grad_()
    hx = torch.randn(6, 3, 2).permute(2, 1, 0).requires_grad_()
    results = [
        (*outputs, *gradients(outputs, [x, hx]))
        for outputs in (gru(x, hx) for gru in (ours, theirs))
    ]
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)
    assert_close(ours(x[:1].expand(5, 3, 4), hx)[0], theirs(x[:1].expand(5, 3, 4), hx)[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_output_is_contiguous(batch_first):
    assert GRU(4, 6, 2, batch_first=batch_first)(torch.randn(3, 5, 4))[0].is_contiguous()


def test_an_empty_sequence_returns_its_state():
    hx = torch.randn(4, 3, 6, requires_grad=True)
    result = GRU(4, 6, 2, bidirectional=True)(torch.randn(0, 3, 4), hx)
    assert result.output.shape == (0, 3, 12)
    assert torch.equal(result.h_n, hx)
    result.h_n.sum().backward()
    assert torch.equal(hx.grad, torch.ones_like(hx))


def test_an_empty_sequence_has_a_gradient_of_zero_on_every_road():
    weights = [w.detach().requires_grad_() for w in GRU(4, 6).parameters()]
    layer = Layer(torch.randn(0, 3, 4), *(None,) * 6, weights)
    for road in (_road, _functional):
        output, h_n, gates = road.gru_layer(layer, Plan(gates=True))
        assert output.requires_grad
        assert gates.requires_grad
        assert not torch.autograd.grad(h_n.sum(), weights[0])[0].any()


def test_an_empty_batch_returns_nothing():
    gru = GRU(4, 6, bidirectional=True)
    output, h_n = gru(torch.randn(5, 0, 4))
    assert output.shape == (5, 0, 12)
    assert h_n.shape == (2, 0, 6)
    output.sum().backward()
    assert not gru.weight_hh_l0.grad.any()
    with torch.autocast("cpu"):
        assert gru(torch.randn(5, 0, 4), lengths=[]).output.shape == (5, 0, 12)


def test_state_dicts_load_both_ways():
    theirs, ours = twins(4, 6, 2, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    other = nn.GRU(4, 6, 2, bidirectional=True)
    other.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(5, 3, 4)
    assert_close(ours(x)[0], other(x)[0])


def test_it_is_a_torch_gru_and_looks_like_one():
    arguments = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5}
    theirs, ours = twins(3, 4, bidirectional=True, **arguments)
    assert isinstance(ours, nn.GRU)
    assert repr(ours) == repr(theirs)
    assert ours.all_weights[1][0] is ours.weight_ih_l0_reverse
    ours.flatten_parameters()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda gru: pickle.loads(pickle.dumps(gru))])
def test_copies_are_of_their_own(duplicate):
    gru, x = GRU(4, 6, 2, reset="none", learn_hx=True), torch.randn(5, 3, 4)
    before = gru(x).output  # its packed weights are kept, and are not copied
    other = duplicate(gru)
    assert torch.equal(other(x).output, before)
    with torch.no_grad():
        other.weight_hh_l0.zero_()
    assert torch.equal(gru(x).output, before)
    assert not torch.equal(other(x).output, before)


def test_a_saved_module_loads():
    gru, x, file = GRU(4, 6), torch.randn(5, 3, 4), io.BytesIO()
    torch.save(gru, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x).output, gru(x).output)


@pytest.mark.parametrize("steps", [1, 400], ids=["weights kept", "weights packed anew"])
def test_no_write_to_the_parameters_is_missed(steps):
    gru, x, hx = GRU(4, 6), torch.randn(steps, 2, 4), torch.randn(1, 2, 6)

    def changed_by(write) -> bool:
        before = gru(x, hx).output
        write()
        after = gru(x, hx).output
        assert torch.equal(after, copy.deepcopy(gru)(x, hx).output)
        return not torch.equal(before, after)

    with torch.no_grad():
        assert changed_by(lambda: gru.weight_hh_l0.mul_(2))
        assert changed_by(lambda: gru.weight_hh_l0.data.mul_(2))
        assert changed_by(lambda: gru.weight_ih_l0.data.numpy().__imul__(2))
        assert changed_by(lambda: gru.bias_hh_l0.data.neg_())
        assert changed_by(lambda: gru.weight_ih_l0.data.copy_(gru.weight_ih_l0.data.flip(0)))
        assert changed_by(lambda: setattr(gru, "bias_ih_l0", nn.Parameter(torch.ones(18))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(dtype):
    gru, x = GRU(4, 6, 2, bidirectional=True).to(dtype), torch.randn(5, 3, 4).to(dtype)
    output, h_n = gru(x)
    wide, wide_h_n = copy.deepcopy(gru).float()(x.float())
    assert torch.equal(output, wide.to(dtype))
    assert torch.equal(h_n, wide_h_n.to(dtype))
    output.sum().backward()
    assert gru.weight_hh_l0.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("x_dtype", ["wide", "narrow"])
@pytest.mark.parametrize("hx_dtype", [None, "wide", "narrow"])
def test_autocast_gives_torchs_dtypes_at_full_precision(dtype, x_dtype, hx_dtype):
    theirs, ours = twins(4, 6)
    narrow = {"wide": torch.float32, "narrow": dtype}
    x = torch.randn(5, 3, 4, dtype=narrow[x_dtype])
    hx = None if hx_dtype is None else torch.randn(1, 3, 6, dtype=narrow[hx_dtype])
    with torch.autocast("cpu", dtype=dtype):
        expected, actual = theirs(x, hx), ours(x, hx)
    assert [t.dtype for t in actual] == [t.dtype for t in expected]
    exact = ours(x.float(), None if hx is None else hx.float()).output
    assert torch.equal(actual.output, exact.to(actual.output.dtype))


def test_the_meta_device_knows_shapes():
    gru = GRU(4, 6, 2, bidirectional=True, device="meta")
    output, h_n = gru(torch.empty(5, 3, 4, device="meta"))
    assert (output.shape, h_n.shape, output.is_meta) == ((5, 3, 12), (4, 3, 6), True)
    gru.to_empty(device="cpu").reset_parameters()
    assert gru(torch.randn(5, 3, 4)).output.isfinite().all()


def test_functional_call_uses_what_it_is_given():
    theirs, ours = twins(4, 6, 2)
    given = {name: torch.randn_like(p) / 3 for name, p in ours.named_parameters()}
    x = torch.randn(5, 3, 4)
    assert_close(
        torch.func.functional_call(ours, given, (x,)).output,
        torch.func.functional_call(theirs, given, (x,))[0],
    )
    assert_close(ours(x).output, theirs(x)[0])


def test_parametrized_weights_are_used():
    gru, x = GRU(4, 6), torch.randn(5, 3, 4)
    parametrizations.weight_norm(gru, "weight_hh_l0")
    before = gru(x).output
    with torch.no_grad():
        gru.parametrizations.weight_hh_l0.original0.mul_(2)
    assert not torch.equal(gru(x).output, before)
    gru(x).output.sum().backward()
    assert gru.parametrizations.weight_hh_l0.original0.grad.abs().sum() > 0
    parametrize.remove_parametrizations(gru, "weight_hh_l0")
    assert gru(x).output.shape == (5, 3, 6)


def test_shared_weights_add_their_gradients():
    theirs, ours = twins(6, 6, 2)
    for gru in (theirs, ours):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(gru, f"{kind}_l1", getattr(gru, f"{kind}_l0"))
    x = torch.randn(5, 3, 6)
    for actual, expected in zip(
        gradients(ours(x), list(ours.parameters())),
        gradients(theirs(x), list(theirs.parameters())),
        strict=True,
    ):
        assert_close(actual, expected)


def test_a_weight_changed_before_backward_is_an_error():
    gru = GRU(4, 6)
    output = gru(torch.randn(5, 3, 4)).output
    with torch.no_grad():
        gru.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="one of them was modified in place"):
        output.sum().backward()


def test_frozen_weights_get_no_gradient():
    gru, x = GRU(4, 6).requires_grad_(False), torch.randn(5, 3, 4, requires_grad=True)
    gru.bias_hh_l0.requires_grad_()
    gru(x).output.sum().backward()
    assert x.grad is not None
    assert gru.bias_hh_l0.grad is not None
    assert gru.weight_hh_l0.grad is None


def test_checkpointing_changes_nothing():
    gru, x = GRU(4, 6, 2), torch.randn(5, 3, 4, requires_grad=True)
    expected = torch.autograd.grad(gru(x).output.sum(), [x, *gru.parameters()])
    kept = torch.utils.checkpoint.checkpoint(gru, x, use_reentrant=False)
    actual = torch.autograd.grad(kept.output.sum(), [x, *gru.parameters()])
    assert all(map(torch.equal, actual, expected))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_dynamic_quantization_leaves_it_whole():
    model = nn.Sequential(GRU(4, 6)).eval()
    x = torch.randn(5, 3, 4)
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.GRU, nn.Linear})
    assert type(quantized[0]) is GRU
    assert torch.equal(quantized(x).output, model(x).output)
