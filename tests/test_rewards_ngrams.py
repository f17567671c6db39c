from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import ngrams
from tiny import reward_config, text_batch

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.ops import WordHashes
from rlseq2seq.rewards.ngrams import ngram_values
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import END


def rewards(
    vocabulary: Vocabulary, text: str, source: str, device: torch.device, term: str, ngram: int
) -> tuple[float, list[float]]:
    """Of the whole text, and of its prefixes."""
    batch = text_batch(vocabulary, [source], [""], device)
    tokens = torch.tensor([vocabulary.encode_target(text)], device=device)
    reward = WeightedReward(vocabulary, reward_config(metric=term, ngram=ngram), 1)
    return reward(tokens, batch).item(), reward.prefixes(tokens, batch)[0].tolist()


@pytest.mark.parametrize(
    ("term", "ngram", "found"),
    [
        # Of "the sum the sum the mean", words: the third, fourth and fifth repeat; bigrams: the third and the fourth.
        ("repetition", 1, [0, 0, -1 / 3, -2 / 4, -3 / 5, -3 / 6]),
        ("repetition", 2, [0, 0, 0, -1 / 3, -2 / 4, -2 / 5]),
        ("repetition", 3, [0, 0, 0, 0, -1 / 3, -1 / 4]),
        # The source is "of the sum": "sum the" and "the mean" are new, and so are all trigrams.
        ("novelty", 1, [0, 0, 0, 0, 0, 1 / 6]),
        ("novelty", 2, [0, 0, 1 / 2, 1 / 3, 2 / 4, 3 / 5]),
        ("novelty", 3, [0, 0, 1, 1, 1, 1]),
        ("novelty", 4, [0, 0, 0, 1, 1, 1]),
        ("copy_rate", 3, [1, 1, 1, 1, 1, 5 / 6]),
    ],
)
def test_shares_are_counted_by_hand(
    device: torch.device, word_vocabulary: Vocabulary, term: str, ngram: int, found: list[float]
) -> None:
    whole, prefixes = rewards(word_vocabulary, "the sum the sum the mean", "of the sum", device, term, ngram)
    assert prefixes == pytest.approx([*found, found[-1]])
    assert whole == pytest.approx(found[-1])


def test_a_word_does_not_repeat_its_own_beginnings(device: torch.device, vocabulary: Vocabulary) -> None:
    # "s", "su", "sum", "summ" ... are states of one word, and "s" after it has not stood earlier.
    ids = vocabulary.encode_target("summing")[:-1]
    single = [id_ for id_ in ids if len(vocabulary.piece_texts()[id_].strip()) == 1]
    assert len(ids) > 3 and single
    batch = text_batch(vocabulary, [""], [""], device)
    tokens = torch.tensor([[*ids, *vocabulary.encode_target("sum")[:-1], *ids, END]], device=device)
    reward = WeightedReward(vocabulary, reward_config(metric="repetition", ngram=1), 1)
    prefixes = reward.prefixes(tokens, batch)[0].tolist()
    for t, found in enumerate(prefixes):
        words = vocabulary.decode(tokens[0, : t + 1].tolist()).split()
        assert found == pytest.approx(-sum(n - 1 for n in Counter(words).values()) / max(len(words), 1))
    assert prefixes[-1] == pytest.approx(-1 / 3)


@given(st.lists(st.lists(st.integers(-3, 3), max_size=12), min_size=1, max_size=4), st.integers(1, 4))
def test_n_grams_are_equal_where_their_words_are(rows: list[list[int]], n: int) -> None:
    width = max(map(len, rows))
    hashes = torch.tensor([row + [7] * (width - len(row)) for row in rows], dtype=torch.int64).view(len(rows), width)
    # Near ends of the range of hashes, where sums and products wrap around.
    words = WordHashes(hashes * (2**61 + 1), torch.tensor(list(map(len, rows))), None, None)
    values = ngram_values(words, n)
    seen: dict[int, tuple[str, ...]] = {}
    for row, found in zip(rows, values.tolist(), strict=True):
        for gram, value in zip(ngrams(list(map(str, row)), n), found[n - 1 : len(row)], strict=True):
            assert seen.setdefault(value, gram) == gram
    assert len(set(seen.values())) == len(seen)
