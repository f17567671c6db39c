"""Numbers that change while training: how often a model reads its own outputs, how sharply, how much it is rewarded."""

import math

from rlseq2seq.config.training import ScheduleConfig

# What `exponential` and `inverse_sigmoid` have left to go after ``steps`` steps.
_LEFT = 0.01


def scheduled(config: ScheduleConfig, step: int) -> float:
    """The value at ``step``, from 0: from ``start`` towards ``end``.

    ``constant`` stays at the start and ``step`` jumps to the end at ``steps``; the others are those of Bengio et al.
    2015 (arXiv:1506.03099, section 2.4), by what share of the way is left: ``linear`` 1 - i / steps, ``exponential``
    k^i, ``inverse_sigmoid`` k / (k + exp(i / k)). ``linear`` arrives at ``steps``; of the other two, k is such that a
    hundredth is left there.
    """
    match config.schedule:
        case "constant":
            left = 1.0
        case "step":
            left = float(step < config.steps)
        case "linear":
            left = max(0.0, 1 - step / config.steps)
        case "exponential":
            left = _LEFT ** (step / config.steps)
        case "inverse_sigmoid":
            left = _inverse_sigmoid(step, _sigmoid_scale(config.steps))
    return config.end + (config.start - config.end) * left


def _inverse_sigmoid(step: float, k: float) -> float:
    # k / (k + exp(i / k)), without the overflow.
    return 1 / (1 + math.exp(min(step / k - math.log(k), 700.0)))


def _sigmoid_scale(steps: int) -> float:
    """k with `_LEFT` left after ``steps``, by bisection: what is left grows with k."""
    low, high = 1e-3, float(max(steps, 2))
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _inverse_sigmoid(steps, middle) < _LEFT else (low, middle)
    return high
