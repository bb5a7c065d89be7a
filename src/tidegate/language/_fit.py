"""From a corpus to a network: stateful truncated back-propagation, validated as it goes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .._text import Facts, Reader, Tokenizer
from ..errors import InputError
from ..train import History, Progress, Settings, train
from ._corpus import Corpus, Rows, Tokens
from ._network import Network, Regularisers, Shape, Trainee

# Tokens that a validation reads at most: enough to tell two networks apart.
_VALIDATED = 2**18
# A parameter in training: itself, its gradient, two moments of Adam, the best so far.
_BYTES_A_PARAMETER = 20
# Numbers kept for each unit at each step of a chunk.
_KEPT_A_UNIT = 12


@dataclass(frozen=True)
class Plan:
    """What is learnt, and how."""

    shape: Shape
    chances: Regularisers
    context_length: int
    batch_size: int
    settings: Settings


@dataclass
class Watch:
    """Who is told how the training goes, and where it keeps its state.

    Args:
        progress: called after each step.
        validated: called with the network and its loss after each validation.
        checkpoint: the file of the training's state.
        resume: go on from it.
    """

    progress: Callable[[Progress], None] | None = None
    validated: Callable[[Network, float], None] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    resume: bool = False


def fit_network(corpus: Corpus, plan: Plan, watch: Watch) -> tuple[Network, History]:
    """Train a network on a corpus; it ends with the weights that validated best.

    Raises:
        InputError: the network would not fit into memory, or the checkpoint is of another run.
    """
    rows = Rows(corpus.training, plan.batch_size, plan.context_length)
    require_memory(plan, rows)
    with torch.random.fork_rng([]):
        torch.manual_seed(plan.settings.seed)
        network = Network(plan.shape, plan.chances)
    trainee, seed, held_back = Trainee(network, rows.batch), plan.settings.seed, corpus.validation
    history = train(
        trainee,
        lambda number: trainee.loss(*rows.drawn(number, seed)),
        plan.settings,
        validate=None if held_back is None else lambda: _validate(network, held_back, plan, watch),
        progress=watch.progress,
        checkpoint=watch.checkpoint,
        resume=watch.resume,
        data=f"{corpus.fingerprint()} {plan.shape} {plan.chances} {rows.batch}x{rows.steps}",
    )
    return network, history


def _validate(network: Network, held_back: Tokens, plan: Plan, watch: Watch) -> float:
    loss = mean_loss(network, held_back, plan)
    if watch.validated is not None:
        watch.validated(network, loss)
    return loss


@torch.no_grad()
def mean_loss(network: Network, part: Tokens, plan: Plan) -> float:
    """Mean negative log-probability of a token, each row from its own beginning."""
    rows = Rows(part, plan.batch_size, plan.context_length)
    states, total, count = network.states(rows.batch), 0.0, 0
    for number in range(math.ceil(rows.length / rows.steps)):
        tokens, targets = rows.chunk(number)
        loss, states = network.loss(tokens, targets, states)
        total += loss.item() * targets.numel()
        count += targets.numel()
        if count >= _VALIDATED:
            break
    return total / count


def require_memory(plan: Plan, rows: Rows) -> None:
    """Find out before the long work whether the network fits.

    Raises:
        InputError: it does not.
    """
    shape = plan.shape
    kept = rows.batch * rows.steps * sum(shape.hidden_sizes) * _KEPT_A_UNIT * 4
    needed, there = shape.parameters * _BYTES_A_PARAMETER + kept, memory_of_machine()
    if needed > there:
        raise InputError(
            f"a network of {shape.parameters:,} parameters (vocabulary {shape.vocab_size:,}, "
            f"embedding {shape.embedding_size:,}, hidden {max(shape.hidden_sizes):,}) needs about "
            f"{needed / 2**30:,.1f} GB to train, and this machine has {there / 2**30:,.1f}"
        )


def memory_of_machine() -> float:
    """Bytes of memory; infinite where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


def reader_of(network: Network, tokenizer: Tokenizer) -> Reader:
    """The same model without torch; later training does not change it."""
    shape = network.shape
    facts = Facts(
        tokenizer=tokenizer.facts(),
        cell=shape.cell,
        reset=shape.reset,
        num_layers=len(shape.hidden_sizes),
        tied=shape.tied,
        lines=shape.lines,
    )
    return Reader(
        facts, {name: t.detach().numpy().copy() for name, t in network.state_dict().items()}
    )
