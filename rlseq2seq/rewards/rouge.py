"""ROUGE of words as a reward, however the tokenizer cut them."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.data.vocabulary import Vocabulary, piece_text
from rlseq2seq.ops import RougeL, RougeN, WordHashes
from rlseq2seq.rewards.words import WordRule

Metric = Literal["rouge_1", "rouge_2", "rouge_l"]
Measure = Literal["fmeasure", "recall", "precision"]


def rouge_l_of_texts(hypotheses: Sequence[str], references: Sequence[str], rule: WordRule) -> RougeL:
    """ROUGE-L of N hypotheses against M references (Lin 2004); hypothesis i has reference i // (N / M)."""
    return ops.rouge_l(*ops.hash_words(hypotheses, rule), *ops.hash_words(references, rule))


class RougeReward:
    """Token ids -> rewards in [0, 1]: ROUGE of the words before the first end token against the reference text's.

    The words are put together from the ids as hashes (`ops.word_hashes`), on the device that the ids are on: no text is
    made, and nothing is waited for.
    """

    def __init__(self, vocabulary: Vocabulary, metric: Metric, measure: Measure, rule: WordRule) -> None:
        self._metric, self._measure, self._rule = metric, measure, rule
        self._table = ops.piece_table([vocabulary.piece_texts()], rule)

    def __call__(self, tokens: Tensor, copies: Sequence[Sequence[str]], references: Sequence[str]) -> Tensor:
        """Rewards [N] of ``tokens`` [N, T], N / B rows in a row for each of B sources with their copies and targets."""
        return self._score(self._words(tokens, copies, prefixes=False), references)

    def prefixes(self, tokens: Tensor, copies: Sequence[Sequence[str]], references: Sequence[str]) -> Tensor:
        """Rewards [N, T] of what the tokens up to each one spell, an unfinished word as if it ended there.

        From the end token on, they repeat the reward of the whole. What spells no word has reward 0.
        """
        return self._score(self._words(tokens, copies, prefixes=True), references)

    def _words(self, tokens: Tensor, copies: Sequence[Sequence[str]], *, prefixes: bool) -> WordHashes:
        texts = [[piece_text(piece) for piece in pieces] for pieces in copies]
        copied = ops.piece_table(texts, self._rule).to(tokens.device)
        self._table = self._table.to(tokens.device)  # once: where it is already, it stays
        return ops.word_hashes(tokens, self._table, copied, prefixes=prefixes)

    def _score(self, words: WordHashes, references: Sequence[str]) -> Tensor:
        golds, gold_lengths = (ops.to_device(x, words.hashes.device) for x in ops.hash_words(references, self._rule))
        pairs = words.hashes, words.lengths, golds, gold_lengths
        found: RougeL | RougeN
        if self._metric == "rouge_l":
            found = ops.rouge_l(*pairs, prefixes=words.ends is not None, continues=words.continues, ends=words.ends)
        else:
            n = 1 if self._metric == "rouge_1" else 2
            found = ops.rouge_n(*pairs, n, prefixes=words.ends is not None, continues=words.continues, ends=words.ends)
        reward: Tensor = getattr(found, self._measure)
        return reward
