"""How to search for an output: read by evaluate and by `rlseq2seq generate`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT


@dataclass(frozen=True, config=STRICT)
class BeamConfig:
    """``beam_size: 1`` is greedy decoding; ``block_ngrams: 0`` blocks nothing; ``critic_weight: 0`` asks no critic."""

    beam_size: Annotated[int, Field(ge=1)]
    length_penalty: Annotated[float, Field(ge=0)]
    block_ngrams: Annotated[int, Field(ge=0)]
    min_tokens: Annotated[int, Field(ge=0)]
    critic_weight: Annotated[float, Field(ge=0)]
