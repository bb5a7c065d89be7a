"""Drawings for the guide: a few shapes, in a file that reads well by day and by night."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

STYLE = """
text{font:14px system-ui,"Vazirmatn","Noto Sans Arabic","Noto Naskh Arabic",Tahoma,sans-serif;
fill:#24292f}
.s{font-size:12px}.m{fill:#57606a}.b{font-weight:600}
.a{stroke:#8c959f;stroke-width:1;fill:none}.g{stroke:#d8dee4;stroke-width:1;fill:none}
.l{stroke-width:2.5;fill:none;stroke-linejoin:round}
.box{fill:#f6f8fa;stroke:#8c959f}
.s0{stroke:#c2410c}.s1{stroke:#0f766e}.s2{stroke:#1d4ed8}.s3{stroke:#7e22ce}
.f0{fill:#c2410c}.f1{fill:#0f766e}.f2{fill:#1d4ed8}.f3{fill:#7e22ce}.w{fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.m{fill:#9da7b3}.a{stroke:#6e7681}
.g{stroke:#373e47}
.box{fill:#2d333b;stroke:#6e7681}
.s0{stroke:#fb923c}.s1{stroke:#2dd4bf}.s2{stroke:#7cb0ff}.s3{stroke:#d8a4ff}
.f0{fill:#fb923c}.f1{fill:#2dd4bf}.f2{fill:#7cb0ff}.f3{fill:#d8a4ff}.w{fill:#111}}
""".replace("\n", "")
_PERSIAN = str.maketrans("0123456789.%", "۰۱۲۳۴۵۶۷۸۹٫٪")
_EXPONENTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Drawing:
    """Shapes in the order in which they are drawn."""

    def __init__(self, width: float, height: float, language: str = "en"):
        self.width, self.height, self.language = width, height, language
        self.parts: list[str] = []

    def digits(self, text: object) -> str:
        """A number in the digits of the language."""
        text = str(text).replace("-", "−")
        return text.translate(_PERSIAN) if self.language == "fa" else text

    def text(self, x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> None:
        kind = f' class="{kind}"' if kind else ""
        if any("آ" <= letter <= "ی" for letter in text):
            text = f"\u202b{text}\u202c"  # read from the right, whatever it begins with
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'
        )

    def path(self, points: Sequence[tuple[float, float]], kind: str, end: str = "") -> None:
        route = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        end = f' marker-end="url(#{end})"' if end else ""
        self.parts.append(f'<path class="{kind}" d="M{route}"{end}/>')

    def arrow(self, *points: tuple[float, float]) -> None:
        self.path(points, "a", "arrow")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        kind: str = "box",
        round: float = 4,
        opacity: float = 1.0,
    ) -> None:
        shade = "" if opacity == 1 else f' opacity="{opacity:.2f}"'
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="{round}"{shade}/>'
        )

    def label(
        self, x: float, y: float, width: float, height: float, text: str, kind: str = ""
    ) -> None:
        """A box with a word in its middle."""
        self.box(x, y, width, height)
        self.text(x + width / 2, y + height / 2 + 5, text, kind=kind)

    def save(self, path: Path) -> None:
        arrow = (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="m" d="M0 0L8 4L0 8z"/></marker></defs>'
        )
        body = "\n".join(self.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} '
            f'{self.height:g}" lang="{self.language}"><style>{STYLE}</style>{arrow}\n{body}\n'
            "</svg>\n",
            "utf-8",
        )


class Axes:
    """A frame with ticks; either axis may be logarithmic."""

    def __init__(
        self,
        drawing: Drawing,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        log_x: bool = False,
        log_y: bool = False,
        left: float = 64,
        right: float = 150,
        top: float = 34,
        bottom: float = 48,
    ):
        self.drawing, self.log = drawing, (log_x, log_y)
        self.ends = tuple(tuple(map(self._scale(axis), e)) for axis, e in enumerate((x, y)))
        self.frame = (left, drawing.width - right, drawing.height - bottom, top)

    def _scale(self, axis: int):
        return math.log10 if self.log[axis] else float

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.ends
        left, right, bottom, top = self.frame
        x, y = self._scale(0)(x), self._scale(1)(y)
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (y - y0) / (y1 - y0) * (bottom - top),
        )

    def ticks(self, x: Sequence[float], y: Sequence[float], x_name: str, y_name: str) -> None:
        left, right, bottom, top = self.frame
        draw = self.drawing
        for value in y:
            _, height = self.at(self._first(0), value)
            draw.path([(left, height), (right, height)], "g")
            draw.text(left - 6, height + 4, self._number(value, 1), "end", "s m")
        for value in x:
            place, _ = self.at(value, self._first(1))
            draw.text(place, bottom + 18, self._number(value, 0), kind="s m")
        draw.path([(left, bottom), (right, bottom)], "a")
        draw.text((left + right) / 2, draw.height - 8, x_name, kind="s")
        draw.text(left - 40, top - 18, y_name, "start", "s")

    def _first(self, axis: int) -> float:
        return 10 ** self.ends[axis][0] if self.log[axis] else self.ends[axis][0]

    def _number(self, value: float, axis: int) -> str:
        if self.log[axis] and not 0.01 <= value <= 1e4:
            return self.drawing.digits(10) + f"{math.log10(value):.0f}".translate(_EXPONENTS)
        return self.drawing.digits(f"{value:g}")

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        series: int,
        name: str = "",
        shift: tuple[float, float] = (8, 5),
    ) -> None:
        """A line, and its name where it ends, moved by `shift`."""
        points = [self.at(x, y) for x, y in zip(xs, ys, strict=True)]
        self.drawing.path(points, f"l s{series}")
        if name:
            x, y = points[-1]
            self.drawing.text(x + shift[0], y + shift[1], name, "start", f"s b f{series}")


def grouped_bars(
    drawing: Drawing,
    groups: Mapping[str, Sequence[float]],
    names: Sequence[str],
    top: float,
    unit: str = "",
    left: float = 20,
    decimals: int = 0,
) -> None:
    """A bar for each series in each group, with its number above it, and a legend."""
    bottom, width = drawing.height - 34, (drawing.width - 2 * left) / len(groups)
    bar = min(46.0, (width - 24) / len(names))
    for i, (group, values) in enumerate(groups.items()):
        begin = left + i * width + (width - bar * len(names)) / 2
        for j, value in enumerate(values):
            height = value / top * (bottom - 62)
            x = begin + j * bar
            drawing.box(x + 2, bottom - height, bar - 4, height, f"f{j}", round=2)
            drawing.text(
                x + bar / 2,
                bottom - height - 5,
                drawing.digits(f"{value:.{decimals}f}") + unit,
                kind="s",
            )
        drawing.text(left + (i + 0.5) * width, bottom + 20, group, kind="s b")
    drawing.path([(left, bottom), (drawing.width - left, bottom)], "a")
    step = (drawing.width - 2 * left) / len(names)
    for j, name in enumerate(names):
        drawing.box(left + j * step, 8, 12, 12, f"f{j}", round=2)
        drawing.text(left + j * step + 18, 19, name, "start", "s")
