"""Any composition of options, in any form of a call, against one row and one step at a time."""

import copy
from typing import NamedTuple

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, unpack_sequence

from helpers import assert_matches
from nn_rows import Rows, by_rows, drawn
from tidegate.nn import GRU

FORMS = ["padded", "ragged", "packed", "unbatched"]
FEATURES = 4


@st.composite
def options(draw, noise: bool):
    """Arguments of a GRU; layer normalisation of two numbers and fewer is a sign or nothing."""
    layers, layer_norm = draw(st.integers(1, 3)), draw(st.booleans())
    size = st.sampled_from([4, 8, 9] if layer_norm else [1, 2, 4, 8, 9])
    of_each = st.lists(size, min_size=layers, max_size=layers)
    sizes = draw(size.map(lambda n: [n] * layers) | of_each)
    chance = st.sampled_from([0.0, 0.3]) if noise else st.just(0.0)
    names = ["recurrent_dropout", "weight_dropout"] + (["dropout"] if layers > 1 else [])
    return {
        "input_size": FEATURES,
        "hidden_size": sizes,
        "reset": draw(st.sampled_from(["after", "before", "none"])),
        "stack": draw(st.sampled_from(["plain", "residual", "dense"])),
        "memory": draw(st.sampled_from(["save", "recompute"])),
        "proj_size": draw(st.integers(0, min(sizes) - 1) | st.just(0)),
        "layer_norm": layer_norm,
        "learn_hx": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "zoneout": draw(st.sampled_from([0.0, 0.3])),
        **{name: draw(chance) for name in names},
    }


class Case(NamedTuple):
    """A GRU and what it is called with, time first and batched; rows in the order packed."""

    gru: GRU
    form: str
    x: Tensor
    hx: list[Tensor] | None
    keep: Tensor | None
    lengths: list[int]

    def in_double(self) -> "Case":
        """The same numbers in float64."""

        def double(tensor: Tensor) -> Tensor:
            return tensor.detach().double().requires_grad_()

        return self._replace(
            gru=copy.deepcopy(self.gru).double(),
            x=double(self.x),
            hx=None if self.hx is None else [double(h) for h in self.hx],
            keep=None if self.keep is None else double(self.keep),
        )

    def tensors(self) -> list[Tensor]:
        """All that has a gradient."""
        given = [self.x, *(self.hx or []), *([] if self.keep is None else [self.keep])]
        learnt = () if self.hx is None else ("hx",)  # then not used
        return given + [p for n, p in self.gru.named_parameters() if not n.startswith(learnt)]


def make(arguments, seed, form, time, batch, hx, keep, dtype=torch.float64) -> Case:
    torch.manual_seed(seed)
    gru = GRU(**arguments, dtype=dtype)
    with torch.no_grad():
        for name, parameter in gru.named_parameters():
            if name.startswith(("hx", "norm")):
                parameter.uniform_(0.5, 1.5)
    batch = 1 if form == "unbatched" else batch
    lengths = [time] * batch
    if form == "ragged":
        lengths = torch.randint(0, time + 1, (batch,)).tolist()
    if form == "packed":  # each length once, so that there is one order of the rows
        lengths = (1 + torch.randperm(max(time, batch))[:batch].sort(descending=True)[0]).tolist()
        time = lengths[0]

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=dtype, requires_grad=True)

    directions, sizes = 1 + gru.bidirectional, gru.hidden_sizes
    by_unit = sizes[0] if keep == "unit" and len(set(sizes)) == 1 else 1
    return Case(
        gru,
        form,
        random(time, batch, FEATURES),
        [random(directions, batch, size) for size in sizes] if hx else None,
        random(time, batch, by_unit) if keep else None,
        lengths,
    )


