"""`LanguageModel`: from a text to a model that goes on with it, and weighs other texts."""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self, overload

import torch

from .. import __version__
from .._estimator import BELOW_ONE, NOT_NEGATIVE, POSITIVE, Estimator, is_count
from .._inspectable import Inspectable
from .._model_file import read_model, write_model
from .._text import (
    LANGUAGE,
    Continuation,
    Reader,
    Scored,
    Source,
    TextGates,
    Tokenizer,
    check_vocabulary,
    learn_tokenizer,
)
from ..errors import InputError
from ..train import History, Progress, Settings
from ._corpus import Corpus, Rows, Tokens, read_corpus
from ._fit import Plan, Watch, fit_network, reader_of
from ._looked_into import look_into
from ._network import CELLS, Network, Regularisers, Shape

_VALIDATIONS = 20
_OFTEN, _SELDOM = 10, 250  # steps between two validations, at least and at most
_SAMPLE_LENGTH = {"characters": 200, "bytes": 200}


class Glimpse(NamedTuple):
    """How a model does while it learns: on the part held back, and a text that it wrote."""

    perplexity: float
    bits_per_character: float
    sample: str


@dataclass(eq=False, repr=False)
class LanguageModel(Estimator):
    """Learns to foresee the next token of a text: characters, bytes, words or subwords.

    Stacked recurrent layers read the corpus in parallel rows, chunk by chunk, the state carried
    from chunk to chunk; the scores of the next token are products with the embedding itself.
    A fitted model writes and weighs texts without torch (`reader_`).

    Args:
        tokens: "characters", "bytes", "words" or "subwords".
        vocab_size: most tokens; all of the corpus for characters, 10,000 words or 4,000 subwords
            when not given.
        normalize: None; "nfc": composed characters; "persian": those, and ی and ک for ي and ك,
            the zero-width non-joiner kept.
        hidden_size: units of each layer; a sequence gives each its own.
        num_layers: recurrent layers.
        embedding_size: features of a token; those of the last layer when not given.
        cell: "gru"; "mingru", whose gates do not see the state (`tidegate.nn.MinGRU`); or, to
            compare, torch's "lstm" or "rnn".
        reset: where the reset gate acts, as in `tidegate.nn.GRU`.
        tied: take the scores from the embedding, not from a matrix of their own.
        dropout: probability of dropping features between layers and before the scores.
        embedding_dropout: of dropping features of the embedding.
        recurrent_dropout: of dropping units where they meet the recurrent weights.
        weight_dropout: of dropping recurrent weights.
        lines: each line stands by itself: the state begins anew after each.
        context_length: steps through which gradients go back.
        batch_size: rows that are read in parallel.
        epochs: how often the corpus is read.
        steps: chunks to learn from, in place of `epochs`.
        learning_rate: the highest; it rises to it, then falls along a cosine.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        patience: validations without a better one after which training stops; 0 never stops it.
        validation_share: of the corpus, from its end, held back to validate on; 0 for none.
        seed: of all random numbers; same seed, machine and threads, same model.

    Attributes:
        tokenizer_: how text is cut.
        reader_: the model without torch.
        network_: the model in torch.
        history_: losses and validations of the training, per token; of a loaded model the means
            of neighbouring losses.
        perplexity_: of the part held back, at the best validation.
        bits_per_character_: likewise.
        tokens_per_second_: read in training, validations and all.

    Example:
        >>> sizes = {"hidden_size": 32, "context_length": 10, "batch_size": 4}
        >>> model = LanguageModel(steps=60, learning_rate=0.03, **sizes)
        >>> model = model.fit("the tide comes in, the tide goes out\\n" * 40)
        >>> model.perplexity("the tide goes out") < 10
        True
        >>> text = model.sample("the ", length=5, seed=1)
        >>> len(text)
        9
    """

    tokens: str = "characters"
    _: KW_ONLY
    vocab_size: int | None = None
    normalize: str | None = None
    hidden_size: int | Sequence[int] = 256
    num_layers: int = 1
    embedding_size: int | None = None
    cell: str = "gru"
    reset: str = "after"
    tied: bool = True
    dropout: float = 0.1
    embedding_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_dropout: float = 0.0
    lines: bool = False
    context_length: int = 100
    batch_size: int = 32
    epochs: float = 10.0
    steps: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int = 0
    validation_share: float = 0.1
    seed: int = 0
    # Of `fit`, until there is a model file.
    _checkpoint: str | os.PathLike[str] | None = field(default=None, init=False)

    def fit(
        self,
        corpus: str | os.PathLike[str],
        validation: str | os.PathLike[str] | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        show: Callable[[Glimpse], None] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from a text, or from a file of any size.

        Args:
            corpus: a path, or a string that names a file; any other string is the text itself,
                unless it ends as a file's name does, as in "poems.txt".
            validation: likewise, a text to validate on in place of the end of the corpus.
            progress: called after each step.
            show: called after each validation with its result and a sample of text.
            checkpoint: where to keep the state of the training; `save` removes it, once the model
                is in a file of its own.
            resume: go on from `checkpoint` where it is there.

        Raises:
            InputError: the corpus cannot be read, is too short, or would need too much memory; or
                an argument of the constructor is out of range.
        """
        self._check_arguments()
        source = Source.of(corpus, "the text")
        held_back = self.validation_share
        if validation is not None:
            held_back = Source.of(validation, "the validation text")
        tokenizer = learn_tokenizer(self.tokens, source.chunks(), self.vocab_size, self.normalize)
        with tempfile.TemporaryDirectory(prefix="tidegate-", ignore_cleanup_errors=True) as folder:
            parts = read_corpus(source, held_back, tokenizer, Path(folder))
            plan = self._plan(tokenizer, parts)
            watch = Watch(progress, self._show(show, tokenizer, parts), checkpoint, resume)
            self.network_, self.history_ = fit_network(parts, plan, watch)
            self._judge(parts, plan)
        self.tokenizer_ = tokenizer
        self.reader_ = reader_of(self.network_, tokenizer)
        self._checkpoint = checkpoint
        return self

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
            ValueError: an argument is out of range, or the model is not fitted.
        """
        options = (prompt, length, temperature, top_k, top_p, seed)
        if return_gates:
            return self._reader().sample(*options, return_gates=True)
        return self._reader().sample(*options)

    @overload
    def score(self, text: str) -> Scored: ...
    @overload
    def score(self, text: Sequence[str]) -> list[Scored]: ...
    def score(self, text: str | Sequence[str]) -> Scored | list[Scored]:
        """Log-probability of each token of a text, or of each of several texts.

        A text begins a line, with nothing read before it. Its end is not scored, unless it has
        one: add "\\n".

        Raises:
            ValueError: the model is not fitted.
        """
        return self._reader().score(text)

    def beam(self, prompt: str = "", width: int = 5, length: int = 50) -> list[Continuation]:
        """The likeliest continuations that are found when only the best few are kept at each step.

        Args:
            prompt: how the texts begin.
            width: how many are kept.
            length: tokens to add.

        Raises:
            ValueError: an argument is out of range, or the model is not fitted.
        """
        return self._reader().beam(prompt, width, length)

    def perplexity(self, text: str) -> float:
        """How many tokens the model hesitates between: exp of the mean negative log-probability.

        Raises:
            InputError: the text is empty.
            ValueError: the model is not fitted.
        """
        return self._reader().perplexity(text)

    def bits_per_character(self, text: str) -> float:
        """Bits that a character of a text costs; comparable between ways of cutting text.

        Raises:
            InputError: the text is empty.
            ValueError: the model is not fitted.
        """
        return self._reader().bits_per_character(text)

    def gates(self, text: str) -> TextGates:
        """The gates of each layer as each token of a text is read.

        Raises:
            ValueError: the model is no GRU, or is not fitted.
        """
        return self._reader().gates(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model, its tokenizer with it, to one safetensors file.

        Raises:
            InputError: the file cannot be written.
            ValueError: the model is not fitted.
        """
        reader = self._reader()
        facts = {
            "version": __version__,
            "arguments": self.get_params(),
            "reader": asdict(reader.facts),
            "shape": asdict(self.network_.shape),
            "perplexity": self.perplexity_,
            "bits_per_character": self.bits_per_character_,
            "history": self.history_.facts(),
        }
        tensors = {name: t.detach().numpy() for name, t in self.network_.state_dict().items()}
        write_model(path, LANGUAGE, tensors, facts)
        if self._checkpoint is not None:
            Path(self._checkpoint).unlink(missing_ok=True)
            self._checkpoint = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model from a file that `save` wrote.

        Raises:
            InputError: the file is not there, damaged, or no language model.
        """
        file = read_model(path, LANGUAGE)
        facts = file.facts
        try:
            self = cls(**facts["arguments"])
            if isinstance(self.hidden_size, list):
                self.hidden_size = tuple(self.hidden_size)
            self.perplexity_ = facts["perplexity"]
            self.bits_per_character_ = facts["bits_per_character"]
            self.history_ = (
                History.from_facts(facts["history"]) if "history" in facts else History()
            )
            self.reader_ = Reader.from_file(file)
            shape = facts["shape"]
            self.network_ = Network(Shape(**shape | {"hidden_sizes": tuple(shape["hidden_sizes"])}))
            self.network_.load_state_dict(
                {name: torch.from_numpy(array) for name, array in file.tensors.items()}
            )
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is damaged: {error}") from None
        self.network_.eval()
        self.tokenizer_ = self.reader_.tokenizer
        return self

    def _inspectable(self, input: str | None = None, *, known: bool = False) -> Inspectable:
        return look_into(self._reader(), self.network_, self.history_, input)

    def _check_arguments(self) -> None:
        self._check_training()
        self._check_choice("cell", CELLS)
        self._check_choice("reset", ("after", "before", "none"))
        check_vocabulary(self.tokens, self.vocab_size, self.normalize)
        self._check_counts(
            ("num_layers", "context_length", "batch_size"), ("embedding_size", "steps")
        )
        dropouts = "dropout", "embedding_dropout", "recurrent_dropout", "weight_dropout"
        self._check_numbers(BELOW_ONE, *dropouts, "validation_share")
        self._check_numbers(POSITIVE, "epochs", "clip")
        self._check_numbers(NOT_NEGATIVE, "weight_decay", "patience")
        sizes, cell = self._hidden_sizes(), self.cell
        if cell != "gru" and len(set(sizes)) > 1:
            raise InputError(f"hidden_size must be one number for cell={cell!r}, got {sizes}")
        if cell not in ("gru", "mingru") and self.lines:
            raise InputError(f"lines is for cell='gru' and 'mingru', not for {cell!r}")
        options = self.recurrent_dropout, self.weight_dropout, self.reset
        if cell != "gru" and options != (0, 0, "after"):
            raise InputError(
                f"recurrent_dropout, weight_dropout and reset are for cell='gru', not for {cell!r}"
            )

    def _hidden_sizes(self) -> tuple[int, ...]:
        given = self.hidden_size
        sizes = tuple(given) if isinstance(given, Sequence) else (given,) * self.num_layers
        if self.num_layers not in (1, len(sizes)) or not sizes:
            raise InputError(
                f"num_layers must be the number of hidden sizes, {len(sizes)}, "
                f"got {self.num_layers}"
            )
        if not all(map(is_count, sizes)):
            raise InputError(f"hidden_size must be whole numbers, at least 1, got {given!r}")
        return tuple(map(int, sizes))

    def _plan(self, tokenizer: Tokenizer, corpus: Corpus) -> Plan:
        sizes = self._hidden_sizes()
        shape = Shape(
            vocab_size=tokenizer.size,
            embedding_size=self.embedding_size or sizes[-1],
            hidden_sizes=sizes,
            cell=self.cell,
            reset=self.reset,
            tied=self.tied,
            lines=self.lines,
            boundary=tokenizer.boundary,
        )
        rows = Rows(corpus.training, self.batch_size, self.context_length)
        steps = self.steps or max(1, round(self.epochs * rows.chunks))
        every = min(max(steps // _VALIDATIONS, _OFTEN), _SELDOM)
        settings = Settings(
            steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip=self.clip,
            validate_every=every,
            checkpoint_every=every,
            patience=self.patience,
            seed=self.seed,
        )
        chances = Regularisers(
            self.dropout, self.embedding_dropout, self.recurrent_dropout, self.weight_dropout
        )
        return Plan(shape, chances, self.context_length, self.batch_size, settings)

    def _show(
        self, show: Callable[[Glimpse], None] | None, tokenizer: Tokenizer, corpus: Corpus
    ) -> Callable[[Network, float], None] | None:
        part = corpus.validation
        if show is None or part is None:
            return None
        seeds = itertools.count()

        def validated(network: Network, loss: float) -> None:
            sample = reader_of(network, tokenizer).sample(
                length=_SAMPLE_LENGTH.get(self.tokens, 50), seed=next(seeds)
            )
            show(Glimpse(*_measures(loss, part), sample))

        return validated

    def _judge(self, corpus: Corpus, plan: Plan) -> None:
        rows = Rows(corpus.training, plan.batch_size, plan.context_length)
        read = len(self.history_.losses) * rows.batch * rows.steps
        self.tokens_per_second_ = read / self.history_.seconds
        best, part = self.history_.best, corpus.validation
        self.perplexity_ = self.bits_per_character_ = None
        if best is not None and part is not None:
            self.perplexity_, self.bits_per_character_ = _measures(best[1], part)

    def _reader(self) -> Reader:
        if not hasattr(self, "reader_"):
            raise ValueError(f"{self!r} is not fitted yet: call fit first")
        return self.reader_


def _measures(loss: float, part: Tokens) -> tuple[float, float]:
    """Perplexity and bits per character of a mean loss on the part held back."""
    return math.exp(min(loss, 700.0)), loss / math.log(2) * len(part) / part.characters
