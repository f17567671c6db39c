"""Parameters of the finetune stage: reinforcement learning from the pretrained model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.critic import CriticConfig
from rlseq2seq.config.reward import RewardConfig
from rlseq2seq.config.training import (
    Count,
    CoverageConfig,
    ExposureConfig,
    NonNegative,
    OptimizerConfig,
    Positive,
    ProbabilityConfig,
    Seed,
    ValidationConfig,
)


@dataclass(frozen=True, config=STRICT)
class KlConfig:
    """``weight`` of the log-ratio to the pretrained policy; with a ``target``, in nats a sequence, it adapts."""

    weight: NonNegative
    target: Positive | None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.target is not None and not self.weight:
            raise ValueError("target adapts a weight that is above 0: set weight to one, or target to null")
        return self


@dataclass(frozen=True, config=STRICT)
class GrpoConfig:
    clip: Positive
    epochs: Count


@dataclass(frozen=True, config=STRICT)
class MrtConfig:
    sharpness: Positive
    reference: bool


@dataclass(frozen=True, config=STRICT)
class FinetuneConfig:
    seed: Seed
    method: Literal["reinforce", "self_critical", "rloo", "grpo", "mrt", "actor_critic"]
    samples: Count
    returns: Literal["sequence", "discounted", "shaped"]
    gamma: Annotated[float, Field(gt=0, le=1)]
    average: Literal["token", "sequence"]
    baseline: Literal["none", "moving_average", "learned"]
    grpo: GrpoConfig
    mrt: MrtConfig
    critic: CriticConfig
    kl: KlConfig
    entropy: NonNegative
    eta: ProbabilityConfig
    updates: Count
    batch_size: Count
    learning_rate: Positive
    reward: RewardConfig
    optimizer: OptimizerConfig
    exposure_bias: ExposureConfig
    coverage: CoverageConfig
    validation: ValidationConfig

    @property
    def reinforces(self) -> bool:
        """Whether there is any reinforcement: with eta 0 throughout, training by maximum likelihood goes on."""
        return self.eta.start > 0 or (self.eta.end > 0 and self.eta.schedule != "constant")

    @property
    def updates_per_batch(self) -> int:
        return self.grpo.epochs if self.method == "grpo" and self.reinforces else 1

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.samples < 2 and self.method in ("rloo", "grpo", "mrt"):
            raise ValueError(
                f"samples is {self.samples}, but {self.method} compares the samples of a source with each other: "
                "set it to 2 or more"
            )
        if self.baseline != "none" and self.method != "reinforce":
            raise ValueError(f"baseline {self.baseline} is for reinforce: {self.method} has its own, so set it to none")
        if self.method == "mrt" and (self.returns != "sequence" or self.kl.weight or self.entropy):
            raise ValueError(
                "mrt weighs whole sequences by their rewards: set returns to sequence, and kl.weight and entropy to 0"
            )
        return self
