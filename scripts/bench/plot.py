"""A plot over time as one SVG file: lines on a logarithmic scale, with shaded spans.

Enough to see what an attack does to a latency, and nothing more; no library is worth its weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 40
COLOURS = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e6c1f")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and (seconds, value) pairs; values above zero."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Span:
    """A shaded span from one second to another, and what happened in it."""

    name: str
    begins_s: float
    ends_s: float


def plot(path: Path, title: str, unit: str, lines: Sequence[Line], spans: Sequence[Span]) -> None:
    """Write the plot.

    Args:
        unit: of the values.

    Raises:
        ValueError: there is nothing to plot.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a plot without points")
    scale = _Scale(points)
    parts = [_text(LEFT, 20, title, size=15)]
    parts += [_shade(scale, span) for span in spans]
    parts += _grid(scale, unit)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        at = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{at}"/>')
        parts.append(_text(WIDTH - 200, 20 + 14 * number, line.name, colour=colour))
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


class _Scale:
    """From seconds and values to places: linear, and by decades."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self.seconds = max(x for x, _ in points) or 1.0
        values = [y for _, y in points if y > 0]
        self.decades = range(
            math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1
        )

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.decades[0], max(self.decades[-1], self.decades[0] + 1)
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _grid(scale: _Scale, unit: str) -> list[str]:
    parts: list[str] = []
    for decade in scale.decades:
        y = scale.y(10.0**decade)
        parts.append(f'<path stroke="#ddd" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(8, y + 4, f"{10.0**decade:g} {unit}"))
    step = max(1, round(scale.seconds / 10))
    seconds = range(0, math.floor(scale.seconds) + 1, step)
    return parts + [_text(scale.x(at) - 6, HEIGHT - 18, f"{at} s") for at in seconds]


def _shade(scale: _Scale, span: Span) -> str:
    x = scale.x(span.begins_s)
    width = scale.x(span.ends_s) - x
    box = f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'{box} fill="#f6e3df"/>' + _text(x + 4, TOP + 14, span.name, colour="#884a40")


def _text(x: float, y: float, text: str, *, size: int = 12, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
