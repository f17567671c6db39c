import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import expected
from tiny import char_vocabulary, reward_config, text_batch, tokenization_config

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.overlap import f_measure
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import PAD


def rewards(
    vocabulary: Vocabulary, texts: list[str], target: str, device: torch.device, **changes: object
) -> list[float]:
    batch = text_batch(vocabulary, [""], [target], device)
    rows = [vocabulary.encode_target(text) for text in texts]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [PAD] * (width - len(row)) for row in rows], device=device)
    found: list[float] = WeightedReward(vocabulary, reward_config(**changes), 1)(tokens, batch).tolist()
    return found


def test_f_beta_is_hand_computed() -> None:
    precision, recall = torch.tensor([0.5, 0.0, 1.0]), torch.tensor([0.25, 0.0, 0.2])
    # (1 + b^2) P R / (R + b^2 P): 2 * 0.125 / 0.75; 5 * 0.125 / 2.25; 1.25 * 0.125 / 0.375
    for beta, first in ((1.0, 1 / 3), (2.0, 5 / 18), (0.5, 5 / 12)):
        found = f_measure(precision, recall, beta).tolist()
        assert found[:2] == pytest.approx([first, 0.0])
        assert found[2] == pytest.approx((1 + beta**2) * 0.2 / (0.2 + beta**2))


@pytest.mark.parametrize("words", ["surface", "rouge"])
@pytest.mark.parametrize("measure", ["fmeasure", "recall", "precision"])
def test_a_reward_is_the_measure_and_words_that_were_asked_for(
    device: torch.device, word_vocabulary: Vocabulary, measure: str, words: str
) -> None:
    texts = ["the sum , ,", "the mean of values rows"]
    found = rewards(word_vocabulary, texts, "the sum of values", device, measure=measure, words=words, beta=2.0)
    common, written, wanted = [2, 3], [4 if words == "surface" else 2, 5], 4
    precision, recall = ([c / w for c, w in zip(common, below, strict=True)] for below in (written, [wanted] * 2))
    both = [5 * p * r / (r + 4 * p) for p, r in zip(precision, recall, strict=True)]
    assert found == pytest.approx({"precision": precision, "recall": recall, "fmeasure": both}[measure])


def test_bleu_is_hand_computed(device: torch.device, word_vocabulary: Vocabulary) -> None:
    found = rewards(
        word_vocabulary,
        ["the sum of rows", "the the", "the sum of values", "list"],
        "the sum of values",
        device,
        metric="bleu",
    )
    # Of 4 words 3 match, of 3 bigrams 2, of 2 trigrams 1, of one 4-gram none; 1 is added to all but the first.
    assert found[0] == pytest.approx((3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # One of the two is in a reference of four words: brevity exp(1 - 4 / 2); of what it has none, 1 of 1.
    assert found[1] == pytest.approx(math.exp(-1) * (1 / 2 * 1 / 2) ** 0.25)
    assert found[2:] == pytest.approx([1.0, 0.0])


def test_chrf_is_hand_computed(device: torch.device, word_vocabulary: Vocabulary) -> None:
    (found,) = rewards(word_vocabulary, ["sum a"], "a sum", device, metric="chrf")
    # "suma" against "asum": all letters, 2 of 3 bigrams, 1 of 2 trigrams, no 4-gram; and there are no longer ones.
    assert found == pytest.approx((1 + 2 / 3 + 1 / 2 + 0) / 4)


@pytest.mark.parametrize("metric", ["bleu", "rouge_l", "chrf"])
def test_capitals_differ_from_small_letters_where_words_are_cased(device: torch.device, metric: str) -> None:
    texts = ["Ein Hund auf der Wiese", "ein Hund auf der Wiese"]
    config = tokenization_config(type="char", lowercase=False, max_source_tokens=200, max_target_tokens=200)
    vocabulary = Vocabulary.train(texts, texts, config)
    assert rewards(vocabulary, texts, texts[0], device, metric=metric) == [1.0, 1.0]
    right, wrong = rewards(vocabulary, texts, texts[0], device, metric=metric, words="cased")
    assert right == 1.0 and 0.2 < wrong < 1.0


@pytest.mark.parametrize(("target_words", "wanted"), [(None, 4), (2, 2), (30, 30)])
def test_length_is_nearness_to_what_was_asked_for(
    device: torch.device, word_vocabulary: Vocabulary, target_words: int | None, wanted: int
) -> None:
    texts = ["", "the", "the sum", "the sum of values", "a a a a a a a"]
    found = rewards(word_vocabulary, texts, "the sum of values", device, metric="length", target_words=target_words)
    assert found == pytest.approx([min(n, wanted) / max(n, wanted) for n in (0, 1, 2, 4, 7)])


SPELLED = ["the", "sum", "of", "values", "rows", "mean", "a", ",", "list", "É"]
TEXTS = st.lists(st.sampled_from(SPELLED), max_size=14).map(" ".join)


@pytest.mark.parametrize("term", ["bleu", "chrf"])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_scores_are_sacrebleu_s(pairs: list[tuple[str, str]], term: str) -> None:
    vocabulary = char_vocabulary()
    batch = text_batch(vocabulary, [text for text, _ in pairs], [target for _, target in pairs])
    found = WeightedReward(vocabulary, reward_config(metric=term), 1)(batch.sources, batch).tolist()
    read = vocabulary.decode_rows(batch.sources.tolist(), batch.copies)
    texts = [(text, target, "") for text, (_, target) in zip(read, pairs, strict=True)]
    assert found == pytest.approx([expected(term, text) for text in texts], abs=2e-6)
