"""Parameters of the reward: a weighted sum of terms, the first of which has weight 1."""

import re
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.training import Count, NonNegative, Positive

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

Term = Literal[
    "rouge_1", "rouge_2", "rouge_l", "bleu", "chrf", "length", "repetition", "novelty", "copy_rate", "function"
]
Words = Literal["surface", "cased", "rouge", "stemmed", "pieces"]


@dataclass(frozen=True, config=STRICT)
class AddedTerms:
    """The weight of each `Term` that is added to the reward; 0 is off."""

    rouge_1: NonNegative
    rouge_2: NonNegative
    rouge_l: NonNegative
    bleu: NonNegative
    chrf: NonNegative
    length: NonNegative
    repetition: NonNegative
    novelty: NonNegative
    copy_rate: NonNegative
    function: NonNegative


@dataclass(frozen=True, config=STRICT)
class RewardConfig:
    """``measure`` and ``beta`` are those of ROUGE, ``ngram`` of repetition and novelty, ``target_words`` of length."""

    metric: Term
    measure: Literal["fmeasure", "recall", "precision"]
    beta: Positive
    words: Words
    ngram: Annotated[int, Field(ge=1, le=4)]
    target_words: Count | None
    add: AddedTerms
    function: str | None

    @field_validator("function")
    @classmethod
    def _is_there_where_it_is_asked_for(cls, function: str | None, others: ValidationInfo) -> str | None:
        if function is not None and _IMPORT_PATH.fullmatch(function) is None:
            raise ValueError("must be package.module:name, such as my_rewards:score")
        added = others.data.get("add")
        asked = others.data.get("metric") == "function" or (added is not None and added.function > 0)
        if asked and function is None:
            raise ValueError("must be package.module:name, as metric or add.function asks for it")
        if function is not None and not asked:
            raise ValueError("must be null, unless metric is function or add.function is above 0")
        return function

    def weights(self) -> dict[Term, float]:
        """The weight of each term that counts."""
        names: list[Term] = [field.name for field in fields(AddedTerms)]  # type: ignore[misc]
        weights = {name: getattr(self.add, name) + (name == self.metric) for name in names}
        return {name: weight for name, weight in weights.items() if weight > 0}
