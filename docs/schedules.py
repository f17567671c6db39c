"""Draws docs/schedules.svg, the curves of every schedule: python -m docs.schedules"""

from pathlib import Path
from typing import get_args

from docs.curves import Axes, Curve, line_chart
from rlseq2seq.config.training import ScheduleConfig
from rlseq2seq.objectives.schedule import scheduled

STEPS, LAST = 1000, 1250
# Where the name of a curve stands (step, value), and its colour on light and on dark paper.
LOOKS = {
    "constant": ((1150, 0.03), ("#57606a", "#9da7b1")),
    "linear": ((275, 0.34), ("#0550ae", "#6cb6ff")),
    "exponential": ((290, 0.8), ("#116329", "#57d364")),
    "inverse_sigmoid": ((655, 0.17), ("#953800", "#f0883e")),
    "step": ((985, 0.3), ("#8250df", "#c297ff")),
}


def curve(kind: str) -> Curve:
    config = ScheduleConfig(kind, start=0.0, end=1.0, steps=STEPS)  # type: ignore[arg-type]
    steps = sorted({*range(0, LAST + 1, 10), STEPS - 1})
    return Curve([(step, scheduled(config, step)) for step in steps], *LOOKS[kind])


def picture() -> str:
    curves = {kind: curve(kind) for kind in get_args(ScheduleConfig.__annotations__["schedule"])}
    axes = Axes("training step", "value", range(0, LAST + 1, 250), (0, 0.25, 0.5, 0.75, 1), LAST)
    return line_chart("Schedules from start 0 to end 1 with steps 1000", curves, axes)


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture())
