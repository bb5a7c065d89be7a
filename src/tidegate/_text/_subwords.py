"""Byte-pair encoding by the package `tokenizers`, which is imported only where it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_model(chunks: Iterable[str], vocab_size: int) -> str:
    """Learn merges from a corpus; the model as JSON.

    Two runs over the same corpus give the same model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = (line for chunk in chunks for line in chunk.splitlines(keepends=True))
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer.to_str()


def open_model(model: str) -> Tokenizer:
    """A tokenizer from its JSON.

    Raises:
        ValueError: it is damaged.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(model)
    except Exception as error:  # the package raises no narrower one
        raise ValueError(str(error)) from None


def bytes_of(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each token, which the model writes as printable characters."""
    byte = {character: value for value, character in enumerate(_printable())}
    tokens = map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))
    return [bytes(byte[character] for character in token or "") for token in tokens]


def _printable() -> list[str]:
    """The character by which byte-level models write each byte.

    Printable bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]
