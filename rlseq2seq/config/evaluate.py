"""Parameters of the evaluate stage."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.decoding import BeamConfig


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    seed: Annotated[int, Field(ge=0)]
    bootstrap_samples: Annotated[int, Field(ge=100)]
    batch_size: Annotated[int, Field(ge=1)]
    decoding: BeamConfig
