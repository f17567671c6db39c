"""The shape of the model: read by pretrain, and written into every checkpoint."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT

Size = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class AttentionConfig:
    """How the decoder attends to the source, and whether also to its own past states.

    ``score``: ``additive`` (See et al. 2017, arXiv:1704.04368, Eq. 1) or ``bilinear`` (Paulus et al. 2018,
    arXiv:1705.04304, Eq. 2); ``temporal``: normalised over time (Eq. 3); ``intra_decoder``: Eq. 6 to 8.
    """

    score: Literal["additive", "bilinear"]
    temporal: bool
    intra_decoder: bool


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """``output_weights``: one matrix with the input words (``tied``), made from theirs (``projected``, 1705.04304,
    Eq. 13), or one of its own (``separate``)."""

    embedding_size: Size
    encoder_size: Size
    decoder_size: Size
    attention_size: Size
    dropout: Annotated[float, Field(ge=0, lt=1)]
    output_weights: Literal["tied", "projected", "separate"]
    copy: bool
    attention: AttentionConfig
