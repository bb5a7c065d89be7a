"""A minimal pair: a sentence up to its verb, and the verb in either number."""

from __future__ import annotations

from dataclasses import dataclass

_LETTERS = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "ۀ": "هٔ"})
_JOINING = "\u200c\u0654\u0651\u064b"  # half-space; hamza of the ezafe, doubling, tanwin
_CLOSED = {"دانش آموز": "دانش\u200cآموز"}  # often typed open; the grammar writes it closed


@dataclass(frozen=True)
class Pair:
    """A sentence up to its verb, with the verb in the subject's number and in the other.

    Args:
        words: all that stands before the verb.
        good: the verb that agrees with the subject.
        bad: the same verb in the other number.
        number: the subject's, "singular" or "plural".
        subject: where the subject's noun stands in `words`.
        attractors: nouns of the other number between subject and verb.
        relative: the subject's relative clause: "none", "subject", "object" or "conflicting".
    """

    words: tuple[str, ...]
    good: str
    bad: str
    number: str
    subject: int
    attractors: int
    relative: str = "none"

    @property
    def distance(self) -> int:
        """Words from the subject's noun to the verb; one where they are neighbours."""
        return len(self.words) - self.subject

    @property
    def right(self) -> str:
        """The sentence with the verb that agrees."""
        return " ".join((*self.words, self.good))

    @property
    def wrong(self) -> str:
        """The sentence with the verb that does not."""
        return " ".join((*self.words, self.bad))


def tokenize(text: str) -> list[str]:
    """Words of a Persian text as the grammar spells them: Persian ی and ک, half-spaces, no stops.

    Example:
        >>> len(tokenize("دانش آموزان، به خانه رفتند."))
        4
    """
    text = text.translate(_LETTERS)
    for typed, closed in _CLOSED.items():
        text = text.replace(typed, closed)
    return "".join(c if c.isalnum() or c in _JOINING else " " for c in text).split()