def call(case: Case) -> Rows:
    """Our results, in the form that `by_rows` gives."""
    gru, form, x, hx, keep, lengths = case
    order = torch.arange(len(lengths))
    if form == "packed":
        order = order.roll(1)
        x, hx, keep, lengths = (
            x[:, order],
            None if hx is None else [h[:, order] for h in hx],
            None if keep is None else keep[:, order],
            [lengths[row] for row in order],
        )
    states = None if hx is None else torch.cat(hx) if gru.states_in_one_tensor else tuple(hx)
    keep = keep if keep is None or keep.size(-1) > 1 else keep[..., 0]
    given = {"lengths": lengths} if form == "ragged" else {}
    if form == "unbatched":
        x, keep = x[:, 0], None if keep is None else keep[:, 0]
        if states is not None:
            states = states[:, 0] if gru.states_in_one_tensor else tuple(h[:, 0] for h in states)
    elif gru.batch_first:
        x, keep = x.transpose(0, 1), None if keep is None else keep.transpose(0, 1)
    if form == "packed":
        x = pack_padded_sequence(x, lengths, gru.batch_first, enforce_sorted=False)
    result = gru(x, states, keep=keep, return_gates=True, **given)

    def rows(sequence) -> list[Tensor]:
        if form == "unbatched":
            return [sequence]
        if form == "packed":
            found = unpack_sequence(sequence)
            return [found[row] for row in order.argsort()]
        sequence = sequence if gru.batch_first else sequence.transpose(0, 1)
        for row, length in enumerate(lengths):
            assert not sequence[row, length:].any()
        return [sequence[row, :length] for row, length in enumerate(lengths)]

    directions = 1 + gru.bidirectional
    h_n = result.h_n.split(directions) if gru.states_in_one_tensor else result.h_n
    h_n = [h.unsqueeze(1) if form == "unbatched" else h for h in h_n]
    assert torch.equal(result.last(), h_n[-1].movedim(0, -2).flatten(-2).view_as(result.last()))
    kinds = [[rows(of_layer) for of_layer in kind] for kind in result.gates if kind]
    gates = [
        [torch.stack(of_row, 1) for of_row in zip(*of_layer, strict=True)]
        for of_layer in zip(*kinds, strict=True)
    ]
    return Rows(rows(result.output), [h[:, order.argsort()] for h in h_n], gates)


def expect(case: Case, dtype: torch.dtype = torch.float64) -> Rows:
    """The results by the equations; `dtype` is the one that the call computes in."""
    gru, _, x, hx, keep, lengths = case
    if hx is not None:
        states = hx
    elif gru.learn_hx:
        states = [h[:, None].expand(-1, len(lengths), -1) for h in gru.initial_states()]
    else:
        directions = 1 + gru.bidirectional
        states = [x.new_zeros(directions, len(lengths), size) for size in gru.hidden_sizes]
    draws = drawn(gru, lengths, x.size(0), case.form == "packed", dtype)
    return by_rows(gru, dict(gru.named_parameters()), x, states, keep, lengths, draws)


def flat(rows: Rows) -> list[Tensor]:
    return [*rows.output, *rows.states, *(gate for of_layer in rows.gates for gate in of_layer)]


def loss(tensors: list[Tensor]) -> Tensor:
    """Uneven over all the results, and of no polynomial's shape."""
    return sum((t.double() + i).sin().sum() for i, t in enumerate(tensors))


calls = {
    "seed": st.integers(0, 2**31),
    "form": st.sampled_from(FORMS),
    "time": st.integers(0, 5),
    "batch": st.integers(1, 4),
    "hx": st.booleans(),
    "keep": st.sampled_from([None, "row", "unit"]),
}


@settings(max_examples=100)
@given(
    arguments=options(noise=True),
    training=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    **calls,
)
def test_any_composition_is_its_equations(arguments, training, dtype, **given):
    case = make(arguments, **given, dtype=dtype)
    case.gru.train(training)
    torch.manual_seed(0)
    actual = flat(call(case))
    torch.manual_seed(0)
    exact = case.in_double()
    expected = flat(expect(exact, torch.promote_types(dtype, torch.float32)))
    assert len(actual) == len(expected)
    eps = ALLOWED[dtype] * (30 if case.gru.layer_norm else 1)
    for one, other in zip(actual, expected, strict=True):
        assert_near(one, other, dtype, eps)
    found = torch.autograd.grad(loss(actual), case.tensors(), materialize_grads=True)
    wanted = torch.autograd.grad(of_all(expected, exact), exact.tensors())
    for one, other in zip(found, wanted, strict=True):
        assert_near(one, other, dtype, 4 * eps)


# Normalising products of nearly one size enlarges their rounding, but not that of the results.
ALLOWED = {torch.float64: 16, torch.float32: 16, torch.bfloat16: 1}


def assert_near(actual: Tensor, expected: Tensor, dtype: torch.dtype, eps: float) -> None:
    assert actual.dtype == dtype
    allowed = eps * torch.finfo(dtype).eps / torch.finfo(torch.float64).eps
    assert_matches(actual.detach().double(), expected.detach(), eps=allowed)


def of_all(results: list[Tensor], case: Case) -> Tensor:
    """The loss, which of an empty sequence may have no gradient of its own."""
    return loss(results) + 0 * sum(tensor.sum() for tensor in case.tensors())
