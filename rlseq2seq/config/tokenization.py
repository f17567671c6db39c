"""Parameters of the tokenization stage."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT


@dataclass(frozen=True, config=STRICT)
class TokenizationConfig:
    """``word_vectors``: a text file of GloVe or word2vec that the embedding starts from (`data.word_vectors`).
    ``vocabulary_file``: the words instead of those of the training split (`data.vocabulary_file`).
    ``split_punctuation``: of words; false leaves texts that are tokenised already as they are."""

    type: Literal["unigram", "bpe", "word", "char"]
    vocabulary_size: Annotated[int, Field(ge=8, le=1_000_000)]
    vocabulary_file: str | None
    lowercase: bool
    split_identifiers: bool
    split_punctuation: bool
    max_source_tokens: Annotated[int, Field(ge=1)]
    max_target_tokens: Annotated[int, Field(ge=2)]
    word_vectors: str | None

    @field_validator("word_vectors", "vocabulary_file")
    @classmethod
    def _tracked_by_the_pipeline(cls, path: str | None) -> str | None:
        parts = () if path is None else PurePosixPath(path).parts
        if path is not None and (parts[:1] != ("corpus",) or len(parts) < 2 or ".." in parts):
            raise ValueError("must be a file in corpus/, where the pipeline sees it change: move it there")
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.vocabulary_file is not None and self.type != "word":
            raise ValueError(
                f"vocabulary_file has words and type is {self.type}: set type to word, or the file to null"
            )
        return self
