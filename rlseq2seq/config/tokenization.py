"""Parameters of the tokenization stage."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT


@dataclass(frozen=True, config=STRICT)
class TokenizationConfig:
    type: Literal["unigram", "bpe", "word", "char"]
    vocabulary_size: Annotated[int, Field(ge=8, le=1_000_000)]
    lowercase: bool
    split_identifiers: bool
    max_source_tokens: Annotated[int, Field(ge=1)]
    max_target_tokens: Annotated[int, Field(ge=2)]
