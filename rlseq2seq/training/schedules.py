"""Learning rate as a function of the step."""

import math

from rlseq2seq.config.training import OptimizerConfig


def learning_rate(step: int, total: int, peak: float, config: OptimizerConfig) -> float:
    """Rate of the update ``step`` (from 0) of ``total``: linear warm-up to ``peak``, then decay to 0 at ``total``."""
    if step < config.warmup_steps:
        return peak * (step + 1) / (config.warmup_steps + 1)
    remaining = (total - step) / max(total - config.warmup_steps, 1)
    match config.decay:
        case "linear":
            return peak * remaining
        case "cosine":
            return peak * 0.5 * (1 - math.cos(math.pi * remaining))
        case _:
            return peak
