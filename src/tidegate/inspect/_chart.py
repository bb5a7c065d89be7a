"""Charts that fit a phone and a desk, light and dark: a drawing that stretches under still text.

The curves are an SVG of 1000 by 1000 that takes whatever room there is; strokes keep their width,
and labels are text of the page, placed in percent. Colours are the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_SIZE = 1000
# Points beyond so many are seen by nobody.
_POINTS = 400


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points, and how it is drawn.

    Attributes:
        name: for the legend; an empty one has no place there.
        x: where, in rising order.
        y: how high; a NaN is a gap.
        look: a class of the page's style: "main", "second", "third", "fourth", "quiet", "truth".
        low: lower edge of a band around it.
        high: upper edge.
        dots: also a dot at each point.
        alone: dots only.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    look: str = "main"
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis: what is on it, and from where to where; or names at whole numbers."""

    title: str
    log: bool = False
    names: Sequence[str] | None = None
    low: float | None = None
    high: float | None = None
    percent: bool = False


def line_chart(
    lines: Sequence[Line], x: Axis, y: Axis, says: str, marks: Sequence[float] = ()
) -> str:
    """Curves over one axis, with a legend above.

    Args:
        lines: at least one.
        x: the horizontal axis.
        y: the vertical axis.
        says: what the chart shows, for those who do not see it.
        marks: places on the horizontal axis with a line.
    """
    across = _scale(x, [line.x for line in lines])
    up = _Scale(
        y,
        [a for line in lines for a in (line.y, line.low, line.high) if a is not None],
        upward=True,
    )
    drawn = [_grid(up), *(_vertical(across(np.array([mark]))[0]) for mark in marks)]
    for line in lines:
        drawn += _draw(line, across, up)
    return _framed("".join(drawn), lines, x, y, across, up, says)


def bars_over_steps(values: np.ndarray, names: Sequence[str], title: str, says: str) -> str:
    """A bar for each step, up or down from zero."""
    values = np.nan_to_num(values)
    x = Axis("", names=names, low=-0.5, high=len(values) - 0.5)
    edge = float(np.abs(values).max(initial=0.0)) or 1.0
    y = Axis(
        title, low=min(float(values.min(initial=0.0)), 0.0), high=max(values.max(initial=0.0), 0)
    )
    if y.low == y.high:
        y = Axis(title, low=0.0, high=edge)
    across, up = _scale(x, [values]), _Scale(y, [values], upward=True)
    zero, width = up(np.zeros(1))[0], 0.8 * _SIZE / max(len(values), 1)
    drawn = [_grid(up)]
    for place, value in zip(across(np.arange(len(values))), values, strict=True):
        top = up(np.array([value]))[0]
        drawn.append(
            f'<rect class="{"main" if value >= 0 else "against"}" x="{place - width / 2:.1f}" '
            f'y="{min(top, zero):.1f}" width="{width:.1f}" height="{abs(top - zero):.1f}"/>'
        )
    return _framed("".join(drawn), (), x, y, across, up, says)


def _draw(line: Line, across: _Scale, up: _Scale) -> list[str]:
    which = _thinned(len(line.x))
    x = across(np.asarray(line.x, float)[which])
    drawn = []
    if line.low is not None and line.high is not None:
        edge = np.concatenate([up(line.low[which]), up(line.high[which])[::-1]])
        there = np.concatenate([x, x[::-1]])
        keep = np.isfinite(edge)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(there[keep], edge[keep], strict=True))
        drawn.append(f'<polygon class="{line.look}" points="{points}"/>')
    y = up(np.asarray(line.y, float)[which])
    if not line.alone:
        drawn.append(f'<path class="{line.look}" d="{_path(x, y)}"/>')
    if line.dots or line.alone:
        # A line of no length with round ends is a dot that does not stretch.
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True) if math.isfinite(b))
        drawn.append(f'<path class="{line.look} dot" d="{dots}"/>')
    return drawn


def _path(x: np.ndarray, y: np.ndarray) -> str:
    parts, on = [], False
    for a, b in zip(x, y, strict=True):
        if not math.isfinite(b):
            on = False
            continue
        parts.append(f"{'L' if on else 'M'}{a:.1f} {b:.1f}")
        on = True
    return "".join(parts)


def _thinned(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))


