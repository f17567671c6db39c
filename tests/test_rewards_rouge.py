import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.rouge import RougeLReward, rouge_l_of_texts
from rlseq2seq.token_ids import END, PAD, START

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


def rows_of(vocabulary: Vocabulary, texts: list[str], copies: list[str]) -> list[list[int]]:
    rows = [vocabulary.encode_target(text, copies) for text in texts]
    width = max(map(len, rows)) + 1
    return [row + [PAD] * (width - len(row)) for row in rows]


@pytest.mark.parametrize("words", ["surface", "rouge"])
@pytest.mark.parametrize("measure", ["fmeasure", "recall", "precision"])
def test_a_reward_is_the_measure_and_words_that_were_asked_for(
    device: torch.device, word_vocabulary: Vocabulary, measure: str, words: str
) -> None:
    texts = ["the sum , ,", "the mean of values rows"]
    tokens = torch.tensor(rows_of(word_vocabulary, texts, []), device=device)
    rewards = RougeLReward(word_vocabulary, measure, words)(tokens, [[], []], ["the sum of values", "the sum"])
    assert rewards.shape == (2,) and rewards.device == tokens.device
    common, written, wanted = [2, 1], [4 if words == "surface" else 2, 5], [4, 2]
    expected = {
        "precision": [c / w for c, w in zip(common, written, strict=True)],
        "recall": [c / w for c, w in zip(common, wanted, strict=True)],
        "fmeasure": [2 * c / (a + b) for c, a, b in zip(common, written, wanted, strict=True)],
    }
    assert rewards.tolist() == pytest.approx(expected[measure])


def test_a_reward_stops_at_the_first_end_token(device: torch.device, word_vocabulary: Vocabulary) -> None:
    the, total = word_vocabulary.encode_target("the sum")[:2]
    rows = [
        [the, total, END, PAD, PAD],
        [the, total, END, the, total],
        [the, total, PAD, START, END],
        [END, the, total, END, PAD],
    ]
    reward = RougeLReward(word_vocabulary, "fmeasure", "surface")
    assert reward(torch.tensor(rows, device=device), [[]], ["the sum"]).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_rows_of_a_source_read_its_own_copies(device: torch.device, word_vocabulary: Vocabulary) -> None:
    first, second = (word_vocabulary.encode_source(text) for text in ("zorp", "quux zorp"))
    size = len(word_vocabulary)
    assert first.ids == [size] and second.ids == [size, size + 1]
    tokens = torch.tensor([[size, END], [END, PAD], [size, END], [size + 1, END]], device=device)
    reward = RougeLReward(word_vocabulary, "recall", "surface")
    assert reward(tokens, [first.copies, second.copies], ["zorp", "zorp"]).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_pieces_are_joined_into_words_before_they_are_compared(device: torch.device, vocabulary: Vocabulary) -> None:
    text = "summing a"
    assert 3 < len(vocabulary.encode_target(text)) < 8
    tokens = torch.tensor(rows_of(vocabulary, [text, "summing"], []), device=device)
    rewards = RougeLReward(vocabulary, "recall", "surface")(tokens, [[]], [text])
    assert rewards.tolist() == pytest.approx([1.0, 0.5])
