"""Text as numbers: characters, bytes, words or subwords, and back."""

from __future__ import annotations

import codecs
import sys
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any, Protocol, Self

import numpy as np

from ..errors import InputError
from ._normalize import normalizer

UNKNOWN, UNKNOWN_NUMBER = "<unk>", 0
# Kinds of words that are counted at once: beyond it, those seen once are forgotten.
_COUNTED = 2**22
_CODES = ("utf-32-le", "surrogatepass")  # each character as its number


class Decoder(Protocol):
    """Turns tokens into text, one by one."""

    def feed(self, token: int) -> str:
        """The text that is certain after one more token."""

    def end(self) -> str:
        """What is still held back, such as half a character."""


class Tokenizer:
    """Cuts text into tokens, numbered from 0.

    Args:
        normalize: as in `normalizer`.

    Attributes:
        size: how many tokens there are.
        boundary: the token of a line's end, before which every text begins.
        unknown: the token of what the vocabulary lacks, or None where it lacks nothing.
    """

    kind: str
    size: int
    boundary: int
    unknown: int | None = None

    def __init__(self, normalize: str | None):
        self.normalize = normalize
        self.normalized = normalizer(normalize)

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text, int64.

        Raises:
            TypeError: it is no string.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text must be a string, not {type(text).__name__}")
        return self._encode(self.normalized(text))

    def _encode(self, text: str) -> np.ndarray:
        raise NotImplementedError

    def decoder(self) -> Decoder:
        """A new decoder, at the beginning of a text."""
        raise NotImplementedError

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        decoder = self.decoder()
        return "".join([decoder.feed(int(token)) for token in tokens]) + decoder.end()

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """Each token by itself, as text to show."""
        return [self.piece(int(token)) for token in tokens]

    def piece(self, token: int) -> str:
        """One token, as text to show."""
        raise NotImplementedError

    @classmethod
    def learn(cls, chunks: Iterable[str], vocab_size: int | None, normalize: str | None) -> Self:
        """Learn a vocabulary from text that is normalised."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """All that makes this tokenizer, as JSON can hold it."""
        return {"kind": self.kind, "normalize": self.normalize}


class Bytes(Tokenizer):
    """The bytes of UTF-8: a small vocabulary that holds every text."""

    kind = "bytes"
    size = 256
    boundary = ord("\n")

    def _encode(self, text: str) -> np.ndarray:
        data = text.encode("utf-8", "replace")
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decoder(self) -> Decoder:
        return _ByteDecoder([bytes([b]) for b in range(256)])

    def piece(self, token: int) -> str:
        return chr(token) if 32 <= token < 127 else f"\\x{token:02x}"

    @classmethod
    def learn(cls, chunks: Iterable[str], vocab_size: int | None, normalize: str | None) -> Self:
        """There is nothing to learn."""
        return cls(normalize)


class Characters(Tokenizer):
    """The characters of Unicode that the corpus has, and one for all others."""

    kind = "characters"
    unknown = UNKNOWN_NUMBER

    def __init__(self, alphabet: str, normalize: str | None):
        super().__init__(normalize)
        self.alphabet = alphabet
        codes = np.frombuffer(alphabet.encode(*_CODES), np.uint32)
        self._order = np.argsort(codes)
        self._sorted = codes[self._order]
        self.size = 1 + len(alphabet)
        self.boundary = 1 + alphabet.index("\n")

    def _encode(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode(*_CODES), np.uint32)
        place = np.searchsorted(self._sorted, codes).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[place] == codes, 1 + self._order[place], UNKNOWN_NUMBER)

    def decoder(self) -> Decoder:
        return _PieceDecoder([UNKNOWN, *self.alphabet])

    def piece(self, token: int) -> str:
        return self.alphabet[token - 1] if token else UNKNOWN

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"alphabet": self.alphabet}

    @classmethod
    def learn(cls, chunks: Iterable[str], vocab_size: int | None, normalize: str | None) -> Self:
        """All characters, or the most frequent; a line's end in any case."""
        counts = np.zeros(sys.maxunicode + 1, np.int64)
        for chunk in chunks:
            some = np.bincount(np.frombuffer(chunk.encode(*_CODES), np.uint32))
            counts[: len(some)] += some
        by_character = Counter({chr(code): int(counts[code]) for code in np.flatnonzero(counts)})
        return cls("".join(sorted(_most_frequent(by_character, "\n", vocab_size))), normalize)


