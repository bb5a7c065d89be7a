"""`accelerate` turns torch's GRUs into ours and leaves everything else as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from nn_cases import assert_close
from tidegate.nn import GRU, GRUCell, accelerate


class Recogniser(nn.Module):
    """A model with GRUs in several places."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(4, 6, 2, bidirectional=True, batch_first=True, dropout=0.1)
        self.heads = nn.ModuleList([nn.GRU(12, 5, batch_first=True) for _ in range(2)])
        self.cell = nn.GRUCell(5, 5)
        self.norm = nn.LSTM(5, 3, batch_first=True)

    def forward(self, x):
        x, _ = self.encoder(x)
        x = self.heads[0](x)[0] + self.heads[1](x)[0]
        x = torch.stack([self.cell(row) for row in x])
        return self.norm(x)[0]


def test_a_model_computes_what_it_did():
    torch.manual_seed(0)
    model, x = Recogniser(), torch.randn(3, 7, 4, requires_grad=True)
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        output = model(x)
        results.append([output, *torch.autograd.grad(output.sin().sum(), [x, *model.parameters()])])
        done = accelerate(model)
    assert not done.changed  # the second time there is nothing left to change
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


def test_it_says_what_it_changed():
    done = accelerate(Recogniser())
    assert done.changed == {
        "encoder": "tidegate.nn.GRU",
        "heads.0": "tidegate.nn.GRU",
        "heads.1": "tidegate.nn.GRU",
        "cell": "tidegate.nn.GRUCell",
    }
    assert done.left == {}
    assert str(done).splitlines()[0] == "encoder: now tidegate.nn.GRU"
    assert str(accelerate(nn.Linear(2, 2))) == "no GRU in this model"
    assert str(accelerate(nn.GRU(2, 2))) == "the model: now tidegate.nn.GRU"


def test_modules_parameters_hooks_and_modes_stay_the_objects_they_were():
    model = Recogniser().double().eval()
    encoder, parameters, state = model.encoder, list(model.parameters()), model.state_dict()
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append("forward"))
    parameters[0].register_hook(lambda _: calls.append("backward"))
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    accelerate(model)
    assert model.encoder is encoder
    assert isinstance(encoder, GRU)
    assert isinstance(model.cell, GRUCell)
    assert not encoder.training
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == list(state)
    before = copy.deepcopy(state)
    model(torch.randn(2, 3, 4).double()).sum().backward()
    assert calls == ["forward", "backward"]
    optimiser.step()
    assert not torch.equal(encoder.weight_hh_l0, before["encoder.weight_hh_l0"])


def test_the_model_itself_may_be_a_gru():
    gru = nn.GRU(4, 6)
    accelerate(gru)
    assert type(gru) is GRU
    assert repr(gru) == "GRU(4, 6)"
    assert gru(torch.randn(5, 3, 4)).last().shape == (3, 6)
    assert torch.equal(copy.deepcopy(gru).weight_hh_l0, gru.weight_hh_l0)


def test_parametrized_grus_stay_parametrized():
    model = nn.Sequential(nn.GRU(4, 6))
    parametrizations.weight_norm(model[0], "weight_hh_l0")
    x = torch.randn(5, 3, 4)
    before = model(x)[0]
    assert accelerate(model).changed == {"0": "tidegate.nn.GRU, parametrized"}
    assert isinstance(model[0], GRU)
    assert_close(model(x)[0], before)
    assert "parametrizations.weight_hh_l0.original0" in model[0].state_dict()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_grus_with_the_older_weight_norm_work():
    gru, x = nn.utils.weight_norm(nn.GRU(4, 6), "weight_hh_l0"), torch.randn(5, 3, 4)
    before = gru(x)[0]
    accelerate(gru)
    assert_close(gru(x)[0], before)


class OfItsOwn(nn.GRU):
    def forward(self, input, hx=None):
        return super().forward(input * 2, hx)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_what_is_not_torchs_gru_is_left_and_said():
    patched = nn.GRU(4, 6)
    patched.forward = lambda x: x
    scripted = torch.jit.script(nn.Sequential(nn.GRU(4, 6)))
    other = type("GRU", (nn.Module,), {"__module__": "somewhere"})()
    model = nn.ModuleDict(
        {"own": OfItsOwn(4, 6), "patched": patched, "scripted": scripted, "other": other}
    )
    done = accelerate(model)
    assert done.changed == {}
    assert done.left == {
        "own": "OfItsOwn is a class of its own",
        "patched": "its forward was replaced",
        "scripted.0": "it is compiled by TorchScript",
        "other": "somewhere.GRU is not torch.nn's",
    }
    assert type(model["own"]) is OfItsOwn


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, but it is a list"):
        accelerate([nn.GRU(2, 2)])
