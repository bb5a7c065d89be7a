"""A corpus, read in pieces: a text that is at hand, or a file of any size."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

_BLOCK = 2**20  # bytes read at once
_LONGEST_LINE = 2**24  # characters after which a line is cut where it may be
_LONGEST_NAME = 4096
_FILE_NAME = re.compile(r"\S{1,200}\.[a-z][a-z0-9]{0,4}")  # no text to learn from looks so


@dataclass(frozen=True)
class Source:
    """Where a text comes from; CR LF and CR in a file are read as line feeds.

    Args:
        name: for messages.
        text: the text.
        path: the file that it is in, in UTF-8, where `text` is not it.
    """

    name: str
    text: str = ""
    path: Path | None = None

    @classmethod
    def of(cls, given: str | os.PathLike[str], name: str = "the text") -> Source:
        """A path is a file; so is a string that names one; any other string is the text itself.

        Raises:
            InputError: there is no such file, which a string that ends as file names do was to be.
            TypeError: it is neither.
        """
        if isinstance(given, os.PathLike):
            return cls._file(Path(given))
        if not isinstance(given, str):
            raise TypeError(f"{name} must be a string or a path, not {type(given).__name__}")
        one_line = 0 < len(given) <= _LONGEST_NAME and "\n" not in given
        if one_line and (_is_file(given) or _FILE_NAME.fullmatch(given)):
            return cls._file(Path(given))
        return cls(name, text=given)

    @classmethod
    def _file(cls, path: Path) -> Source:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a file")
        if not path.exists():
            raise InputError(f"{path}: there is no such file")
        return cls(str(path), path=path)

    def chunks(self) -> Iterator[str]:
        """The text in pieces that end at the end of a line, a long line's at a blank.

        Raises:
            InputError: the file is not UTF-8, or cannot be read; or the text has half a character.
        """
        pieces = self._slices() if self.path is None else _line_ends(self._decoded(self.path))
        yield from _whole_lines(pieces)

    def read(self) -> str:
        """The whole text.

        Raises:
            InputError: as `chunks`; or there is none.
        """
        text = "".join(self.chunks())
        if not text:
            raise InputError(f"{self.name} is empty")
        return text

    def _slices(self) -> Iterator[str]:
        for begin in range(0, len(self.text), _BLOCK):
            piece = self.text[begin : begin + _BLOCK]
            try:
                piece.encode()
            except UnicodeEncodeError as error:
                place = begin + error.start
                raise InputError(
                    f"{self.name} has U+{ord(self.text[place]):04X} at character {place + 1}, half "
                    "a surrogate pair, which is no character"
                ) from None
            yield piece

    def _decoded(self, path: Path) -> Iterator[str]:
        decoder, done, begun = codecs.getincrementaldecoder("utf-8")(), 0, False
        try:
            with open(path, "rb") as file:
                while True:
                    block = file.read(_BLOCK)
                    held = len(decoder.getstate()[0])
                    text = self._decode(decoder, block, done - held)
                    yield text if begun else text.removeprefix("\ufeff")
                    begun = begun or bool(text)
                    done += len(block)
                    if not block:
                        return
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror}") from None

    def _decode(self, decoder: codecs.IncrementalDecoder, block: bytes, begin: int) -> str:
        """Text of the next block; `begin` is the offset of the first byte not yet decoded."""
        try:
            return decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name} is not UTF-8 text: byte {begin + error.start} is "
                f"0x{error.object[error.start]:02x}; save it as UTF-8"
            ) from None


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _line_ends(pieces: Iterator[str]) -> Iterator[str]:
    """The same text with line feeds for CR LF and CR, as Python reads files."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode("", final=True)


def _whole_lines(pieces: Iterator[str]) -> Iterator[str]:
    """The same text, cut where a line ends.

    A cut there changes neither tokens nor normal forms: no mark joins a line's end.
    """
    held: list[str] = []
    size = 0
    for piece in pieces:
        cut = piece.rfind("\n") + 1
        if not cut and size + len(piece) > _LONGEST_LINE:
            cut = max(piece.rfind(" "), 0) or len(piece)
        if cut:
            yield "".join(held) + piece[:cut]
            held, size = [], 0
        held.append(piece[cut:])
        size += len(piece) - cut
    if size:
        yield "".join(held)