class _Scale:
    """From values to places, and the ticks between."""

    def __init__(self, axis: Axis, values: Sequence[np.ndarray], upward: bool):
        known = np.concatenate([np.ravel(np.asarray(v, float)) for v in values] or [np.zeros(1)])
        known = known[np.isfinite(known) & ((known > 0) | (not axis.log))]
        low = float(known.min(initial=np.inf)) if axis.low is None else axis.low
        high = float(known.max(initial=-np.inf)) if axis.high is None else axis.high
        if not math.isfinite(low) or not math.isfinite(high):
            low, high = (0.1, 1.0) if axis.log else (0.0, 1.0)
        if axis.log:
            self.low, self.high = math.log10(low), math.log10(high)
        else:
            room = 0.04 * (high - low) if upward else 0.0
            self.low = low - (room if axis.low is None else 0)
            self.high = high + (room if axis.high is None else 0)
        if self.high - self.low < 1e-12:
            self.low, self.high = self.low - 0.5, self.high + 0.5
        self.axis, self.upward = axis, upward

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, float)
        if self.axis.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log10(values)
        share = np.clip((values - self.low) / (self.high - self.low), -0.02, 1.02)
        return _SIZE * ((1 - share) if self.upward else share)

    def ticks(self) -> list[tuple[float, str]]:
        """Places in percent, and what is written there."""
        if self.axis.names is not None:
            return self._named()
        if self.axis.log:
            chosen = _round_powers(self.low, self.high)
        else:
            chosen = _round_numbers(self.low, self.high)
        if self.axis.log:
            said = [(percent if self.axis.percent else number)(tick) for tick in chosen]
        elif self.axis.percent:
            said = [f"{text}%" for text in _alike([100 * tick for tick in chosen])]
        else:
            said = _alike(chosen)
        places = self(np.array(chosen)) / 10
        return [(float(p), text) for p, text in zip(places, said, strict=True)]

    def _named(self) -> list[tuple[float, str]]:
        names = list(self.axis.names or ())
        longest = max((len(name) for name in names), default=1)
        most = 8 if longest < 5 else 5 if longest < 9 else 3
        chosen = np.unique(
            np.linspace(0, len(names) - 1, min(len(names), most)).round().astype(int)
        )
        return [(float(self(np.array([i]))[0]) / 10, names[i]) for i in chosen if names[i]]


def _scale(axis: Axis, values: Sequence[np.ndarray]) -> _Scale:
    return _Scale(axis, values, upward=False)


def _round_powers(low: float, high: float) -> list[float]:
    """Powers of ten between two exponents; 1, 2 and 5 times them where there are few."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if last - first >= 2:
        return [10.0**power for power in range(first, last + 1, (last - first + 4) // 5)]
    between = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
    inside = [value for value in between if low - 1e-9 <= math.log10(value) <= high + 1e-9]
    return inside if len(inside) > 1 else [10**low, 10**high]


def _round_numbers(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - rough))
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _alike(ticks: Sequence[float]) -> list[str]:
    """Numbers of one scale, each with as many digits behind the point."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else 0.0
    if not 1e-5 <= step < 1e5:
        return [number(tick) for tick in ticks]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [minus(f"{tick:,.{digits}f}") if abs(tick) > step / 2 else "0" for tick in ticks]


def number(value: float) -> str:
    """A number as short as it can be read.

    Example:
        >>> [number(v) for v in (0.0, 0.001, 12.5, 1200000.0, -1e-7)]
        ['0', '0.001', '12.5', '1.2 m', '−1e−7']
    """
    size = abs(value)
    if size < 1e-12:
        return "0"
    for unit, word in ((1e9, " bn"), (1e6, " m")):
        if size >= unit:
            return minus(f"{value / unit:.3g}{word}")
    if size < 1e-3 * 0.999:
        mantissa, power = f"{value:.0e}".split("e")
        return minus(f"{mantissa}e{int(power)}")
    if size >= 1000:
        return minus(f"{value:,.0f}")
    return minus(f"{value:.3g}")


def minus(text: str) -> str:
    """A number as Python writes it, with the sign that is as wide as a plus."""
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.6234), percent(0.0042), percent(0.00001)
        ('62%', '0.4%', '<0.1%')
    """
    if share >= 0.01 or share == 0:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def _grid(up: _Scale) -> str:
    return "".join(
        f'<path class="grid" d="M0 {10 * place:.1f}H{_SIZE}"/>' for place, _ in up.ticks()
    )


def _vertical(place: float) -> str:
    return f'<path class="mark" d="M{place:.1f} 0V{_SIZE}"/>'


def _framed(
    drawn: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    across: _Scale,
    up: _Scale,
    says: str,
) -> str:
    legend = "".join(
        f'<span class="key {line.look}{" alone" if line.alone else ""}">{escape(line.name)}</span>'
        for line in lines
        if line.name
    )
    ticks = up.ticks()
    rows = "".join(f'<span style="top:{p:.2f}%">{escape(t)}</span>' for p, t in ticks)
    left = 0.48 * max((len(text) for _, text in ticks), default=1) + 0.7  # rem
    columns = "".join(
        f'<span style="left:{p:.2f}%" class="{_side(p)}" dir="auto">{escape(t)}</span>'
        for p, t in across.ticks()
    )
    return (
        (f'<div class="legend" aria-hidden="true">{legend}</div>' if legend else "")
        + f'<div class="chart" role="img" style="--left:{max(left, 2.2):.2f}rem" '
        + f'aria-label="{escape(says, quote=True)}">'
        + f'<div class="above">{escape(y.title)}</div><div class="rows">{rows}</div>'
        + f'<svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" aria-hidden="true">'
        + f'{drawn}</svg><div class="columns">{columns}</div>'
        + (f'<div class="below">{escape(x.title)}</div>' if x.title else "")
        + "</div>"
    )


def _side(place: float) -> str:
    """Labels at the edges stay inside."""
    return "first" if place < 4 else "last" if place > 96 else ""
