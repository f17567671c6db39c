"""Parameters of the pretrain stage: maximum likelihood."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.training import (
    Count,
    CoverageConfig,
    ExposureConfig,
    OptimizerConfig,
    Positive,
    Seed,
    ValidationConfig,
)

ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class PretrainConfig:
    seed: Seed
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    label_smoothing: ShareBelow1
    weight_average: ShareBelow1
    optimizer: OptimizerConfig
    exposure_bias: ExposureConfig
    coverage: CoverageConfig
    validation: ValidationConfig
