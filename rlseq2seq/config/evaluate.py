"""Parameters of the evaluate stage."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.decoding import BeamConfig

Metric = Literal["rouge_l", "bleu", "chrf"]
Baseline = Literal["lead", "lead_3", "name", "oracle", "greedy_oracle", "source"]


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """``metric``: which one the models are compared by. ``baselines``: what stands beside them, in this order."""

    metric: Metric
    baselines: tuple[Baseline, ...]
    seed: Annotated[int, Field(ge=0)]
    bootstrap_samples: Annotated[int, Field(ge=100)]
    batch_size: Annotated[int, Field(ge=1)]
    decoding: BeamConfig

    @field_validator("baselines")
    @classmethod
    def _once_each(cls, baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
        if len(set(baselines)) < len(baselines):
            raise ValueError("must have each baseline once")
        return baselines
