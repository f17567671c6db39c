"""ROUGE-L of words as a reward, however the tokenizer cut them."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.data.batches import pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.ops import RougeL
from rlseq2seq.rewards.words import WordRule, split_words

Measure = Literal["fmeasure", "recall", "precision"]


def rouge_l_of_texts(hypotheses: Sequence[str], references: Sequence[str], rule: WordRule) -> RougeL:
    """ROUGE-L of N hypotheses against M references (Lin 2004); hypothesis i has reference i // (N / M)."""
    ids: dict[str, int] = {}
    rows = [[ids.setdefault(word, len(ids)) for word in split_words(text, rule)] for text in (*hypotheses, *references)]
    return ops.rouge_l(*pad_rows(rows[: len(hypotheses)]), *pad_rows(rows[len(hypotheses) :]))


class RougeLReward:
    """Token ids -> rewards in [0, 1]: ROUGE-L of the text before the first end token against the reference text."""

    def __init__(self, vocabulary: Vocabulary, measure: Measure, rule: WordRule) -> None:
        self._vocabulary, self._measure, self._rule = vocabulary, measure, rule

    def __call__(self, tokens: Tensor, copies: Sequence[Sequence[str]], references: Sequence[str]) -> Tensor:
        """Rewards [N] of ``tokens`` [N, T], N / B rows in a row for each of B sources with their copies and targets."""
        texts = self._vocabulary.decode_rows(tokens.tolist(), copies)
        reward: Tensor = getattr(rouge_l_of_texts(texts, references, self._rule), self._measure)
        return reward.to(tokens.device)
