"""What needs no model: systems that any model has to beat, and the best that copying a sentence could do."""

import re
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from rlseq2seq.data.pairs import Pair
from rlseq2seq.evaluation.metrics import StemmingTokenizer
from rlseq2seq.processes import map_chunks
from rlseq2seq.rewards.words import cut_words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def baseline_outputs(pairs: Sequence[Pair], words: int, workers: int) -> dict[str, list[str]]:
    """Outputs [pairs] of each baseline: ``lead``, ``name`` (where every pair has one) and ``oracle``.

    Args:
        pairs: what to make outputs for.
        words: length of lead and oracle in surface words: the mean of the training targets, since the test targets
            are not to be looked at.
        workers: processes.
    """
    outputs = {"lead": [cut_words(pair.source, words) for pair in pairs]}
    if all(pair.name for pair in pairs):
        outputs["name"] = [pair.name for pair in pairs]
    outputs["oracle"] = oracle(pairs, words, workers)
    return outputs


def oracle(pairs: Sequence[Pair], words: int, workers: int) -> list[str]:
    """For each pair the sentence or line of its source, cut to ``words`` words, whose ROUGE-L F is best.

    It has seen the targets: no system, but a bound on what copying one sentence can reach. Of equals the first; a
    source without a sentence gives an empty text.
    """
    items = [(pair.source, (pair.target, *pair.references), words) for pair in pairs]
    return map_chunks(_best_sentences, items, workers, "oracle")


def _best_sentences(chunk: Sequence[tuple[str, tuple[str, ...], int]]) -> list[str]:
    scorer = RougeScorer(["rougeL"], tokenizer=StemmingTokenizer())
    best = []
    for source, targets, words in chunk:
        sentences = [cut_words(sentence, words) for sentence in _SENTENCE_END.split(source)]
        scores = [scorer.score_multi(targets, sentence)["rougeL"].fmeasure for sentence in sentences]
        best.append(sentences[scores.index(max(scores))])
    return best
