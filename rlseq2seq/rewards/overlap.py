"""Rewards that compare with the reference: ROUGE, BLEU, chrF, length. All are in 0 to 1; nothing gets 0.

Each takes what is `Compared` and returns [N], or [N, T] where prefixes were asked for.
"""

from typing import Literal

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.ops import RougeL, RougeN, WordHashes
from rlseq2seq.rewards.ngrams import ngram_values, word_counts
from rlseq2seq.rewards.units import Compared

Rouge = Literal["rouge_1", "rouge_2", "rouge_l"]
Measure = Literal["fmeasure", "recall", "precision"]

_BLEU_ORDER = 4
_CHRF_ORDER, _CHRF_BETA = 6, 2.0


def rouge(compared: Compared, metric: Rouge, measure: Measure, beta: float) -> Tensor:
    """ROUGE-1, 2 or L (Lin 2004): precision P, recall R, or their `f_measure`."""
    found: RougeL | RougeN
    if metric == "rouge_l":
        written, wanted = compared.written, compared.wanted
        growth = written.continues, written.ends
        found = ops.rouge_l(
            written.hashes,
            written.lengths,
            *wanted,
            prefixes=growth[1] is not None,
            continues=growth[0],
            ends=growth[1],
        )
    else:
        found = _rouge_n(compared.written, compared.wanted, 1 if metric == "rouge_1" else 2)
    if measure == "fmeasure":
        return f_measure(found.precision, found.recall, beta)
    return found.recall if measure == "recall" else found.precision


def f_measure(precision: Tensor, recall: Tensor, beta: float) -> Tensor:
    """(1 + beta^2) P R / (R + beta^2 P) (van Rijsbergen 1979), 0 where both are: above 1, beta counts recall more."""
    below = recall + beta**2 * precision
    return torch.where(below > 0, (1 + beta**2) * precision * recall / below, 0)


def bleu(compared: Compared) -> Tensor:
    """BLEU-4 of single texts (Papineni et al. 2002), with 1 added to the counts of n > 1 (Lin and Och 2004, BLEU-S).

    exp(min(0, 1 - r / h)) (p_1 p_2 p_3 p_4)^(1/4), of h words against r: as sacrebleu's ``add-k`` with k = 1.
    """
    written, wanted = compared.written, compared.wanted
    words = word_counts(written)
    logs = torch.zeros_like(words, dtype=torch.float64)
    for n in range(1, _BLEU_ORDER + 1):
        found = _rouge_n(written, wanted, n)
        extra, total = int(n > 1), (words - n + 1).clamp(min=0)
        logs += ((found.overlap.double() + extra) / (total + extra).clamp(min=1)).log()
    brevity = (1 - _beside(wanted[1], words).double() / words.clamp(min=1)).clamp(max=0)
    return (brevity + logs / _BLEU_ORDER).exp().float()


def chrf(compared: Compared) -> Tensor:
    """chrF2 of single texts (Popovic 2015), of what are not words but characters.

    Mean precision and recall of character n-grams, n = 1 to 6, over those n that both sides have; as sacrebleu has it.
    """
    written, wanted = compared.written, WordHashes(*compared.wanted, None, None)
    count, wanted_count = word_counts(written), _beside(wanted.lengths, word_counts(written))
    precision, recall, orders = (torch.zeros_like(count, dtype=torch.float64) for _ in range(3))
    for n in range(1, _CHRF_ORDER + 1):
        golds = _as_words(wanted, n)
        found = _rouge_n(_as_words(written, n), (golds.hashes, golds.lengths), 1)
        both = (count >= n) & (wanted_count >= n)
        precision += torch.where(both, found.precision, 0)
        recall += torch.where(both, found.recall, 0)
        orders += both
    return f_measure(precision / orders.clamp(min=1), recall / orders.clamp(min=1), _CHRF_BETA).float()


def length(compared: Compared, target_words: int | None) -> Tensor:
    """min(h, r) / max(h, r) of h words against ``target_words``, or against the words of the reference."""
    words = word_counts(compared.written)
    wanted = _beside(compared.wanted[1], words) if target_words is None else torch.full_like(words, target_words)
    return torch.minimum(words, wanted) / torch.maximum(words, wanted).clamp(min=1)


def _rouge_n(written: WordHashes, wanted: tuple[Tensor, Tensor], n: int) -> RougeN:
    prefixes = written.ends is not None
    pairs = written.hashes, written.lengths, *wanted
    return ops.rouge_n(*pairs, n, prefixes=prefixes, continues=written.continues, ends=written.ends)


def _as_words(units: WordHashes, n: int) -> WordHashes:
    """The n-grams of units that do not grow, as if each were a word."""
    hashes, lengths = ngram_values(units, n)[:, n - 1 :], (units.lengths - n + 1).clamp(min=0)
    if units.continues is None or units.ends is None:
        return WordHashes(hashes, lengths, None, None)
    return WordHashes(hashes, lengths, units.continues[:, n - 1 :], (units.ends - n + 1).clamp(min=0))


def _beside(of_references: Tensor, of_hypotheses: Tensor) -> Tensor:
    """Values [B] of the references for each of N hypotheses, [N] or [N, 1]."""
    values = of_references.repeat_interleave(len(of_hypotheses) // max(len(of_references), 1))
    return values if of_hypotheses.ndim == 1 else values[:, None]
