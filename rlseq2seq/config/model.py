"""The shape of the model: read by pretrain, and written into every checkpoint."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
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
class HeadConfig:
    """A head of the decoder's attention to the source: the ``head``-th of the ``layer``-th layer, from 1."""

    layer: Size
    head: Size


@dataclass(frozen=True, config=STRICT)
class TransformerConfig:
    """``layers`` of the encoder, and as many of the decoder. ``copy_head``: whose attention copies; None is one more,
    for copying alone."""

    layers: Size
    heads: Size
    feed_forward_size: Size
    positions: Literal["rotary", "learned"]
    copy_head: HeadConfig | None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        head = self.copy_head
        if head is not None and (head.layer > self.layers or head.head > self.heads):
            raise ValueError(
                f"copy_head is head {head.head} of layer {head.layer}, but there are {self.heads} heads in each of "
                f"{self.layers} layers: name one of these, or set it to null"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """``output_weights``: one matrix with the input words (``tied``), made from theirs (``projected``, 1705.04304,
    Eq. 13), or one of its own (``separate``). A Transformer is as wide as its embeddings; ``encoder_size`` to
    ``attention`` are the LSTM's."""

    architecture: Literal["lstm", "transformer"]
    embedding_size: Size
    dropout: Annotated[float, Field(ge=0, lt=1)]
    output_weights: Literal["tied", "projected", "separate"]
    copy: bool
    encoder_size: Size
    decoder_size: Size
    attention_size: Size
    attention: AttentionConfig
    transformer: TransformerConfig

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.architecture == "lstm":
            return self
        for name in ("temporal", "intra_decoder"):
            if getattr(self.attention, name):
                raise ValueError(
                    f"attention.{name} is true, but a Transformer has attention of its own: set it to false, or "
                    "architecture to lstm"
                )
        heads, rotary = self.transformer.heads, self.transformer.positions == "rotary"
        if self.embedding_size % (2 * heads if rotary else heads):
            raise ValueError(
                f"embedding_size is {self.embedding_size}: must be a multiple of transformer.heads, {heads}"
                + (", and of twice that for rotary positions, which turn pairs of numbers" if rotary else "")
            )
        return self
