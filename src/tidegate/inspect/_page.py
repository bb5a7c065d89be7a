"""The page: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from .. import __version__

_QUOTED = re.compile(r"&#x27;[^&]*[\u0590-\u08ff][^&]*&#x27;")
_NUMBER = re.compile(r"[<+×−-]?\d[\d.,e-]*( m| bn|%)?|—|inf|nan|")
# Nothing is fetched, from anywhere: the browser is told so.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A heading, what the reader is shown below it in a sentence, and the figures."""

    title: str
    lead: str
    body: str


def page(title: str, head: str, sections: Sequence[Section], data: dict[str, Any] | None) -> str:
    """The whole page.

    Args:
        title: the model in one line.
        head: what stands below the title.
        sections: in their order; those without a body are left out.
        data: what the script draws the heat map from.
    """
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    body = "".join(_section(section) for section in sections if section.body)
    gates = (
        "" if data is None else f'<script type="application/json" id="gates">{_json(data)}</script>'
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<main>\n<header><p class="eyebrow">Gate report</p><h1>{escape(title)}</h1>{head}</header>'
        f"{body}\n<footer>Made by Tidegate {__version__}. This file holds all that it shows; "
        f"nothing is fetched.</footer>\n</main>\n{gates}\n<script>{script}</script>\n</body>\n"
        "</html>\n"
    )


def figure(chart: str, caption: str, table: str = "") -> str:
    """A chart with its caption, and its numbers to unfold."""
    said = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{chart}{said}{unfold(table) if table else ''}</figure>"


def unfold(table: str) -> str:
    """A table behind a line that opens it."""
    inside = f'<div class="wide" tabindex="0">{table}</div>'
    return f"<details><summary>The numbers</summary>{inside}</details>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """A table; columns of numbers stand to the right."""
    kinds = [
        ' class="n"' if all(_NUMBER.fullmatch(cell) for cell in column) else ""
        for column in zip(*rows, strict=True)
    ] or [""] * len(heads)
    top = "".join(
        f'<th scope="col"{kind}>{escape(head)}</th>'
        for head, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td dir="auto"{kind}>{escape(cell)}</td>'
            for cell, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table aria-label="{escape(label, quote=True)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def isolated(text: str) -> str:
    """Escaped; a quoted word that runs from right to left does not turn what stands beside it."""
    return _QUOTED.sub(r"<bdi>\g<0></bdi>", escape(text))


def titled(text: str) -> str:
    """With a capital at its head."""
    return text[:1].upper() + text[1:]


def _section(section: Section) -> str:
    lead = f'<p class="lead">{section.lead}</p>' if section.lead else ""
    return f"\n<section><h2>{escape(section.title)}</h2>{lead}{section.body}</section>"


def _asset(name: str) -> str:
    return (files("tidegate.inspect") / "page" / name).read_text("utf-8").strip()


def _json(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
