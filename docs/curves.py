"""Line charts as SVG that follow the reader's light or dark paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, TOP = 560, 240, 60, 16


@dataclass(frozen=True)
class Curve:
    """``points`` (x, y); where its name stands, (x, y), and its colours on light and on dark paper."""

    points: Sequence[tuple[float, float]]
    name_at: tuple[float, float]
    colours: tuple[str, str]


@dataclass(frozen=True)
class Axes:
    """What the axes say, and the values that have a line of the grid; the chart ends at the outermost ones, or at
    ``last`` to the right."""

    x_label: str
    y_label: str
    x_lines: Sequence[float]
    y_lines: Sequence[float]
    last: float


def line_chart(title: str, curves: Mapping[str, Curve], axes: Axes) -> str:
    """The picture, as text. Names are words."""
    low, high = axes.y_lines[0], axes.y_lines[-1]

    def x(value: float) -> float:
        return round(LEFT + WIDTH * value / axes.last, 1)

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (high - value) / (high - low), 1)

    style = [
        "text { font: 13px sans-serif } path { fill: none; stroke-width: 2 } .grid { stroke-width: 1 }",
        ".middle { text-anchor: middle } .end { text-anchor: end }",
        _colours(curves, "#24292f", "#d0d7de", 0),
        f"@media (prefers-color-scheme: dark) {{ {_colours(curves, '#e6edf3', '#444c56', 1)} }}",
    ]
    drawn = [f"<title>{title}</title>", "<style>", *style, "</style>"]
    for value in axes.y_lines:
        drawn.append(f'<path class="grid" d="M{x(0)} {y(value)}H{x(axes.last)}"/>')
        drawn.append(f'<text class="end" x="{x(0) - 8}" y="{y(value) + 4}">{value:g}</text>')
    for value in axes.x_lines:
        drawn.append(f'<path class="grid" d="M{x(value)} {y(low)}V{y(high)}"/>')
        drawn.append(f'<text class="middle" x="{x(value)}" y="{y(low) + 20}">{value:g}</text>')
    for name, curve in curves.items():
        points = [f"{x(at)} {y(value)}" for at, value in curve.points]
        at, value = curve.name_at
        drawn.append(f'<path class="{name}" d="M{"L".join(points)}"/>')
        drawn.append(f'<text class="{name} end" x="{x(at)}" y="{y(value)}">{name}</text>')
    drawn.append(f'<text class="middle" x="{x(axes.last / 2)}" y="{y(low) + 42}">{axes.x_label}</text>')
    middle = y((low + high) / 2)
    drawn.append(f'<text class="middle" transform="translate(16 {middle}) rotate(-90)">{axes.y_label}</text>')
    size = f"{LEFT + WIDTH + 24} {TOP + HEIGHT + 52}"
    body = "\n".join(drawn)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">\n{body}\n</svg>\n'


def _colours(curves: Mapping[str, Curve], ink: str, grid: str, paper: int) -> str:
    shades = {name: curve.colours[paper] for name, curve in curves.items()}
    own = [f"path.{name} {{ stroke: {shade} }} text.{name} {{ fill: {shade} }}" for name, shade in shades.items()]
    return " ".join([f"text {{ fill: {ink} }} .grid {{ stroke: {grid} }}", *own])
