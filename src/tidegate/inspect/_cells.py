"""Plain RNN, LSTM and GRU of one size, to compare: step by step, and trained on a task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import GRU
from ..train import History, Settings, train
from ._capture import GRUS, Call
from ._jacobian import Advance
from ._min_replay import replay_of
from ._strand import own_order, some_rows

# A batch of a task by its number: input (batch, time, features), and truth (batch,) of classes, or
# (batch, outputs) of numbers.
Task = Callable[[int], tuple[Tensor, Tensor]]
Make = Callable[[int, int], nn.RNNBase]

CELLS: dict[str, Make] = {
    "plain RNN": lambda features, units: nn.RNN(features, units, batch_first=True),
    "LSTM": lambda features, units: nn.LSTM(features, units, batch_first=True),
    "GRU": lambda features, units: GRU(features, units, batch_first=True),
    "GRU without reset": lambda features, units: GRU(
        features, units, batch_first=True, reset="none"
    ),
}


class Reader(nn.Module):
    """A recurrent layer, and a linear map of its last output."""

    def __init__(self, cell: nn.RNNBase, outputs: int):
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(cell.hidden_size * (1 + cell.bidirectional), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, outputs)."""
        return self.head(self.cell(x)[0][:, -1])


@dataclass(frozen=True, eq=False)
class TrainedCell:
    """A network as it was before a task, and after.

    Attributes:
        before: with the weights that it began with.
        after: with those that it learnt.
        history: the loss of every step.
        score: on batches that it was not trained on: accuracy of classes, R squared of numbers.
    """

    before: nn.Module
    after: nn.Module
    history: History
    score: float

    def __repr__(self) -> str:
        cell = type(self.after.cell).__name__ if isinstance(self.after, Reader) else "a network"
        return f"TrainedCell({cell}, {len(self.history.losses)} steps, score {self.score:.3f})"


def train_cells(
    task: Task,
    *,
    hidden_size: int = 32,
    steps: int = 300,
    learning_rate: float = 3e-3,
    cells: Mapping[str, Make] | None = None,
    seed: int = 0,
) -> dict[str, TrainedCell]:
    """Train a plain RNN, an LSTM and GRUs with and without the reset gate on one task.

    All have the same number of units, see the same batches, and end in a linear map of the last
    output. `gradient_flow` takes what comes back.

    Args:
        task: the batch of a number: input (batch, time, features), and truth, (batch,) classes as
            whole numbers or (batch, outputs) numbers.
        hidden_size: units of each.
        steps: batches to learn from.
        learning_rate: the highest.
        cells: others instead, by name: from features and units to a batch-first recurrent module.
        seed: of the first weights.

    Example:
        >>> def first_bit(number):
        ...     bits = torch.randint(2, (16, 5, 1), generator=torch.Generator().manual_seed(number))
        ...     return bits * 2.0 - 1, bits[:, 0, 0]
        >>> cells = train_cells(first_bit, hidden_size=4, steps=2)
        >>> list(cells)
        ['plain RNN', 'LSTM', 'GRU', 'GRU without reset']
    """
    x, truth = task(0)
    outputs = _outputs(task) if _is_class(truth) else truth[0].numel()
    settings = Settings(steps, learning_rate=learning_rate, seed=seed)
    trained = {}
    for name, make in (CELLS if cells is None else cells).items():
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = Reader(make(x.size(-1), hidden_size), outputs)
        before = copy.deepcopy(model).eval()
        history = train(model, lambda k, model=model: _loss(model, *task(k)), settings)
        trained[name] = TrainedCell(before, model, history, _score(model, task, steps))
    return trained


def _is_class(truth: Tensor) -> bool:
    return not truth.is_floating_point()


def _outputs(task: Task) -> int:
    """How many classes the first batches have."""
    return 1 + max(int(task(k)[1].max()) for k in range(8))


def _loss(model: Reader, x: Tensor, truth: Tensor) -> Tensor:
    answer = model(x)
    if _is_class(truth):
        return F.cross_entropy(answer, truth.long())
    return F.mse_loss(answer, truth.view_as(answer))


