"""Parameters of the finetune stage: reinforcement learning from the pretrained model."""

from typing import Literal

from pydantic import ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.reward import RewardConfig
from rlseq2seq.config.training import (
    Count,
    CoverageConfig,
    Fraction,
    OptimizerConfig,
    Positive,
    Seed,
    ValidationConfig,
)


@dataclass(frozen=True, config=STRICT)
class FinetuneConfig:
    seed: Seed
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

    @field_validator("samples")
    @classmethod
    def _leave_one_out_needs_another(cls, samples: int, others: ValidationInfo) -> int:
        if others.data.get("method") == "rloo" and samples < 2:
            raise ValueError("must be 2 or more, as rloo compares each sample with the others")
        return samples
