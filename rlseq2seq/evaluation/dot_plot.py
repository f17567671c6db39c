"""A dot plot as SVG, drawn by hand: a row a name, a dot a value, for light and dark pages."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from statistics import mean

_LABELS, _WIDTH, _ROW, _MARGIN = 170, 520, 26, 36

_STYLE = """\
text { font: 13px sans-serif; fill: #1f2328 } .tick { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0 } .zero { stroke: #59636e; stroke-width: 1.5 } .mean { stroke: #1f2328; stroke-width: 2 }
.dot { fill: none; stroke: #0969da; stroke-width: 1.5 } .sure { fill: #0969da }
@media (prefers-color-scheme: dark) {
text, .tick { fill: #e6edf3 } .grid { stroke: #3d444d } .zero { stroke: #9198a1 } .mean { stroke: #e6edf3 }
.dot { stroke: #4493f8 } .sure { fill: #4493f8 } }"""


def dot_plot(values: Mapping[str, Sequence[tuple[float, bool]]], title: str) -> str:
    """An SVG picture, whose background is the page's.

    Args:
        values: by name of the row, in order from the top: its values, each with whether its dot is filled.
        title: below the axis. A vertical line marks 0, a tick the mean of each row.

    Raises:
        ValueError: there is no value.
    """
    everything = [value for row in values.values() for value, _ in row]
    if not everything:
        raise ValueError("a plot needs a value")
    step, first, last = _ticks(min(0.0, *everything), max(0.0, *everything))
    height = _ROW * len(values)

    def x(value: float) -> str:
        return f"{_LABELS + _WIDTH * (value - first * step) / ((last - first) * step):.1f}"

    parts = []
    for tick in range(first, last + 1):
        line = "zero" if tick == 0 else "grid"
        at = x(tick * step)
        parts.append(f'<path class="{line}" d="M{at} 8V{height + 8}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{height + 24}" text-anchor="middle">{tick * step:+.5g}</text>')
    for place, (name, row) in enumerate(values.items()):
        y = 8 + _ROW * place + _ROW // 2
        parts.append(f'<text x="{_LABELS - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        if row:
            parts.append(f'<path class="mean" d="M{x(mean(value for value, _ in row))} {y - 8}v16"/>')
        for value, sure in row:
            parts.append(f'<circle class="dot{" sure" if sure else ""}" cx="{x(value)}" cy="{y}" r="4.5"/>')
    middle = _LABELS + _WIDTH // 2
    parts.append(f'<text x="{middle}" y="{height + 46}" text-anchor="middle">{escape(title)}</text>')
    size = f"{_LABELS + _WIDTH + _MARGIN} {height + 60}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">\n<style>\n{_STYLE}\n</style>'
    return "\n".join([head, *parts, "</svg>\n"])


def _ticks(low: float, high: float) -> tuple[float, int, int]:
    """A round step, and of which multiples of it the axis goes from and to: three or more, which enclose both ends."""
    rough = max(high - low, 1e-9) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    return step, floor(low / step - 1e-9), ceil(high / step + 1e-9)
