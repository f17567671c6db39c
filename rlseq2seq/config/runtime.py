"""Knobs that change how fast a stage runs and what it prints, never what it writes: no stage tracks them."""

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
