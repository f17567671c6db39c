"""What pretrain and finetune share: optimiser, schedules, exposure to own outputs, when to look and when to stop."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
# Times the steps of a run it is still a seed that PyTorch takes.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True, config=STRICT)
class OptimizerConfig:
    name: Literal["adam", "adagrad"]
    warmup_steps: Annotated[int, Field(ge=0)]
    decay: Literal["constant", "linear", "cosine"]
    gradient_clip: Positive


@dataclass(frozen=True, config=STRICT)
class ScheduleConfig:
    """A number that goes from ``start`` to ``end`` in about ``steps`` steps (`rlseq2seq.objectives.schedule`)."""

    schedule: Literal["constant", "linear", "exponential", "inverse_sigmoid", "step"]
    start: float
    end: float
    steps: Count


@dataclass(frozen=True, config=STRICT)
class ProbabilityConfig(ScheduleConfig):
    """A schedule between 0 and 1."""

    start: Fraction
    end: Fraction


@dataclass(frozen=True, config=STRICT)
class SharpnessConfig(ScheduleConfig):
    """A schedule above 0: at 0 a soft arg-max would be the mean of all embeddings, whatever the model says."""

    start: Positive
    end: Positive


@dataclass(frozen=True, config=STRICT)
class ExposureConfig:
    """How training shows a model its own outputs as inputs (`rlseq2seq.objectives.exposure_bias`)."""

    method: Literal["none", "scheduled_sampling", "soft", "e2e_backprop"]
    probability: ProbabilityConfig
    distribution: Literal["final", "generation"]
    tokens: Literal["sampled", "greedy"]
    alpha: SharpnessConfig
    gumbel: bool
    top_k: Count
    selection: Literal["hard", "soft"]


@dataclass(frozen=True, config=STRICT)
class ValidationConfig:
    every: Count
    pairs: Count
    metric: Literal["rouge_l", "bleu", "loss"]
    patience: Count


@dataclass(frozen=True, config=STRICT)
class CoverageConfig:
    """``from_step: null`` leaves coverage as the model has it, which is off where training begins."""

    weight: NonNegative
    from_step: Annotated[int, Field(ge=0)] | None
