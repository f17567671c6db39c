"""The shape of the model: read by pretrain, and written into every checkpoint."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT

Size = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    embedding_size: Size
    encoder_size: Size
    decoder_size: Size
    attention_size: Size
    dropout: Annotated[float, Field(ge=0, lt=1)]
    tie_embeddings: bool
    copy: bool
