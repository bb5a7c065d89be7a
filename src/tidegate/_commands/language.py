"""`tidegate language`: train a language model, let it write, and let it weigh sentences."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import require_apart, require_writable
from .._text import UNKNOWN, Reader, Scored, Source
from ..errors import InputError
from ._terminal import messages, output, training_bar

if TYPE_CHECKING:
    from ..language import Glimpse
    from ..train import Progress

_SHOWN = 3  # lines of a sample
_AT_ONCE = 512  # lines that are scored together


@dataclass(frozen=True)
class Training:
    """What `tidegate language train` was asked for; `options` are those of `LanguageModel`."""

    corpus: Path
    out: Path
    validation: Path | None = None
    checkpoint: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)


def run_train(request: Training) -> None:
    """Train on a file, and write the model.

    Raises:
        InputError: the corpus or the place for the model cannot be used.
    """
    from ..language import LanguageModel

    if request.out.is_dir():
        raise InputError(f"--out must be a file, and {request.out} is a folder")
    require_apart(request.out, "--out", request.corpus, request.validation, request.checkpoint)
    require_writable(request.out.parent)
    if request.checkpoint is not None:
        require_apart(request.checkpoint, "--checkpoint", request.corpus, request.validation)
        require_writable(request.checkpoint.parent)
    model = LanguageModel(**request.options)
    model._check_arguments()
    with training_bar("training", _state) as progress:
        model.fit(
            request.corpus,
            request.validation,
            progress=lambda step: progress(0, step),
            show=_show,
            checkpoint=request.checkpoint,
            resume=request.checkpoint is not None,
        )
    model.save(request.out)
    _say_result(model, request.out)


def run_sample(
    path: Path,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
) -> None:
    """Let a model write, piece by piece, as it goes.

    Raises:
        InputError: the model cannot be used.
    """
    reader = Reader.open(path)
    begun, count = time.perf_counter(), 0
    if UNKNOWN in reader.tokenizer.pieces(reader.tokens_of(prompt)):
        messages.print("note: the prompt has what the model does not know, and reads as " + UNKNOWN)
    sys.stdout.write(prompt)
    for piece in reader.generate(prompt, length, temperature, top_k, top_p, seed):
        count += 1
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    seconds = time.perf_counter() - begun
    messages.print(f"{count:,} tokens in {seconds:.2f} s: {count / seconds:,.0f} tokens a second")


def run_beam(path: Path, prompt: str, width: int, length: int) -> None:
    """Print the likeliest continuations, each after the logarithm of its probability.

    Raises:
        InputError: the model cannot be used.
    """
    for text, log_prob in Reader.open(path).beam(prompt, width, length):
        print(f"{log_prob:.3f}\t{text!r}")


def run_score(path: Path, file: Path, each: bool, whole: bool) -> None:
    """Print the log-probability of each line of a file, or of its tokens, or of it as one text.

    Raises:
        InputError: the model or the file cannot be used.
    """
    reader, source = Reader.open(path), Source.of(file)
    if whole:
        return _score_whole(reader, source)
    tally, number = _Tally(), 0
    lines: list[str] = []
    for line in _lines(source):
        lines.append(line)
        if len(lines) == _AT_ONCE:
            _score_lines(reader, lines, number, each, tally)
            number, lines = number + len(lines), []
    _score_lines(reader, lines, number, each, tally)
    if not tally.count:
        raise InputError(f"{file} has no text to score")
    messages.print(f"{tally.words()}, perplexity {tally.perplexity():.4g}")


@dataclass
class _Tally:
    """What was scored so far."""

    count: int = 0
    unknown: int = 0
    total: float = 0.0

    def add(self, scored: Scored) -> None:
        self.count += len(scored.tokens)
        self.unknown += scored.tokens.count(UNKNOWN)
        self.total += scored.total

    def words(self) -> str:
        tokens = f"{self.count:,} token{'s' * (self.count != 1)}"
        if not self.unknown:
            return tokens
        return f"{tokens}, {self.unknown:,} of them {UNKNOWN}: not in the vocabulary"

    def perplexity(self) -> float:
        return math.exp(-self.total / self.count)


def _score_lines(reader: Reader, lines: list[str], begun: int, each: bool, tally: _Tally) -> None:
    for number, (line, scored) in enumerate(zip(lines, reader.score(lines), strict=True), begun):
        if not scored.tokens:
            continue
        if not tally.count:
            print("line\ttoken\tlog_prob" if each else "log_prob\ttokens\tperplexity\tline")
        tally.add(scored)
        if each:
            for token, log_prob in zip(*scored, strict=True):
                print(f"{number + 1}\t{_visible(token)}\t{log_prob:.4f}")
        else:
            perplexity = math.exp(-scored.total / len(scored.tokens))
            print(f"{scored.total:.4f}\t{len(scored.tokens)}\t{perplexity:.4g}\t{line}")


def _score_whole(reader: Reader, source: Source) -> None:
    text = source.read()
    tally = _Tally()
    tally.add(reader.score(text))
    output.print(
        f"{tally.words()}, log-probability {tally.total:.2f}, perplexity "
        f"{tally.perplexity():.4g}, "
        f"{-tally.total / math.log(2) / len(text):.4f} bits per character"
    )


def _lines(source: Source):
    for chunk in source.chunks():
        yield from chunk.removesuffix("\n").split("\n")


def _visible(token: str) -> str:
    return repr(token)[1:-1] if token.isspace() or "\t" in token else token


def _state(progress: Progress) -> str:
    loss = f"loss {progress.loss:.3f}"
    if progress.validation is None:
        return loss
    return f"{loss}  perplexity {math.exp(min(progress.validation, 700.0)):.4g}"


def _show(glimpse: Glimpse) -> None:
    messages.print(
        f"perplexity {glimpse.perplexity:.4g}, {glimpse.bits_per_character:.3f} bits per character"
    )
    for line in [line for line in glimpse.sample.splitlines() if line.strip()][:_SHOWN]:
        messages.print(f"    {line}")


def _say_result(model, out: Path) -> None:
    history, shape = model.history_, model.network_.shape
    output.print(
        f"{shape.vocab_size:,} {model.tokens}, {shape.parameters:,} parameters; "
        f"{len(history.losses):,} steps in {history.seconds:,.0f} s, "
        f"{model.tokens_per_second_:,.0f} tokens a second"
    )
    if model.perplexity_ is not None:
        output.print(
            f"On the part held back: perplexity {model.perplexity_:.4g}, "
            f"{model.bits_per_character_:.3f} bits per character"
        )
    output.print(f'Let it write: tidegate language sample {out} --prompt "…"')
