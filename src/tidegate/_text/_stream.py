"""`Stream`: tokens read as they come, and a text that goes on scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._stream_state import fingerprint, pack_state, unpack_state
from ..errors import InputError
from ._cells import States
from ._sampling import log_softmax

if TYPE_CHECKING:
    from ._reader import Reader

# Cells of a batch of sentences: rows times steps of the longest.
CELLS = 2**14


class Scored(NamedTuple):
    """The tokens of a text, and the logarithm of the probability of each after those before it."""

    tokens: list[str]
    log_probs: np.ndarray

    @property
    def total(self) -> float:
        """The logarithm of the probability of the whole text."""
        return float(self.log_probs.sum())


class Stream:
    """Tokens read one at a time, in any number of rows; or one text, scored piece by piece.

    Args:
        reader: the model.
        states: where to begin.
        output: what the last layer gave for the last token; None where none was read.

    Attributes:
        states: of each layer, the last two axes (batch, hidden).
        steps: tokens of a row that were read.
    """

    def __init__(self, reader: Reader, states: States, output: np.ndarray | None = None):
        self.reader, self.steps = reader, 0
        self._stepper = reader.cells.stepper(states)
        self._output = output

    @property
    def states(self) -> States:
        """Where the stream stands; may be written to."""
        return self._stepper.states

    def read(self, tokens: np.ndarray) -> np.ndarray:
        """Read several tokens, the same in every row; log-probabilities (batch, vocabulary).

        Raises:
            InputError: there are none, or one is no token of the vocabulary; nothing was read.
        """
        tokens = self.reader.checked(tokens)
        if not len(tokens):
            raise InputError("tokens must be at least one, but there are none")
        return log_softmax(self.read_logits(tokens))

    def read_logits(self, tokens: np.ndarray) -> np.ndarray:
        """As `read`, before the softmax."""
        batch = self.states[0].shape[-2]
        rows = np.repeat(np.asarray(tokens)[:, None], batch, 1)
        output = self._go_on(rows[:CELLS])
        for begin in range(CELLS, len(rows), CELLS):
            output = self._go_on(rows[begin : begin + CELLS])
        return self.reader._logits(output[-1])

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Read a token in each row, (batch,); log-probabilities (batch, vocabulary) of the next.

        Raises:
            InputError: one is no token of the vocabulary, or they are not one a row.
        """
        tokens, rows = self.reader.checked(tokens), self.states[0].shape[-2]
        if tokens.shape != (rows,):
            raise InputError(f"tokens must have shape ({rows},), not {tokens.shape}")
        return log_softmax(self.step_logits(tokens))

    def step_logits(self, tokens: np.ndarray) -> np.ndarray:
        """As `step`, before the softmax."""
        reader = self.reader
        if reader.facts.lines:
            for state in self.states:
                state[..., tokens == reader.tokenizer.boundary, :] = 0
        self._output = reader._projected(self._stepper.step(reader.embedding[tokens]))
        self.steps += 1
        return reader._logits(self._output)

    def score(self, text: str) -> Scored:
        """Log-probability of each token of a text that goes on from what was read.

        Where nothing was read, it begins a line. The pieces of a text that are cut between two of
        its tokens, as lines are, have the scores that they have in the whole.

        Raises:
            ValueError: the stream has several rows.
        """
        reader = self.reader
        if self.states[0].shape[-2] != 1:
            raise ValueError("score is for a stream of one row")
        tokens, found = reader.tokenizer.encode(text), [np.zeros(0)]
        before = self._output
        if before is None:
            before = self._go_on(np.array([[reader.tokenizer.boundary]]))[-1]
        for begin in range(0, len(tokens), CELLS):
            some = tokens[begin : begin + CELLS]
            output = self._go_on(some[:, None])
            found.append(reader._picked(np.concatenate([before, output[:-1, 0]]), some))
            before = output[-1]
        return Scored(reader.tokenizer.pieces(tokens), np.concatenate(found))

    def take(self, rows: np.ndarray) -> Stream:
        """A stream whose rows are copies of these."""
        output = None if self._output is None else self._output[rows]
        return Stream(self.reader, [state[..., rows, :] for state in self.states], output)

    def reset(self) -> None:
        """Forget all that was read."""
        for state in self.states:
            state[:] = 0
        self._output, self.steps = None, 0

    def to_bytes(self, notes: Mapping[str, str] | None = None) -> bytes:
        """Where it stands, to go on from on any machine with `from_bytes`.

        Args:
            notes: words of one's own to keep beside it.
        """
        return pack_state(self._fingerprint(), self._arrays(), self.steps, notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """Go on from what `to_bytes` gave; nothing changes if it does not fit.

        Returns:
            The notes that were kept beside it.

        Raises:
            InputError: the bytes are damaged, or of another model or number of rows.
        """
        arrays, steps, notes = unpack_state(data, self._fingerprint())
        output = arrays.pop("output", None)
        states = [arrays[name] for name in sorted(arrays, key=lambda name: (len(name), name))]
        if [s.shape for s in states] != [s.shape for s in self.states]:
            raise InputError("the state is not of a stream of as many rows")
        for own, new in zip(self.states, states, strict=True):
            own[:] = new
        self._output, self.steps = output, steps
        return notes

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {str(i): state for i, state in enumerate(self.states)}
        return arrays if self._output is None else arrays | {"output": self._output}

    def _fingerprint(self) -> str:
        return fingerprint(*self.reader.contents())

    def _go_on(self, rows: np.ndarray) -> np.ndarray:
        """Read tokens (time, batch); what the scores of each next one are made of."""
        output, states, _ = self.reader._run(rows, [state.copy() for state in self.states])
        for own, new in zip(self.states, states, strict=True):
            own[:] = new
        self._output = output[-1]
        self.steps += len(rows)
        return output
