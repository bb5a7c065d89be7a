"""`Reader`: a language model that reads and writes text with NumPy alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from .._estimator import check_seed
from .._model_file import ModelFile, read_model
from ..errors import InputError
from ._cells import Gates, GRUCells, MinGRUCells, SlowCells, States
from ._sampling import check_sampling, draw, log_softmax, probabilities
from ._stream import CELLS, Scored, Stream
from ._tokenizer import Decoder, Tokenizer, tokenizer_from

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LANGUAGE = "language"  # the kind of a model file
# Numbers that are worked out at once: scores of all tokens at some steps.
_AT_ONCE = 2**21


class TextGates(NamedTuple):
    """What the gates did as each token was read.

    `reset`, `update` and `new` have an array (tokens, hidden) for each layer; `reset` none where
    there is no reset gate. An update near one keeps the old state.
    """

    tokens: list[str]
    reset: tuple[np.ndarray, ...]
    update: tuple[np.ndarray, ...]
    new: tuple[np.ndarray, ...]


class Continuation(NamedTuple):
    """A text that beam search found, and the logarithm of its probability after the prompt."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class Facts:
    """All of a language model but its numbers.

    Args:
        tokenizer: what `Tokenizer.facts` gave.
        cell: "gru", "mingru", "lstm" or "rnn".
        reset: the GRU's.
        num_layers: how many.
        tied: the scores come from the embedding itself.
        lines: each line is read by itself.
    """

    tokenizer: Mapping[str, Any]
    cell: str
    reset: str
    num_layers: int
    tied: bool
    lines: bool


