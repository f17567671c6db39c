"""ROUGE-L of texts: what validation measures."""

from collections.abc import Sequence

from rlseq2seq import ops
from rlseq2seq.ops import RougeL
from rlseq2seq.rewards.words import WordRule


def rouge_l_of_texts(hypotheses: Sequence[str], references: Sequence[str], rule: WordRule) -> RougeL:
    """ROUGE-L of N hypotheses against M references (Lin 2004); hypothesis i has reference i // (N / M)."""
    return ops.rouge_l(*ops.hash_words(hypotheses, rule), *ops.hash_words(references, rule))
