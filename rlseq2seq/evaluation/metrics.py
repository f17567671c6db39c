"""The judges: ROUGE by rouge-score, BLEU and chrF by sacrebleu. All scores are x 100."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

import numpy as np
from nltk.stem.porter import PorterStemmer
from numpy.typing import NDArray
from rouge_score import tokenize
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rlseq2seq.processes import map_chunks

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class StemmingTokenizer:
    """rouge-score's own tokenizer and Porter stemmer, remembering stems: the same words, several times faster."""

    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=1 << 17)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        words: list[str] = tokenize.tokenize(text, self)
        return words


def rouge_scores(
    outputs: Sequence[str], references: Sequence[Sequence[str]], workers: int
) -> dict[str, NDArray[np.float64]]:
    """ROUGE-1, 2, L and Lsum of each output (Lin, 2004): F-measure x 100, stemmed, by the rouge-score package.

    Of several references the one with the best F counts, for each metric by itself. Lsum takes lines for sentences.

    Args:
        outputs: [pairs] texts.
        references: [pairs] of one or more texts each.
        workers: processes. Scores do not depend on it.

    Returns:
        An array [pairs] for each name in `ROUGE`.

    Raises:
        ValueError: ``outputs`` and ``references`` differ in length.
    """
    rows = map_chunks(_rouge_rows, list(zip(outputs, references, strict=True)), workers, "ROUGE")
    scores = np.asarray(rows, dtype=np.float64).reshape(len(outputs), len(ROUGE))
    return {name: scores[:, column] for column, name in enumerate(ROUGE)}


def _rouge_rows(chunk: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
    scorer = RougeScorer(ROUGE, tokenizer=StemmingTokenizer())
    rows = []
    for output, references in chunk:
        best = scorer.score_multi(references, output)
        rows.append([100 * best[name].fmeasure for name in ROUGE])
    return rows


@dataclass(frozen=True)
class CorpusMetric:
    """BLEU or chrF of a system, in a form that can be recomputed for any part of the corpus.

    ``statistics`` [pairs, counts] are those of each pair (matched n-grams and the like); the score of a corpus is a
    function of their sum. ``signature`` is sacrebleu's, which names every choice made.
    """

    statistics: NDArray[np.float64]
    signature: str
    _metric: BLEU | CHRF

    def score(self) -> float:
        """That of the whole corpus."""
        return float(self.scores(self.statistics.sum(axis=0, keepdims=True))[0])

    def scores(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores [corpora] of corpora whose statistics sum to ``totals`` [corpora, counts]."""
        # sacrebleu's own resampling goes through this method; a test holds it equal to `corpus_score`.
        rows = [[int(count) for count in row] for row in totals]
        return np.asarray([self._metric._compute_score_from_stats(row).score for row in rows], dtype=np.float64)


def bleu(outputs: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool) -> CorpusMetric:
    """Corpus BLEU (Papineni et al., 2002) with sacrebleu's 13a tokenizer (Post, 2018).

    Args:
        outputs: [pairs] texts; at least one.
        references: [pairs] of one or more texts each.
        lowercase: do not tell A from a. For models that write lower case only.

    Raises:
        ValueError: ``outputs`` and ``references`` differ in length.
    """
    return _corpus_metric(BLEU(lowercase=lowercase, force=True), outputs, references)


def chrf(outputs: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool) -> CorpusMetric:
    """Corpus chrF2: F of character n-grams up to 6 (Popović, 2015). Arguments and errors as `bleu`."""
    return _corpus_metric(CHRF(lowercase=lowercase), outputs, references)


def _corpus_metric(metric: BLEU | CHRF, outputs: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusMetric:
    if len(outputs) != len(references):
        raise ValueError(f"{len(outputs)} outputs but references for {len(references)}")
    # sacrebleu wants the first reference of every pair, then the second, ...; None where a pair has no more.
    streams = [list(stream) for stream in zip_longest(*references)]
    statistics = metric._extract_corpus_statistics(outputs, streams)
    return CorpusMetric(np.asarray(statistics, dtype=np.float64), str(metric.get_signature()), metric)
