"""A corpus as tokens: on disk where it is large, read in rows that go on from chunk to chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .._text import Source, Tokenizer
from ..errors import InputError

# Tokens of which a fingerprint takes all; of more, it takes pieces of this many.
_PIECE = 2**20


@dataclass
class Tokens:
    """Tokens of a text, in memory or mapped from a file, and how many characters they were."""

    tokens: np.ndarray
    characters: int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class Corpus:
    """What is learnt from, and what is held back to validate on, or None."""

    training: Tokens
    validation: Tokens | None

    def fingerprint(self) -> str:
        """Something that tells this corpus from others."""
        digest = hashlib.blake2b(digest_size=16)
        for part in filter(None, (self.training, self.validation)):
            digest.update(f"{len(part)} {part.tokens.dtype}".encode())
            for begin in range(0, len(part), _PIECE):
                digest.update(part.tokens[begin : begin + _PIECE].tobytes())
        return digest.hexdigest()


def read_corpus(
    source: Source, held_back: Source | float, tokenizer: Tokenizer, folder: Path
) -> Corpus:
    """Cut a corpus into tokens, which are written to files in a folder as they come.

    Args:
        source: what to learn from.
        held_back: what to validate on; or the share of `source`, from its end, to hold back.
        tokenizer: learnt before.
        folder: for the files.

    Raises:
        InputError: there is too little to learn from.
    """
    if isinstance(held_back, Source):
        training = _write(source.chunks(), tokenizer, folder / "training")
        validation = _write(held_back.chunks(), tokenizer, folder / "validation")
        if len(validation) < 2:
            raise InputError(f"{held_back.name} has {_count(validation)}, and 2 are needed")
    else:
        total = sum(map(len, source.chunks()))
        cut = _Cut(source.chunks(), round(total * (1 - held_back)))
        training = _write(cut.before(), tokenizer, folder / "training")
        validation = _write(cut.after(), tokenizer, folder / "validation")
    if len(training) < 2:
        raise InputError(f"{source.name} has {_count(training)}, too few to learn from")
    if training.tokens[0] == training.tokens[-1] and _is_constant(training.tokens):
        piece = tokenizer.piece(int(training.tokens[0]))
        raise InputError(f"{source.name} has the token {piece!r} alone: there is nothing to learn")
    return Corpus(training, validation if len(validation) > 1 else None)


def _count(part: Tokens) -> str:
    return "1 token" if len(part) == 1 else f"{len(part)} tokens"


def _is_constant(tokens: np.ndarray) -> bool:
    pieces = (tokens[begin : begin + _PIECE] for begin in range(0, len(tokens), _PIECE))
    return all((piece == tokens[0]).all() for piece in pieces)


class _Cut:
    """Pieces of a text in two parts, cut at the first line's end past a place."""

    def __init__(self, chunks: Iterator[str], place: int):
        self.chunks = chunks
        self.place = place
        self.rest = ""

    def before(self) -> Iterator[str]:
        done = 0
        for chunk in self.chunks:
            if done + len(chunk) <= self.place:
                done += len(chunk)
                yield chunk
                continue
            end = chunk.find("\n", max(self.place - done - 1, 0)) + 1 or self.place - done
            self.rest = chunk[end:]
            yield chunk[:end]
            return

    def after(self) -> Iterator[str]:
        yield self.rest
        yield from self.chunks


def _write(chunks: Iterator[str], tokenizer: Tokenizer, path: Path) -> Tokens:
    dtype = np.min_scalar_type(tokenizer.size - 1)
    characters = count = 0
    try:
        with open(path, "wb") as file:
            for chunk in chunks:
                tokens = tokenizer.encode(chunk).astype(dtype)
                characters += len(chunk)
                count += len(tokens)
                file.write(tokens.data)
    except OSError as error:
        raise InputError(
            f"the tokens of the text cannot be written to {path.parent}: {error.strerror}; TMPDIR "
            "names another folder to keep them in while the training lasts"
        ) from None
    if not count:
        return Tokens(np.empty(0, dtype), 0)
    return Tokens(np.memmap(path, dtype, mode="r"), characters)


class Rows:
    """A text in parallel rows: chunk after chunk, each goes on where its row was left.

    Args:
        part: the tokens.
        batch: rows, of which there are fewer where the text is short.
        steps: of a chunk; fewer likewise.
    """

    def __init__(self, part: Tokens, batch: int, steps: int):
        self.tokens = part.tokens
        self.steps = max(1, min(steps, len(part) - 1))
        self.batch = max(1, min(batch, (len(part) - 1) // self.steps))
        self.length = (len(part) - 1) // self.batch  # of a row, without the last target
        self.chunks = self.length // self.steps  # of an epoch

    def chunk(self, number: int, shift: int = 0) -> tuple[Tensor, Tensor]:
        """Tokens and targets (steps, batch) of a chunk; `shift` moves all chunks of an epoch."""
        begin = number * self.steps + shift
        starts = [row * self.length + begin for row in range(self.batch)]
        steps = min(self.steps, self.length - begin)
        rows = np.stack([self.tokens[at : at + steps + 1] for at in starts], 1)
        together = torch.from_numpy(rows.astype(np.int64))
        return together[:-1], together[1:]

    def drawn(self, number: int, seed: int) -> tuple[Tensor, Tensor, bool]:
        """Tokens and targets of the chunk with this number in training; whether an epoch begins.

        Each epoch's chunks begin elsewhere, so that no token stands always at a chunk's end.
        """
        epoch, number = divmod(number, self.chunks)
        room = self.length - self.chunks * self.steps
        shift = int(np.random.default_rng((seed, epoch)).integers(room + 1))
        return *self.chunk(number, shift), number == 0
