"""Where words begin and end."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

# Written before a token that follows the one before it without a blank.
JOINER = "\u2060"
# Inside words: the zero-width (non-)joiners, apostrophes.
_INSIDE = "\u200c\u200d'\u2019"


def cut(text: str) -> Iterator[str]:
    """The words of a text that begins a line."""
    fresh = True  # at the beginning of a line
    for piece in _pattern().findall(text):
        if piece.isspace():
            yield piece
            fresh = piece == "\n"
        elif piece[0] == " ":
            yield piece[1:]
            fresh = False
        else:
            yield piece if fresh else JOINER + piece
            fresh = False


class WordDecoder:
    """The text of words, with the blanks between them."""

    def __init__(self, words: list[str]):
        self.words = words
        self.fresh = True

    def feed(self, token: int) -> str:
        """One more word."""
        word, fresh = self.words[token], self.fresh
        self.fresh = word == "\n"
        if len(word) > 1 and word[0] == JOINER:
            return word[1:]
        return word if fresh or word.isspace() else " " + word

    def end(self) -> str:
        """Nothing is held back."""
        return ""


@cache
def _pattern() -> re.Pattern[str]:
    """A word or a mark with the blank before it, or a blank by itself.

    A line's first blank is not that of the word after it, which implies none there.
    """
    word = rf"[\w{_marks()}]+(?:[{_INSIDE}]+[\w{_marks()}]+)*"
    return re.compile(rf"^ | ?(?:{word}|[^\w\s])|\s", re.MULTILINE)


@cache
def _marks() -> str:
    """Accents, vowel signs and other marks, which belong to words but are no letters to `re`."""
    found = [
        code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"
    ]
    ranges, begin = [], found[0]
    for code, following in zip(found, [*found[1:], -1], strict=True):
        if following != code + 1:
            ranges.append(f"{chr(begin)}-{chr(code)}")
            begin = following
    return "".join(ranges)
