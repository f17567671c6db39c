"""Knobs of where and how fast a stage runs and what it prints: no stage tracks them.

Results on the CPU are the same bits for the same number of threads; another device or number rounds differently.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT


@dataclass(frozen=True, config=STRICT)
class RuntimeConfig:
    device: Annotated[str, Field(pattern=r"^(cpu|cuda|cuda:\d+|auto)$")]
    threads: Annotated[int, Field(ge=1)] | None
    workers: Annotated[int, Field(ge=1)] | None
    checkpoint_every: Annotated[int, Field(ge=1)]
    log_interval: Annotated[float, Field(gt=0)]
