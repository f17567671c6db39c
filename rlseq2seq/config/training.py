"""What pretrain and finetune share: the optimiser, its schedule, when to look and when to stop."""

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
class ValidationConfig:
    every: Count
    pairs: Count
    metric: Literal["rouge_l", "loss"]
    patience: Count


@dataclass(frozen=True, config=STRICT)
class CoverageConfig:
    """``from_step: null`` leaves coverage as the model has it, which is off where training begins."""

    weight: NonNegative
    from_step: Annotated[int, Field(ge=0)] | None
