"""Torch modules as model files: the file computes what torch does, or is refused in a sentence."""

import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import assert_matches
from tidegate.errors import InputError
from tidegate.export import save_model
from tidegate.nn import GRU, GRUCell
from tidegate.runtime import load


class LastStep(nn.Module):
    """What most forecasting and classifying modules look like."""

    def __init__(self, **options):
        super().__init__()
        self.gru = nn.GRU(3, 6, batch_first=True, **options)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x, hx=None):
        output, _ = self.gru(x, hx)
        return self.head(self.drop(output[:, -1, :]))


class FinalState(LastStep):
    def forward(self, x):
        return F.log_softmax(self.head(self.gru(x)[1][-1]), dim=-1)


class BothDirections(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4, padding_idx=0)
        self.gru = GRU(4, 5, num_layers=2, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        _, h_n = self.gru(self.embedding(x))
        return torch.softmax(self.head(torch.cat([h_n[-2], h_n[-1]], dim=1)), -1)


class Around(nn.Module):
    """As an effect for a guitar: the network adds to its input."""

    def __init__(self):
        super().__init__()
        self.gru, self.norm, self.head = nn.GRU(2, 8), nn.LayerNorm(8), nn.Linear(8, 1)

    def forward(self, x):
        output, h_n = self.gru(x)
        return torch.tanh(self.head(self.norm(output))) + x[..., :1], h_n


MODULES = {
    "gru": lambda: nn.GRU(3, 6),
    "gru of two layers and directions": lambda: nn.GRU(3, 6, 2, bidirectional=True, bias=False),
    "ours, reset before": lambda: GRU(3, [6, 4], reset="before", batch_first=True),
    "ours, no reset": lambda: GRU(3, 6, reset="none", recurrent_dropout=0.3),
    "double": lambda: nn.GRU(3, 6, dtype=torch.float64),
    "sequential": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.ELU(0.7), nn.GRU(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 2, bias=False)
    ),
    "one inside another": lambda: nn.Sequential(
        nn.Sequential(nn.GRU(3, 6), nn.Dropout()), nn.Sequential(nn.SiLU(), nn.Softplus())
    ),
    "last step": LastStep,
    "final state": FinalState,
    "both directions": BothDirections,
    "around": Around,
    "weight norm": lambda: nn.Sequential(
        nn.GRU(3, 6), nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))
    ),
}


def result(module, x) -> np.ndarray:
    """What torch gives, in float64."""
    module = module.double().eval()
    for layer in module if type(module) is nn.Sequential else [module]:
        if type(layer) is nn.Sequential:
            x = torch.from_numpy(result(layer, x))
            continue
        x = layer(x)
        x = x[0] if isinstance(x, tuple) else x
    return x.detach().numpy()


@pytest.mark.parametrize("name", MODULES)
def test_a_file_computes_what_the_module_does(name, tmp_path):
    torch.manual_seed(0)
    module = MODULES[name]()
    training = module.training
    save_model(module, tmp_path / "m")
    assert module.training == training
    model = load(tmp_path / "m")
    x = torch.randn(4, 9, model.stack.input_size, dtype=torch.float64)
    if model.stack.input_size == 0:
        x = torch.randint(11, (4, 9))
    assert_matches(model(x.numpy()), result(module, x))


@pytest.mark.parametrize("reset", ["after", "before", "none"])
def test_a_cell_becomes_a_layer(tmp_path, reset):
    cell = GRUCell(3, 5, reset=reset)
    save_model(nn.Sequential(cell, nn.Linear(5, 2)), tmp_path / "m")
    model, x = load(tmp_path / "m"), torch.randn(6, 2, 3)
    h = torch.zeros(2, 5)
    for step in x:
        h = cell(step, h)
    np.testing.assert_allclose(model.run(x.numpy())[1][0], h.detach().numpy(), atol=1e-6)


class Looping(LastStep):
    def forward(self, x):
        if x.sum() > 0:
            return self.head(x)
        return x


class Doubling(LastStep):
    def forward(self, x):
        return 2 * self.gru(x)[0]


class Steeper(LastStep):
    def forward(self, x):
        return nn.functional.softplus(self.gru(x)[0], beta=2)


class Forgetful(LastStep):
    def forward(self, x):
        return self.head(self.gru(self.gru(x)[0][:, :, :3])[0])


class Wrapped(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class Uncopyable(LastStep):
    def __deepcopy__(self, memo):
        raise RuntimeError("not twice")


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        (Looping(), "the forward of Looping cannot be followed from layer to layer"),
        (Doubling(), "mul in the forward of Doubling cannot be carried"),
        (Steeper(), "softplus with these arguments, in the forward of Steeper"),
        (Forgetful(), r"\[.*\] of a steps cannot be carried"),
        (nn.Sequential(nn.GRU(3, 4), Wrapped(4, 2)), "a Wrapped cannot be carried"),
        (nn.Sequential(nn.LSTM(3, 4)), "a LSTM cannot be carried"),
        (nn.Sequential(nn.GRU(3, 4), nn.Softmax(1)), "must be over the last axis"),
        (GRU(3, 4, zoneout=0.1), "a GRU with zoneout = 0.1 cannot be carried"),
        (GRU(3, 4, 2, stack="residual"), "a GRU with stack = 'residual' cannot be carried"),
        (nn.Embedding(4, 3, max_norm=1.0), "an Embedding with max_norm cannot be carried"),
        (nn.LayerNorm((4, 3)), "over more than the last axis"),
        (nn.Sequential(), "a stack needs a layer"),
        (nn.Sequential(nn.GRU(3, 4), nn.GRU(4, 4, batch_first=True)), "some are batch_first"),
        (nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 2).double()), "all float32 or all float64"),
        (Uncopyable(), "Uncopyable cannot be copied, to be followed: not twice"),
    ],
)
def test_what_cannot_be_carried_is_refused(module, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        save_model(module, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_what_is_no_module_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, but it is a dict"):
        save_model({}, tmp_path / "m")


def test_a_hook_that_changes_the_result_is_noticed(tmp_path):
    module = nn.Sequential(nn.GRU(3, 4), nn.Linear(4, 2))
    module[1].register_forward_hook(lambda m, x, y: y + 0.01)
    with pytest.raises(InputError, match="does something that cannot be carried"):
        save_model(module, tmp_path / "m")
