"""Text brought into one spelling before it is cut into tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from ..errors import InputError

# Letters that Arabic keyboards give in place of Persian ones. The zero-width non-joiner, which
# parts the halves of Persian words, stays.
_PERSIAN = str.maketrans({"\u064a": "\u06cc", "\u0649": "\u06cc", "\u0643": "\u06a9"})


def _as_it_is(text: str) -> str:
    return text


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _persian(text: str) -> str:
    return _nfc(text).translate(_PERSIAN)


_NORMALIZERS: dict[str | None, Callable[[str], str]] = {
    None: _as_it_is,
    "nfc": _nfc,
    "persian": _persian,
}
NORMALIZATIONS = tuple(_NORMALIZERS)


def normalizer(name: str | None) -> Callable[[str], str]:
    """The function of that name: None, "nfc" (composed characters) or "persian" (and ی, ک).

    >>> normalizer("persian")("ي") == "ی"
    True

    Raises:
        InputError: there is no such normalisation.
    """
    if name not in _NORMALIZERS:
        raise InputError(f"normalize must be None, 'nfc' or 'persian', got {name!r}")
    return _NORMALIZERS[name]
