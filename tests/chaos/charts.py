"""Drawings for the report: SVG as text, with nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 1200
LEFT = 90
RIGHT = 10
POINTS_MAX = 1_500
"""More are drawn as fewer: a screen has no more columns."""
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a drawing shows, in ns."""

    since_ns: int
    until_ns: int

    def x(self, at_ns: float) -> float:
        """Where a moment is."""
        share = (at_ns - self.since_ns) / max(1, self.until_ns - self.since_ns)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that lasted: in a row of its own name."""

    row: str
    since_ns: int
    until_ns: int
    title: str
    colour: str = COLOURS[0]


def svg(height: float, parts: Iterable[str], title: str) -> str:
    """A drawing."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    """A rectangle that says what it is when one points at it."""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
        f'fill="{colour}">{inner}</rect>'
    )


def shades(span: Span, bars: Iterable[Bar], height: float) -> list[str]:
    """The times of faults behind a curve."""
    return [
        rectangle(
            span.x(bar.since_ns),
            0,
            span.x(bar.until_ns) - span.x(bar.since_ns),
            height,
            "#f4d9d9",
            bar.title,
        )
        for bar in bars
    ]


def rows(span: Span, bars: Sequence[Bar], row_height: float = 14) -> tuple[list[str], float]:
    """Bars in rows, named at the left; returns the parts and the height."""
    names = list(dict.fromkeys(bar.row for bar in bars))
    parts = []
    for at, name in enumerate(names):
        parts.append(text(LEFT - 6, (at + 1) * row_height - 3, name, "end"))
        parts += [
            rectangle(
                span.x(bar.since_ns),
                at * row_height + 1,
                span.x(bar.until_ns) - span.x(bar.since_ns),
                row_height - 3,
                bar.colour,
                bar.title,
            )
            for bar in bars
            if bar.row == name
        ]
    return parts, len(names) * row_height


def shifted(parts: Iterable[str], y: float) -> str:
    """Parts further down."""
    return f'<g transform="translate(0 {y:.1f})">{"".join(parts)}</g>'


def clock(span: Span, y: float) -> list[str]:
    """Seconds along the bottom."""
    seconds = (span.until_ns - span.since_ns) / 1e9
    step = nice(seconds / 10)
    return [
        text(span.x(span.since_ns + int(n * step * 1e9)), y, f"{n * step:g} s", "middle")
        for n in range(int(seconds / step) + 1)
    ]


def nice(value: float) -> float:
    """1, 2 or 5 times a power of ten, not below the value."""
    power: float = 10 ** math.floor(math.log10(max(value, 1e-9)))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= value * 0.999)


def curve(
    span: Span, points: Sequence[tuple[int, float]], height: float, top: float, colour: str
) -> str:
    """A line; `top` is the value at the upper edge."""
    shown = thinned(points)
    path = " ".join(
        f"{span.x(at):.1f},{height * (1 - min(value / top, 1)):.1f}" for at, value in shown
    )
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1"/>'


def thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """No more than fit: the highest of each few, so that no peak is lost."""
    size = math.ceil(len(points) / POINTS_MAX) or 1
    return [
        max(points[at : at + size], key=lambda point: point[1])
        for at in range(0, len(points), size)
    ]


def scale(height: float, top: float, unit: str, *, logarithmic: bool = False) -> list[str]:
    """What the heights mean: four lines, or one for each power of ten."""
    if logarithmic:
        marks = [(n / top, f"{10**n:g} {unit}") for n in range(int(top) + 1)]
    else:
        marks = [(n / 4, f"{top * n / 4:g} {unit}") for n in range(5)]
    parts = []
    for share, words in marks:
        y = height * (1 - share)
        parts.append(text(LEFT - 6, y + 4, words, "end"))
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
        )
    return parts