class Words(Tokenizer):
    """Words and punctuation marks; blanks between them are implied.

    A token stands after one blank, or at the beginning of a line. Where there is no blank, as
    before most punctuation, the token begins with a joiner; further blanks and the ends of lines
    are tokens themselves. So every text comes back as it was, but for unknown words.
    """

    kind = "words"
    unknown = UNKNOWN_NUMBER

    def __init__(self, words: list[str], normalize: str | None):
        super().__init__(normalize)
        self.words = words
        self._number = {word: 1 + i for i, word in enumerate(words)}
        self.size = 1 + len(words)
        self.boundary = self._number["\n"]

    def _encode(self, text: str) -> np.ndarray:
        from ._words import cut

        get = self._number.get
        return np.fromiter((get(word, UNKNOWN_NUMBER) for word in cut(text)), np.int64)

    def decoder(self) -> Decoder:
        from ._words import WordDecoder

        return WordDecoder([UNKNOWN, *self.words])

    def piece(self, token: int) -> str:
        return self.words[token - 1] if token else UNKNOWN

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"words": self.words}

    @classmethod
    def learn(cls, chunks: Iterable[str], vocab_size: int | None, normalize: str | None) -> Self:
        """The most frequent words; a line's end in any case."""
        from ._words import cut

        counts: Counter[str] = Counter()
        for chunk in chunks:
            counts.update(cut(chunk))
            if len(counts) > _COUNTED:
                counts = Counter({word: n for word, n in counts.items() if n > 1})
        return cls(_most_frequent(counts, "\n", vocab_size), normalize)


class Subwords(Tokenizer):
    """Pieces of words, by byte-pair encoding of UTF-8: every text has tokens, and comes back."""

    kind = "subwords"

    def __init__(self, model: str, normalize: str | None):
        from ._subwords import bytes_of, open_model

        super().__init__(normalize)
        self.model = model
        self._tokenizer = open_model(model)
        self.size = self._tokenizer.get_vocab_size()
        self._bytes = bytes_of(self._tokenizer)
        self.boundary = self._bytes.index(b"\n")

    def _encode(self, text: str) -> np.ndarray:
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
        return np.array(self._tokenizer.encode(text).ids, np.int64)

    def decoder(self) -> Decoder:
        return _ByteDecoder(self._bytes)

    def piece(self, token: int) -> str:
        return self._bytes[token].decode("utf-8", "backslashreplace")

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"model": self.model}

    @classmethod
    def learn(cls, chunks: Iterable[str], vocab_size: int | None, normalize: str | None) -> Self:
        """Merge the most frequent neighbours until there are `vocab_size` tokens."""
        from ._subwords import train_model

        return cls(train_model(chunks, vocab_size or _VOCABULARY["subwords"]), normalize)


KINDS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (Characters, Bytes, Words, Subwords)
}
# As many tokens as these have unless told otherwise; the others have what the corpus has.
_VOCABULARY = {"words": 10_000, "subwords": 4_000}


def check_vocabulary(kind: str, vocab_size: int | None, normalize: str | None) -> None:
    """Raise unless the arguments of `learn_tokenizer` are in range.

    Raises:
        InputError: one is not.
    """
    if kind not in KINDS:
        raise InputError(f"tokens must be one of {', '.join(KINDS)}, got {kind!r}")
    least = 257 if kind == "subwords" else 2
    if vocab_size is not None and (not isinstance(vocab_size, Integral) or vocab_size < least):
        raise InputError(
            f"vocab_size must be a whole number, at least {least} for {kind}, got {vocab_size!r}"
        )
    normalizer(normalize)


def learn_tokenizer(
    kind: str, chunks: Iterable[str], vocab_size: int | None = None, normalize: str | None = None
) -> Tokenizer:
    """Learn a vocabulary from a corpus.

    >>> tokenizer = learn_tokenizer("characters", ["abba\\n"])
    >>> tokenizer.encode("ab")
    array([2, 3])
    >>> tokenizer.decode([3, 2, 0])
    'ba<unk>'

    Args:
        kind: "characters", "bytes", "words" or "subwords".
        chunks: the corpus, in pieces.
        vocab_size: most tokens.
        normalize: as in `normalizer`.

    Raises:
        ValueError: an argument is out of range.
    """
    check_vocabulary(kind, vocab_size, normalize)
    normalized = normalizer(normalize)
    size = vocab_size or _VOCABULARY.get(kind)
    return KINDS[kind].learn((normalized(chunk) for chunk in chunks), size, normalize)


def tokenizer_from(facts: dict[str, Any]) -> Tokenizer:
    """The tokenizer that gave these facts.

    Raises:
        InputError: they are no tokenizer's.
    """
    rest = dict(facts)
    try:
        return KINDS[rest.pop("kind")](**rest)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the tokenizer of the model is damaged: {error}") from None


def _most_frequent(counts: Counter[str], always: str, vocab_size: int | None) -> list[str]:
    """The most frequent, a place kept for the unknown; of equals the first in the alphabet."""
    counts.pop(UNKNOWN, None)
    counts[always] = max(counts[always], *counts.values(), 1)
    ranked = sorted(counts, key=lambda word: (-counts[word], word != always, word))
    return ranked if vocab_size is None else ranked[: vocab_size - 1]


class _PieceDecoder:
    """Tokens that are texts by themselves."""

    def __init__(self, pieces: list[str]):
        self.pieces = pieces

    def feed(self, token: int) -> str:
        return self.pieces[token]

    def end(self) -> str:
        return ""


class _ByteDecoder:
    """Tokens that are bytes of UTF-8, of which a character may take several."""

    def __init__(self, parts: list[bytes]):
        self.parts = parts
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self.decoder.decode(self.parts[token])

    def end(self) -> str:
        return self.decoder.decode(b"", final=True)
