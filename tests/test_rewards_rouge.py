import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.rouge import RougeReward, rouge_l_of_texts
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
    rewards = RougeReward(word_vocabulary, "rouge_l", measure, words)(
        tokens, [[], []], ["the sum of values", "the sum"]
    )
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
    reward = RougeReward(word_vocabulary, "rouge_l", "fmeasure", "surface")
    assert reward(torch.tensor(rows, device=device), [[]], ["the sum"]).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_rows_of_a_source_read_its_own_copies(device: torch.device, word_vocabulary: Vocabulary) -> None:
    first, second = (word_vocabulary.encode_source(text) for text in ("zorp", "quux zorp"))
    size = len(word_vocabulary)
    assert first.ids == [size] and second.ids == [size, size + 1]
    tokens = torch.tensor([[size, END], [END, PAD], [size, END], [size + 1, END]], device=device)
    reward = RougeReward(word_vocabulary, "rouge_l", "recall", "surface")
    assert reward(tokens, [first.copies, second.copies], ["zorp", "zorp"]).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_pieces_are_joined_into_words_before_they_are_compared(device: torch.device, vocabulary: Vocabulary) -> None:
    text = "summing a"
    assert 3 < len(vocabulary.encode_target(text)) < 8
    tokens = torch.tensor(rows_of(vocabulary, [text, "summing"], []), device=device)
    rewards = RougeReward(vocabulary, "rouge_l", "recall", "surface")(tokens, [[]], [text])
    assert rewards.tolist() == pytest.approx([1.0, 0.5])


METRICS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def random_rows(vocabulary: Vocabulary, copies: list[list[str]], seed: int) -> list[list[int]]:
    """Four rows a source that begin as its target and go on with any ids, and that end somewhere or never."""
    draw, rows = random.Random(seed), []
    for group, target in zip(copies, TARGETS, strict=True):
        ids = [id_ for id_ in range(len(vocabulary) + len(group)) if id_ != END]
        for _ in range(4):
            begun = vocabulary.encode_target(target, group)[: draw.randint(0, 7)]
            written = [*(id_ for id_ in begun if id_ != END), *draw.choices(ids, k=draw.randint(0, 16))]
            rows.append([*written, END, *draw.choices(ids, k=24)][:20])
    return rows


COPIES = [["\u2581zorp", "x,y\u2581\u2581Zed"], [], ["\u2581(a"]]
TARGETS = ["the sum of values from columns", "compute the mean (a, x) of the, the", ""]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("measure", ["fmeasure", "recall", "precision"])
def test_rewards_are_those_of_the_decoded_texts(
    device: torch.device, vocabulary: Vocabulary, word_vocabulary: Vocabulary, metric: str, measure: str
) -> None:
    scorer = RougeScorer([METRICS[metric]], use_stemmer=False)
    for pieces in (vocabulary, word_vocabulary):
        rows = random_rows(pieces, COPIES, 1)
        found = RougeReward(pieces, metric, measure, "rouge")(torch.tensor(rows, device=device), COPIES, TARGETS)
        assert found.any() and not found.all()
        for i, text in enumerate(pieces.decode_rows(rows, COPIES)):
            expected = getattr(scorer.score(TARGETS[i // 4], text)[METRICS[metric]], measure)
            assert found[i].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("words", ["surface", "rouge"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_reward_of_a_prefix_is_the_reward_of_what_it_spells(
    device: torch.device, vocabulary: Vocabulary, word_vocabulary: Vocabulary, metric: str, words: str
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        tokens = torch.tensor(random_rows(pieces, COPIES, 2), device=device)
        reward = RougeReward(pieces, metric, "fmeasure", words)
        prefixes = reward.prefixes(tokens, COPIES, TARGETS)
        assert prefixes.shape == tokens.shape and prefixes.device == tokens.device
        for t in range(tokens.shape[1]):
            assert torch.equal(prefixes[:, t], reward(tokens[:, : t + 1], COPIES, TARGETS))


def test_an_unfinished_word_counts_as_if_it_ended_there(device: torch.device, vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode_target("a summing")
    assert vocabulary.decode(ids[:-3]) != "a" and len(ids) > 5  # "summing" is pieces, and "a" one of its own
    targets = [vocabulary.decode(ids[:-3])]
    rewards = RougeReward(vocabulary, "rouge_l", "precision", "surface").prefixes(
        torch.tensor([ids], device=device), [[]], targets
    )
    # Whole at the prefix that spells the target, and then a word more that is not in it.
    assert rewards[0, len(ids) - 4] == 1.0 and rewards[0, -1] == 0.5


def test_no_text_is_made_of_ids_and_nothing_is_waited_for(
    device: torch.device, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward = RougeReward(vocabulary, "rouge_1", "fmeasure", "surface")
    monkeypatch.delattr(Vocabulary, "decode")
    monkeypatch.delattr(Vocabulary, "decode_rows")
    for name in ("tolist", "item", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, None, raising=False)
    tokens = torch.tensor(random_rows(vocabulary, COPIES, 3), device=device)
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        rewards = [reward(tokens, COPIES, TARGETS), reward.prefixes(tokens, COPIES, TARGETS)]
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert all(x.any() for x in rewards)


def test_rewards_of_nothing(device: torch.device, vocabulary: Vocabulary) -> None:
    reward = RougeReward(vocabulary, "rouge_2", "fmeasure", "surface")
    nothing = torch.zeros(2, 0, dtype=torch.int64, device=device)
    assert reward(nothing, [[]], ["a b"]).tolist() == [0.0, 0.0]
    assert reward.prefixes(nothing, [[]], ["a b"]).shape == (2, 0)
    assert reward(torch.full((2, 3), PAD, device=device), [[]], ["a b"]).tolist() == [0.0, 0.0]