class Reader:
    """A trained language model.

    Args:
        facts: what it is made of.
        tensors: its numbers, float32, by the names that they have in torch.

    Attributes:
        tokenizer: how it cuts text.

    Raises:
        InputError: they do not belong together.
    """

    kind = LANGUAGE

    def __init__(self, facts: Facts, tensors: Mapping[str, np.ndarray]):
        self.facts = facts
        self.tokenizer: Tokenizer = tokenizer_from(dict(facts.tokenizer))
        self.embedding = tensors["embedding.weight"]
        self.decoder = self.embedding if facts.tied else tensors["decoder.weight"]
        self.project = tensors.get("project.weight")
        self.bias = tensors["bias"]
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        if facts.cell == "mingru":
            names = ("weight_ih", "bias_ih")
        layers = [
            [tensors[f"cells.{name}_l{layer}"] for name in names]
            for layer in range(facts.num_layers)
        ]
        self.cells: GRUCells | MinGRUCells | SlowCells
        if facts.cell == "gru":
            self.cells = GRUCells(layers, facts.reset)
        elif facts.cell == "mingru":
            self.cells = MinGRUCells(layers)
        else:
            self.cells = SlowCells(layers, facts.cell)
        size = self.tokenizer.size
        if not len(self.embedding) == len(self.decoder) == len(self.bias) == size:
            raise InputError(f"the model has {len(self.bias)} tokens, its tokenizer {size}")

    @classmethod
    def from_file(cls, file: ModelFile) -> Reader:
        """The model of a file.

        Raises:
            InputError: the file is damaged.
        """
        try:
            return cls(Facts(**file.facts["reader"]), file.tensors)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"the language model is damaged: {error}") from None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Reader:
        """The model in a file that `tidegate.language.LanguageModel.save` wrote.

        Raises:
            InputError: the file is not there, damaged, or no language model.
        """
        file = read_model(path, LANGUAGE)
        try:
            return cls.from_file(file)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def __call__(self, tokens: np.ndarray, states: States | None = None) -> np.ndarray:
        """Logarithms of the probabilities of the next token, after each of these.

        Args:
            tokens: (time,), or (time, batch).
            states: where to begin; with nothing read when not given.

        Returns:
            float64 (time, vocabulary), or (time, batch, vocabulary).

        Raises:
            InputError: one is no token of the vocabulary.
        """
        tokens = self.checked(tokens)
        rows = tokens if tokens.ndim > 1 else tokens[:, None]
        output, _, _ = self._run(rows, states or self.cells.states(rows.shape[1]))
        return log_softmax(self._logits(output)).reshape(*tokens.shape, self.tokenizer.size)

    def stream(self, batch: int = 1) -> Stream:
        """A stream of tokens, from the beginning of a line."""
        return Stream(self, self.cells.states(batch))

    def contents(self) -> tuple[dict[str, Any], list[tuple[str, np.ndarray]]]:
        """All that the model is: facts, and arrays by name."""
        arrays = [("embedding", self.embedding), ("decoder", self.decoder), ("bias", self.bias)]
        arrays += [] if self.project is None else [("project", self.project)]
        layers = [
            (f"{i}.{j}", a) for i, la in enumerate(self.cells.layers) for j, a in enumerate(la)
        ]
        return asdict(self.facts), arrays + layers

    @overload
    def sample(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        *,
        return_gates: Literal[False] = False,
    ) -> str: ...
    @overload
    def sample(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        *,
        return_gates: Literal[True],
    ) -> tuple[str, TextGates]: ...
    def sample(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        *,
        return_gates: bool = False,
    ) -> str | tuple[str, TextGates]:
        """Go on from a prompt.

        Args:
            prompt: how the text begins.
            length: tokens to add.
            temperature: below 1 the likely becomes likelier; at 0 the best token is always taken.
            top_k: take one of so many best tokens.
            top_p: take one of the fewest best tokens that together have this probability.
            seed: of the random numbers; same seed, same text.
            return_gates: also return the gates of each token, those of the prompt too.

        Returns:
            The prompt and what follows it; or that and its gates.

        Raises:
            ValueError: an argument is out of range.
        """
        tokens = self.tokens_of(prompt)
        chosen = list(self._choose(tokens, length, temperature, top_k, top_p, seed))
        text = self._after(prompt, tokens, chosen)
        if not return_gates:
            return text
        return text, self._gates(np.concatenate([tokens, np.array(chosen, np.int64)]))

    def generate(
        self,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """As `sample`, but what follows the prompt comes piece by piece, a piece for each token."""
        tokens = self.tokens_of(prompt)
        decoder = self._decoder(tokens)
        for token in self._choose(tokens, length, temperature, top_k, top_p, seed):
            yield decoder.feed(token)
        if end := decoder.end():
            yield end

    @overload
    def score(self, text: str) -> Scored: ...
    @overload
    def score(self, text: Sequence[str]) -> list[Scored]: ...
    def score(self, text: str | Sequence[str]) -> Scored | list[Scored]:
        """Log-probability of each token of a text, or of each of several texts.

        A text begins a line, with nothing read before it. Its end is not scored, unless it has
        one: add "\\n".
        """
        if isinstance(text, str):
            tokens = self.tokenizer.encode(text)
            return Scored(self.tokenizer.pieces(tokens), self._score(tokens))
        sentences = [self.tokenizer.encode(sentence) for sentence in text]
        scores: list[np.ndarray] = [np.zeros(0)] * len(sentences)
        for rows in _batches([len(tokens) for tokens in sentences]):
            found = self._score_together([sentences[row] for row in rows])
            for row, log_probs in zip(rows, found, strict=True):
                scores[row] = log_probs
        pieces = map(self.tokenizer.pieces, sentences)
        return [Scored(*pair) for pair in zip(pieces, scores, strict=True)]

    def perplexity(self, text: str) -> float:
        """How many tokens the model hesitates between: exp of the mean negative log-probability.

        Raises:
            InputError: the text is empty.
        """
        tokens = self.tokenizer.encode(text)
        if not len(tokens):
            raise InputError("the text is empty: it has no perplexity")
        return math.exp(min(-self._score(tokens).mean(), 700.0))

    def bits_per_character(self, text: str) -> float:
        """Bits that a character of the text costs; comparable between ways of cutting text.

        Raises:
            InputError: the text is empty.
        """
        if not text:
            raise InputError("the text is empty: it has no bits per character")
        return -self._score(self.tokenizer.encode(text)).sum() / math.log(2) / len(text)

    def beam(self, prompt: str = "", width: int = 5, length: int = 50) -> list[Continuation]:
        """The likeliest continuations that are found when only the best few are kept at each step.

        Args:
            prompt: how the texts begin.
            width: how many are kept.
            length: tokens to add.

        Returns:
            At most `width` of them, the best first.

        Raises:
            ValueError: `width` or `length` is not positive.
        """
        if width < 1 or length < 1:
            raise ValueError(f"width and length must be at least 1, got {width} and {length}")
        tokens = self.tokens_of(prompt)
        stream = self.stream()
        log_probs = stream.read(tokens)
        beams, totals = [[]], np.zeros(1)
        for step in range(length):
            if self.tokenizer.unknown is not None:
                log_probs[:, self.tokenizer.unknown] = -np.inf
            together = (totals[:, None] + log_probs).ravel()
            best = np.argsort(-together, kind="stable")[:width]
            best = best[np.isfinite(together[best])]
            rows, chosen = np.divmod(best, self.tokenizer.size)
            totals = together[best]
            beams = [[*beams[r], int(token)] for r, token in zip(rows, chosen, strict=True)]
            if step + 1 < length:
                stream = stream.take(rows)
                log_probs = stream.step(chosen)
        return [
            Continuation(self._after(prompt, tokens, beam), float(total))
            for beam, total in zip(beams, totals, strict=True)
        ]

    def gates(self, text: str) -> TextGates:
        """The gates as each token of a text is read.

        Raises:
            ValueError: the model is no GRU.
        """
        return self._gates(self.tokens_of(text))

    def next(self, text: str) -> np.ndarray:
        """Probabilities of all tokens after a text, float64."""
        return np.exp(self.stream().read(self.tokens_of(text))[0])

    def checked(self, tokens: ArrayLike) -> np.ndarray:
        """Tokens that a caller gave, if the vocabulary has them.

        Raises:
            InputError: they are no whole numbers, or one is not.
        """
        array, size = np.asarray(tokens), self.tokenizer.size
        if array.size and array.dtype.kind not in "iu":
            raise InputError(f"tokens must be whole numbers, not {array.dtype}")
        if array.size and not 0 <= array.min() <= array.max() < size:
            wrong = array.min() if array.min() < 0 else array.max()
            raise InputError(f"tokens must be from 0 to {size - 1}, but one is {wrong}")
        return array.astype(np.int64, copy=False)

    def tokens_of(self, text: str) -> np.ndarray:
        """The tokens of a text as the model reads it: the end of a line comes before it."""
        return np.concatenate([[self.tokenizer.boundary], self.tokenizer.encode(text)])

    # ---- inside --------------------------------------------------------------------------------

    def _after(self, prompt: str, tokens: np.ndarray, chosen: list[int]) -> str:
        decoder = self._decoder(tokens)
        return prompt + "".join(map(decoder.feed, chosen)) + decoder.end()

    def _decoder(self, tokens: np.ndarray) -> Decoder:
        """A decoder that has read the tokens of a prompt."""
        decoder = self.tokenizer.decoder()
        for token in tokens[1:]:
            decoder.feed(int(token))
        return decoder

    def _run(
        self,
        tokens: np.ndarray,
        states: States,
        lengths: np.ndarray | None = None,
        return_gates: bool = False,
    ) -> tuple[np.ndarray, States, Gates | None]:
        """Output (time, batch, features) as the scores are made of, states, gates."""
        keep = None
        if self.facts.lines:
            keep = (tokens != self.tokenizer.boundary).astype(np.float32)
        output, states, gates = self.cells.run(
            self.embedding[tokens], states, keep, lengths, return_gates
        )
        return self._projected(output), states, gates

    def _projected(self, output: np.ndarray) -> np.ndarray:
        return output if self.project is None else output @ self.project.T

    def _logits(self, output: np.ndarray) -> np.ndarray:
        """Scores of all tokens."""
        return output @ self.decoder.T + self.bias

    def _choose(
        self,
        tokens: np.ndarray,
        length: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        seed: int,
    ) -> Iterator[int]:
        check_sampling(temperature, top_k, top_p)
        check_seed(seed)
        if length < 0:
            raise ValueError(f"length must be 0 or more, got {length}")
        stream, token = self.stream(), 0
        for step, uniform in enumerate(np.random.default_rng(seed).random(length)):
            if step:
                logits = stream.step_logits(np.array([token]))[0]
            else:
                logits = stream.read_logits(tokens)[0]
            if self.tokenizer.unknown is not None:
                logits[self.tokenizer.unknown] = -np.inf
            token = draw(probabilities(logits, temperature, top_k, top_p), uniform)
            yield token

    def _gates(self, tokens: np.ndarray) -> TextGates:
        _, _, gates = self._run(tokens[:, None], self.cells.states(1), return_gates=True)
        reset, update, new = (tuple(layer[1:, 0] for layer in gate) for gate in gates or ())
        return TextGates(self.tokenizer.pieces(tokens[1:]), reset, update, new)

    def _score(self, tokens: np.ndarray) -> np.ndarray:
        """As `score`, of one text of any length."""
        inputs = np.concatenate([[self.tokenizer.boundary], tokens[:-1]])[: len(tokens), None]
        states, found = self.cells.states(1), []
        for begin in range(0, len(tokens), CELLS):
            output, states, _ = self._run(inputs[begin : begin + CELLS], states)
            found.append(self._picked(output[:, 0], tokens[begin : begin + CELLS]))
        return np.concatenate(found) if found else np.zeros(0)

    def _score_together(self, sentences: list[np.ndarray]) -> list[np.ndarray]:
        lengths = np.array([len(tokens) for tokens in sentences])
        inputs = np.full((max(lengths.max(), 1), len(sentences)), self.tokenizer.boundary)
        for row, tokens in enumerate(sentences):
            inputs[1 : len(tokens), row] = tokens[:-1]
        output, _, _ = self._run(inputs, self.cells.states(len(sentences)), lengths)
        ends = np.cumsum(lengths)
        real = np.arange(len(inputs))[:, None] < lengths
        rows = output.transpose(1, 0, 2)[real.T]
        return np.split(self._picked(rows, np.concatenate(sentences)), ends[:-1])

    def _picked(self, output: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Log-probability of each target after the output of its row."""
        found, rows = np.empty(len(targets)), max(1, _AT_ONCE // self.tokenizer.size)
        for begin in range(0, len(targets), rows):
            some = slice(begin, begin + rows)
            log_probs = log_softmax(self._logits(output[some]))
            found[some] = np.take_along_axis(log_probs, targets[some, None], 1)[:, 0]
        return found


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Numbers of sentences that are read together: of like length, and not too many."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if rows and (len(rows) + 1) * lengths[row] > CELLS:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
