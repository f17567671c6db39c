"""Batches and rows of ids for tests of rewards, and what each term is worth by its judge, or counted in words."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from tiny import text_batch
from torch import device

from rlseq2seq.data.batches import Batch
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.words import WordRule, split_words
from rlseq2seq.token_ids import END

# Names that no vocabulary of the tests has, and letters that it lacks.
SOURCES = ["the sum zorp, of x9 values from columns", "é the mean of the (rows) the mean, of", "quux"]
TARGETS = ["the sum zorp of values from columns", "Compute the means (a, x9) of the, the", ""]
NGRAM = 2
NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
TERMS = (*NAMES, "bleu", "chrf", "length", "repetition", "novelty", "copy_rate")
EACH = 4


class _Splitter:
    """Words that stand apart already."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def source_batch(vocabulary: Vocabulary, where: device | str = "cpu") -> Batch:
    return text_batch(vocabulary, SOURCES, TARGETS, where)


def random_rows(vocabulary: Vocabulary, batch: Batch, seed: int, width: int = 20) -> list[list[int]]:
    """Rows for each source that begin as its target or source and go on with any ids, and that end somewhere or
    never; unknown and reserved ids are among them, and each source has an empty row and one that repeats itself."""
    draw, rows = random.Random(seed), []
    for source, (target, copies) in enumerate(zip(batch.target_texts, batch.copies, strict=True)):
        ids = [id_ for id_ in range(len(vocabulary) + len(copies)) if id_ != END]
        wanted = [id_ for id_ in vocabulary.encode_target(target, copies) if id_ != END]
        read = batch.sources[source, : batch.source_lengths[source]].tolist()
        begun = [wanted[: draw.randint(1, 9)], read[draw.randint(0, 2) :], [*wanted[:2], *read[:3]] * 3, []]
        assert len(begun) == EACH
        for i, written in enumerate(begun):
            more = draw.choices(ids, k=draw.randint(0, 8)) if i < 2 else []
            rows.append([*written, *more, END, *draw.choices(ids, k=width)][:width])
    return rows


def words_of(text: str, rule: str) -> list[str]:
    if rule == "stemmed":
        stem = PorterStemmer().stem
        return [stem(word) if len(word) > 3 else word for word in split_words(text, "surface")]
    return split_words(text, cast("WordRule", rule))


def expected(term: str, texts: Sequence[str], rule: str = "surface") -> float:
    """What ``term`` gives for a text, its reference and its source."""
    text, reference, _ = texts
    written, wanted, source = (words_of(text, rule) for text in texts)
    if term in NAMES:
        name = NAMES[term]
        scorer = RougeScorer([name], tokenizer=_Splitter())
        return float(scorer.score(" ".join(wanted), " ".join(written))[name].fmeasure)
    if term == "chrf":
        return CHRF(lowercase=rule != "cased").sentence_score(text, [reference]).score / 100
    return COUNTED[term](written, wanted, source)


def ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _bleu(written: list[str], wanted: list[str], _: list[str]) -> float:
    judge = BLEU(tokenize="none", smooth_method="add-k", smooth_value=1, effective_order=False)
    return judge.sentence_score(" ".join(written), [" ".join(wanted)]).score / 100


def _length(written: list[str], wanted: list[str], _: list[str]) -> float:
    sizes = sorted((len(written), len(wanted)))
    return sizes[0] / max(sizes[1], 1)


def _repetition(written: list[str], _: list[str], __: list[str]) -> float:
    found = Counter(ngrams(written, NGRAM))
    return -sum(count - 1 for count in found.values()) / max(found.total(), 1)


def _novelty(written: list[str], _: list[str], source: list[str]) -> float:
    found, known = ngrams(written, NGRAM), set(ngrams(source, NGRAM))
    return sum(gram not in known for gram in found) / max(len(found), 1)


def _copy_rate(written: list[str], _: list[str], source: list[str]) -> float:
    return sum(word in source for word in written) / max(len(written), 1)


COUNTED: dict[str, Callable[[list[str], list[str], list[str]], float]] = {
    "bleu": _bleu,
    "length": _length,
    "repetition": _repetition,
    "novelty": _novelty,
    "copy_rate": _copy_rate,
}
