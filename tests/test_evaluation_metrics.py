import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rlseq2seq.evaluation.metrics import ROUGE, CorpusMetric, bleu, chrf, rouge_scores

TEXTS = st.text(alphabet="abc \n.,") | st.lists(
    st.sampled_from(["returns", "Returned", "the", "tensors.", "tensor", ",", "\n"]), max_size=12
).map(" ".join)


def _rouge(output: str, *references: str) -> list[float]:
    scores = rouge_scores([output], [references], workers=1)
    return [float(scores[name][0]) for name in ROUGE]


def _score(metric: CorpusMetric) -> float:
    return float(metric.scores(metric.statistics.sum(axis=0, keepdims=True))[0])


def test_rouge_by_hand() -> None:
    # Precision 3/3, 2/2, 3/3; recall 3/6, 2/5, 3/6.
    assert _rouge("the cat sat", "the cat sat on the mat") == pytest.approx([200 / 3, 400 / 7, 200 / 3, 200 / 3])


def test_rouge_stems_and_does_not_see_case_or_punctuation() -> None:
    assert _rouge("Runs, FAST.", "running fast") == pytest.approx([100, 100, 100, 100])


def test_rouge_takes_lines_for_sentences_in_lsum_alone() -> None:
    assert _rouge("a b\nc d", "c d\na b") == pytest.approx([100, 200 / 3, 50, 100])


def test_each_metric_takes_its_own_best_reference() -> None:
    # The first shares two words in another order, the second a bigram at the price of length.
    assert _rouge("a b x", "b a y", "a b q r s t u") == pytest.approx([200 / 3, 25, 40, 40])


def test_rouge_of_nothing_is_zero() -> None:
    assert _rouge("", "the cat") == [0, 0, 0, 0]
    assert _rouge(", ,", "the cat") == [0, 0, 0, 0]


@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=3))
@settings(deadline=None)
def test_rouge_is_that_of_the_rouge_score_package(pairs: list[tuple[str, list[str]]]) -> None:
    judge = RougeScorer(ROUGE, use_stemmer=True)
    scores = rouge_scores([output for output, _ in pairs], [references for _, references in pairs], workers=1)
    for row, (output, references) in enumerate(pairs):
        expected = judge.score_multi(references, output)
        assert {name: scores[name][row] for name in ROUGE} == {name: 100 * expected[name].fmeasure for name in ROUGE}


def test_rouge_does_not_depend_on_the_number_of_workers() -> None:
    words = random.Random(0)
    texts = [" ".join(words.choices("abcdef", k=6)) for _ in range(1200)]
    references = [(text,) for text in reversed(texts)]
    one, two = (rouge_scores(texts, references, workers) for workers in (1, 2))
    assert list(one) == list(two) == list(ROUGE)
    assert all(np.array_equal(one[name], two[name]) and one[name].shape == (1200,) for name in ROUGE)


def test_outputs_and_references_must_match() -> None:
    with pytest.raises(ValueError):
        rouge_scores(["a"], [["a"], ["b"]], workers=1)
    with pytest.raises(ValueError, match="1 outputs but references for 2"):
        bleu(["a"], [["a"], ["b"]], lowercase=False)


def test_bleu_by_hand() -> None:
    # n-gram precisions 4/5, 3/4, 2/3, 1/2.
    assert _score(bleu(["a b c d e"], [["a b c d f"]], lowercase=False)) == pytest.approx(100 * 0.2**0.25)
    # All n-grams match; the brevity penalty is exp(1 - 8 / 4).
    assert _score(bleu(["a b c d"], [["a b c d e f g h"]], lowercase=False)) == pytest.approx(100 * math.exp(-1))


def test_chrf_by_hand() -> None:
    # Precision and recall alike are 2/3, 1/2 and 0 for the three orders that there are.
    assert _score(chrf(["abc"], [["abd"]], lowercase=False)) == pytest.approx(100 * (2 / 3 + 1 / 2) / 3)


def test_lowercase_is_asked_for_and_signed() -> None:
    for metric in (bleu, chrf):
        mixed, lower = (
            metric(["return the new sum"], [["Return the new Sum"]], lowercase=low) for low in (False, True)
        )
        assert _score(mixed) < 100
        assert _score(lower) == pytest.approx(100)
        assert "case:mixed" in mixed.signature
        assert "case:lc" in lower.signature


def test_bleu_and_chrf_of_any_part_are_those_of_sacrebleu() -> None:
    words = random.Random(1)
    outputs = [" ".join(words.choices(["the", "sum", "of", "all", "a."], k=words.randint(0, 9))) for _ in range(60)]
    references = [[" ".join(words.sample(text.split(), len(text.split()))) + " of all"] for text in outputs]
    for extra in references[::3]:
        extra.append("the sum of all the")
    for ours, theirs in ((bleu, BLEU(force=True)), (chrf, CHRF())):
        metric = ours(outputs, references, lowercase=False)
        parts = [list(range(60)), words.choices(range(60), k=60), [5, 5, 7], [0]]
        scores = metric.scores(np.stack([metric.statistics[part].sum(axis=0) for part in parts]))
        for part, score in zip(parts, scores, strict=True):
            # sacrebleu wants first references, then second ones, with None for none, which its types do not tell.
            streams: list[Any] = [[(*references[pair], None)[order] for pair in part] for order in (0, 1)]
            expected = theirs.corpus_score([outputs[pair] for pair in part], streams)
            assert score == pytest.approx(expected.score, abs=1e-9)
        assert "nrefs:var" in metric.signature
        assert 0 < scores[0] < 100
