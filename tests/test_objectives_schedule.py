import math
from typing import Any

import pytest

from rlseq2seq.config.training import ScheduleConfig
from rlseq2seq.objectives.schedule import scheduled

KINDS = ["linear", "exponential", "inverse_sigmoid", "step"]


def at(step: int, schedule: Any, start: float = 0.0, end: float = 1.0, steps: int = 1000) -> float:
    return scheduled(ScheduleConfig(schedule, start, end, steps), step)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 10**9, 0.0),
        ("linear", 250, 0.25),
        ("linear", 5000, 1.0),
        ("exponential", 0, 0.0),
        ("exponential", 500, 0.9),
        ("exponential", 1000, 0.99),
        ("inverse_sigmoid", 1000, 0.99),
        ("step", 999, 0.0),
        ("step", 1000, 1.0),
    ],
)
def test_values_by_hand(schedule: str, step: int, expected: float) -> None:
    assert at(step, schedule) == pytest.approx(expected)


def test_inverse_sigmoid_is_the_paper_s() -> None:
    # Bengio et al. 2015: k / (k + exp(i / k)); where k is 100, a hundredth is left after 100 ln(99 * 100) steps.
    steps = round(100 * math.log(9900))
    for step in (0, 200, 500, 900):
        left = 100 / (100 + math.exp(step / 100))
        assert 1 - at(step, "inverse_sigmoid", steps=steps) == pytest.approx(left, abs=1e-3)


@pytest.mark.parametrize("schedule", KINDS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.25), (1.0, 0.1)])
@pytest.mark.parametrize("steps", [1, 7, 1000, 10**6])
def test_every_schedule_goes_from_start_to_end_and_never_back(
    schedule: str, start: float, end: float, steps: int
) -> None:
    places = sorted({0, *(steps * i // 20 for i in range(1, 40)), 100 * steps, 10**9})
    values = [at(step, schedule, start, end, steps) for step in places]
    assert values == sorted(values, reverse=start > end)
    assert values[-1] == pytest.approx(end)
    if steps >= 1000:
        assert values[0] == pytest.approx(start, abs=0.01)
