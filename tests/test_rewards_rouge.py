import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from rlseq2seq.rewards.rouge import rouge_l_of_texts

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
WORDS = st.sampled_from(["the", "The", "sum", "of", "a", "b2", "get_it", ",", "é", "x-y", "''", "\n"])
TEXTS = st.text(max_size=12) | st.lists(WORDS, max_size=8).map(" ".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_rouge_words_give_what_rouge_score_gives(pairs: list[tuple[str, str]]) -> None:
    found = rouge_l_of_texts([h for h, _ in pairs], [r for _, r in pairs], "rouge")
    for i, (hypothesis, reference) in enumerate(pairs):
        expected = SCORER.score(reference, hypothesis)["rougeL"]
        assert found.precision[i].item() == pytest.approx(expected.precision, abs=1e-6)
        assert found.recall[i].item() == pytest.approx(expected.recall, abs=1e-6)
        assert found.fmeasure[i].item() == pytest.approx(expected.fmeasure, abs=1e-6)


def test_a_row_of_commas_costs_as_surface_words_and_nothing_as_rouge_words() -> None:
    texts = ["the sum, , , ,", "the sum"]
    # 2 of 6 words are in a reference of 2: F = 2 * 2 / (6 + 2)
    assert rouge_l_of_texts(texts, ["the sum"], "surface").fmeasure.tolist() == pytest.approx([0.5, 1.0])
    assert rouge_l_of_texts(texts, ["the sum"], "rouge").fmeasure.tolist() == pytest.approx([1.0, 1.0])


def test_hypotheses_in_a_row_share_their_reference() -> None:
    found = rouge_l_of_texts(["a b", "a", "c d", "a b", "x", "c"], ["a b", "c d"], "surface")
    assert found.recall.tolist() == [1.0, 0.5, 0.0, 0.0, 0.0, 0.5]
    assert found.precision.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def test_empty_texts_score_nothing() -> None:
    assert rouge_l_of_texts(["", "a", ""], ["a", "", ""], "surface").fmeasure.tolist() == [0.0, 0.0, 0.0]
    assert rouge_l_of_texts(["", ""], [" "], "rouge").fmeasure.tolist() == [0.0, 0.0]


def test_the_order_of_words_matters_and_their_case_does_not() -> None:
    found = rouge_l_of_texts(["THE Sum", "sum the"], ["the sum"], "surface")
    assert found.fmeasure.tolist() == pytest.approx([1.0, 0.5])
