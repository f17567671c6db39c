"""Draws docs/schedules.svg, the curves of every schedule: python -m docs.schedules"""

from pathlib import Path
from typing import get_args

from rlseq2seq.config.training import ScheduleConfig
from rlseq2seq.objectives.schedule import scheduled

STEPS, LAST, WIDTH, HEIGHT, LEFT, TOP = 1000, 1250, 560, 240, 60, 16
# Where the name of a curve stands (step, value), and its colour on light and on dark paper.
CURVES = {
    "constant": (1150, 0.03, "#57606a", "#9da7b1"),
    "linear": (275, 0.34, "#0550ae", "#6cb6ff"),
    "exponential": (290, 0.8, "#116329", "#57d364"),
    "inverse_sigmoid": (655, 0.17, "#953800", "#f0883e"),
    "step": (985, 0.3, "#8250df", "#c297ff"),
}


def x(step: float) -> float:
    return round(LEFT + WIDTH * step / LAST, 1)


def y(value: float) -> float:
    return round(TOP + HEIGHT * (1 - value), 1)


def colours(ink: str, grid: str, paper: int) -> str:
    curves = {name: shades[paper] for name, (_, _, *shades) in CURVES.items()}
    own = [f"path.{name} {{ stroke: {shade} }} text.{name} {{ fill: {shade} }}" for name, shade in curves.items()]
    return " ".join([f"text {{ fill: {ink} }} .grid {{ stroke: {grid} }}", *own])


def picture() -> str:
    style = [
        "text { font: 13px sans-serif } path { fill: none; stroke-width: 2 } .grid { stroke-width: 1 }",
        ".middle { text-anchor: middle } .end { text-anchor: end }",
        colours("#24292f", "#d0d7de", 0),
        f"@media (prefers-color-scheme: dark) {{ {colours('#e6edf3', '#444c56', 1)} }}",
    ]
    drawn = ["<style>", *style, "</style>"]
    for value in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(f'<path class="grid" d="M{x(0)} {y(value)}H{x(LAST)}"/>')
        drawn.append(f'<text class="end" x="{x(0) - 8}" y="{y(value) + 4}">{value:g}</text>')
    for step in range(0, LAST + 1, 250):
        drawn.append(f'<path class="grid" d="M{x(step)} {y(0)}V{y(1)}"/>')
        drawn.append(f'<text class="middle" x="{x(step)}" y="{y(0) + 20}">{step}</text>')
    for kind in get_args(ScheduleConfig.__annotations__["schedule"]):
        config = ScheduleConfig(kind, start=0.0, end=1.0, steps=STEPS)
        points = [f"{x(step)} {y(scheduled(config, step))}" for step in sorted({*range(0, LAST + 1, 10), STEPS - 1})]
        at, value, *_ = CURVES[kind]
        drawn.append(f'<path class="{kind}" d="M{"L".join(points)}"/>')
        drawn.append(f'<text class="{kind} end" x="{x(at)}" y="{y(value)}">{kind}</text>')
    drawn.append(f'<text class="middle" x="{x(LAST / 2)}" y="{y(0) + 42}">training step</text>')
    drawn.append(f'<text class="middle" transform="translate(16 {y(0.5)}) rotate(-90)">value</text>')
    size = f"{LEFT + WIDTH + 24} {TOP + HEIGHT + 52}"
    title = "<title>Schedules from start 0 to end 1 with steps 1000</title>"
    body = "\n".join([title, *drawn])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">\n{body}\n</svg>\n'


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture())