@torch.no_grad()
def _score(model: Reader, task: Task, steps: int, batches: int = 8) -> float:
    """On the batches after those that were learnt from."""
    pairs = [task(steps + k) for k in range(batches)]
    answers = torch.cat([model(x) for x, _ in pairs])
    truth = torch.cat([truth for _, truth in pairs])
    if _is_class(truth):
        return float((answers.argmax(-1) == truth).double().mean())
    truth = truth.view_as(answers)
    return float(1 - (truth - answers).square().sum() / (truth - truth.mean(0)).square().sum())


@dataclass(frozen=True)
class Way:
    """The recurrence of one direction of one layer: how a state follows from the one before.

    Attributes:
        name: "l0", "l0_reverse", "l1", with the module's name before it.
        advance: one step.
        states: (time + 1, batch, numbers) every state; an LSTM's is h and c side by side.
        lengths: (batch,) steps of each row, which all end at the last step.
    """

    name: str
    advance: Advance
    states: Tensor
    lengths: Tensor


def ways(call: Call) -> list[Way]:
    """Each direction of each layer of a call of a GRU, an LSTM or a plain RNN, in float64.

    Of some of the rows, evenly chosen, where there are many.
    """
    if not isinstance(call.module, GRUS):
        return _ways_of_torch(call)
    replay = replay_of(call)
    traces = replay.rows(some_rows(replay.batch)).run().each
    return [Way(t.strand.name, t.strand.step, t.run.states, t.strand.lengths) for t in traces]


def _ways_of_torch(call: Call) -> list[Way]:
    module = call.module
    if not isinstance(call.input, Tensor) or getattr(module, "proj_size", 0):
        raise ValueError(
            f"{type(module).__name__} must be called with a padded tensor and have no projection"
        )
    x = call.input.detach().to("cpu", torch.float64)
    x = x.unsqueeze(1) if x.dim() == 2 else x.transpose(0, 1) if module.batch_first else x
    some = some_rows(x.size(1))
    found, below = [], x[:, some]
    lengths = torch.full((len(some),), x.size(0))
    for layer in range(module.num_layers):
        outputs = []
        for reverse in range(1 + module.bidirectional):
            name = f"l{layer}{'_reverse' if reverse else ''}"
            advance = _advance(module, name, own_order(below, bool(reverse), lengths))
            index = 2 * layer + reverse if module.bidirectional else layer
            h = _start(call, index, x.size(1))[some]
            states = [h]
            with torch.no_grad():
                for t in range(len(x)):
                    states.append(advance(states[-1], t))
            states = torch.stack(states)
            outputs.append(own_order(states[1:, :, : module.hidden_size], bool(reverse), lengths))
            full = ".".join(filter(None, [call.name, name]))
            found.append(Way(full, advance, states, lengths))
        below = torch.cat(outputs, -1)
    return found


def _start(call: Call, index: int, batch: int) -> Tensor:
    parts = 2 if isinstance(call.module, nn.LSTM) else 1
    if call.hx is None:
        return torch.zeros(batch, parts * call.module.hidden_size, dtype=torch.float64)
    given = call.hx if parts == 2 else (call.hx,)
    states = [state.detach().to("cpu", torch.float64) for state in given]
    return torch.cat([s[index] if s.dim() == 3 else s[index][None] for s in states], -1)


def _advance(module: nn.RNNBase, name: str, x: Tensor) -> Advance:
    """One step of a layer of torch's RNN or LSTM."""
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    w = [getattr(module, f"{kind}_{name}").detach().to("cpu", torch.float64) for kind in names]
    bias_ih, bias_hh = w[2:] if module.bias else (None, None)
    given = F.linear(x, w[0], bias_ih)
    if isinstance(module, nn.LSTM):

        def advance(state: Tensor, t: int) -> Tensor:
            h, c = state.chunk(2, -1)
            i, f, g, o = (given[t] + F.linear(h, w[1], bias_hh)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)

        return advance
    squash = torch.relu if getattr(module, "nonlinearity", "tanh") == "relu" else torch.tanh
    return lambda h, t: squash(given[t] + F.linear(h, w[1], bias_hh))


def untrained(features: Tensor, units: int, seed: int = 0) -> dict[str, tuple[nn.RNNBase, Tensor]]:
    """A cell of each kind as torch draws it, and its input, (batch, time, features)."""
    made: dict[str, tuple[nn.RNNBase, Tensor]] = {}
    for name, make in CELLS.items():
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            made[name] = (make(features.size(-1), units), features.float())
    return made
