"""What needs no model: systems that any model has to beat, and the best that copying a sentence could do."""

import re
from collections.abc import Sequence

import torch
from rouge_score.rouge_scorer import RougeScorer
from tqdm import tqdm

from rlseq2seq.config.evaluate import Baseline
from rlseq2seq.data.pairs import Pair
from rlseq2seq.evaluation.metrics import StemmingTokenizer
from rlseq2seq.processes import map_chunks
from rlseq2seq.rewards.rouge import rouge_l_of_texts
from rlseq2seq.rewards.words import cut_words

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def baseline_outputs(
    names: Sequence[Baseline], pairs: Sequence[Pair], words: int, workers: int
) -> dict[str, list[str]]:
    """Outputs [pairs] of each baseline of ``names``.

    ``lead``: the first ``words`` words of the source; ``lead_3``: its first three sentences; ``name``: that of the
    pair (left out unless every pair has one); ``oracle``, ``greedy_oracle``: the functions here; ``source``: itself.

    Args:
        names: which, in order.
        pairs: what to make outputs for.
        words: length of lead and oracle in surface words: the mean of the training targets, since the test targets
            are not to be looked at.
        workers: processes.
    """
    outputs: dict[str, list[str]] = {}
    for name in names:
        match name:
            case "lead":
                outputs[name] = [cut_words(pair.source, words) for pair in pairs]
            case "lead_3":
                outputs[name] = ["\n".join(_sentences(pair.source)[:3]) for pair in pairs]
            case "name":
                if all(pair.name for pair in pairs):
                    outputs[name] = [pair.name for pair in pairs]
            case "oracle":
                outputs[name] = oracle(pairs, words, workers)
            case "greedy_oracle":
                bar = tqdm(pairs, "greedy oracle", unit="text", delay=2)
                outputs[name] = [greedy_oracle(pair.source, (pair.target, *pair.references)) for pair in bar]
            case "source":
                outputs[name] = [pair.source for pair in pairs]
    return outputs


def greedy_oracle(source: str, targets: Sequence[str]) -> str:
    """The sentences of ``source``, a line each and in its order, that greedy selection finds for ``targets``.

    It adds the sentence that makes ROUGE-L F, unstemmed and of the better target, largest, until none makes it larger
    (Nallapati et al., 2017, arXiv:1611.04230, section 2.2). It has seen the targets: a bound on what extraction of
    sentences can reach, if not the least one.
    """
    sentences = _sentences(source)
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < len(sentences):
        candidates = [sorted({*chosen, added}) for added in range(len(sentences))]
        texts = ["\n".join(sentences[place] for place in places) for places in candidates]
        scores = torch.stack([rouge_l_of_texts(texts, [target], "rouge").fmeasure for target in targets]).amax(0)
        place = int(scores.argmax())
        if scores[place] <= best:
            break
        best, chosen = float(scores[place]), candidates[place]
    return "\n".join(sentences[place] for place in chosen)


def _sentences(source: str) -> list[str]:
    """Sentences and lines, without blank ones."""
    return [sentence for sentence in _SENTENCE_END.split(source) if sentence.strip()]


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
        sentences = [cut_words(sentence, words) for sentence in _sentences(source)] or [""]
        scores = [scorer.score_multi(targets, sentence)["rougeL"].fmeasure for sentence in sentences]
        best.append(sentences[scores.index(max(scores))])
    return best
