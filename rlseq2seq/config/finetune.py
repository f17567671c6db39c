"""Parameters of the finetune stage: reinforcement learning from the pretrained model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.training import (
    Count,
    CoverageConfig,
    Fraction,
    OptimizerConfig,
    Positive,
    ValidationConfig,
)


@dataclass(frozen=True, config=STRICT)
class RewardConfig:
    """ROUGE-L of words: ``surface`` words count punctuation marks, ``rouge`` words are those of rouge-score."""

    measure: Literal["fmeasure", "recall", "precision"]
    words: Literal["surface", "rouge"]


@dataclass(frozen=True, config=STRICT)
class FinetuneConfig:
    seed: Annotated[int, Field(ge=0)]
    method: Literal["rloo", "self_critical"]
    samples: Count
    eta: Fraction
    updates: Count
    batch_size: Count
    learning_rate: Positive
    reward: RewardConfig
    optimizer: OptimizerConfig
    coverage: CoverageConfig
    validation: ValidationConfig

    @model_validator(mode="after")
    def _leave_one_out_needs_another(self) -> Self:
        if self.method == "rloo" and self.samples < 2:
            raise ValueError("rloo compares each sample with the others: it needs samples >= 2")
        return self
