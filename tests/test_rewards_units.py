import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import TERMS, expected, random_rows, source_batch, words_of
from rouge_score.rouge_scorer import RougeScorer
from tiny import char_vocabulary, reward_config, text_batch

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.rewards.units import Stems
from rlseq2seq.token_ids import END, PAD, START

METRICS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def kept(ids: list[int]) -> list[int]:
    """Ids up to the first end token that are pieces."""
    ids = ids[: ids.index(END)] if END in ids else ids
    return [id_ for id_ in ids if id_ not in (PAD, START)]


@pytest.mark.parametrize("term", [term for term in TERMS if term != "chrf"])
def test_pieces_are_compared_as_ids(
    device: torch.device, vocabulary: Vocabulary, word_vocabulary: Vocabulary, term: str
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        batch = source_batch(pieces, device)
        tokens = random_rows(pieces, batch, 4)
        rewards = WeightedReward(pieces, reward_config(metric=term, words="pieces"), 1)(
            torch.tensor(tokens, device=device), batch
        )
        targets = [pieces.encode_target(*pair) for pair in zip(batch.target_texts, batch.copies, strict=True)]
        sources = batch.sources.tolist()
        for i, row in enumerate(tokens):
            written, wanted, source = kept(row), kept(targets[i // 4]), kept(sources[i // 4])
            wanted = [-1 if id_ == 1 else id_ for id_ in wanted]  # unknown
            texts = [" ".join(f"p{id_}".replace("-", "x") for id_ in ids) for ids in (written, wanted, source)]
            assert rewards[i].item() == pytest.approx(expected(term, texts), abs=2e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_stems_are_those_of_rouge_score(device: torch.device, vocabulary: Vocabulary, metric: str) -> None:
    # Without punctuation, surface words are those of rouge-score.
    sources = ["sum", "mean"]
    targets = ["computes the columns along returned values", "splitting arrays computed summing"]
    texts = ["compute column value", "returning the sums along", "split array computing", "summed the means"]
    batch = text_batch(vocabulary, sources, targets, device)
    rows = [vocabulary.encode_target(text) for text in texts]
    texts = [vocabulary.decode(row) for row in rows]
    tokens = torch.tensor([row + [PAD] * (30 - len(row)) for row in rows], device=device)
    reward = WeightedReward(vocabulary, reward_config(metric=metric, words="stemmed"), 1)
    scorer = RougeScorer([METRICS[metric]], use_stemmer=True)
    found = reward(tokens, batch).tolist()
    assert found == pytest.approx(
        [scorer.score(targets[i // 2], text)[METRICS[metric]].fmeasure for i, text in enumerate(texts)]
    )
    plain = WeightedReward(vocabulary, reward_config(metric=metric), 1)
    assert found != plain(tokens, batch).tolist() or metric == "rouge_2"


@given(st.lists(st.text(max_size=16), min_size=1, max_size=3))
def test_stems_are_found_for_any_text(texts: list[str]) -> None:
    pieces = char_vocabulary()
    batch = text_batch(pieces, texts, texts)
    stems = Stems(pieces)
    found = stems.of_ids(batch.sources, batch, prefixes=False)
    for row, ids in enumerate(batch.sources.tolist()):
        words = words_of(pieces.decode(ids, batch.copies[row]), "stemmed")
        assert found.lengths[row] == len(words)
        expected_hashes = stems.of_targets(text_batch(pieces, texts[:1], [pieces.decode(ids, batch.copies[row])]))[0][
            0
        ].tolist()
        assert found.hashes[row, : len(words)].tolist() == expected_hashes[: len(words)]


def test_words_of_up_to_three_letters_are_left_as_they_are(device: torch.device) -> None:
    pieces = char_vocabulary()
    batch = text_batch(pieces, ["has sums"], ["ha sum"], device)
    reward = WeightedReward(pieces, reward_config(metric="rouge_1", words="stemmed"), 1)
    assert reward(batch.sources, batch).item() == 0.5  # "sums" is "sum", and "has" is not "ha"


def test_a_word_is_stemmed_once_and_from_then_on_no_text_is_made(
    device: torch.device, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = source_batch(vocabulary, device)
    tokens = torch.tensor(random_rows(vocabulary, batch, 4), device=device)
    reward = WeightedReward(vocabulary, reward_config(words="stemmed"), 1)
    before = reward.prefixes(tokens, batch)
    monkeypatch.delattr(Vocabulary, "decode")
    assert torch.equal(reward.prefixes(tokens, batch), before)
    assert torch.equal(reward(tokens, batch), before[:, -1])
    monkeypatch.setattr("rlseq2seq.rewards.units._MOST_STEMS", 3)
    with pytest.raises(AttributeError, match="decode"):  # forgotten: the memory is bounded
        reward(tokens, batch)
    monkeypatch.undo()
    assert torch.equal(reward.prefixes(tokens, batch), before)


@pytest.mark.parametrize("words", ["surface", "stemmed"])
def test_an_unfinished_word_counts_as_if_it_ended_there(
    device: torch.device, vocabulary: Vocabulary, words: str
) -> None:
    ids = vocabulary.encode_target("a summing")
    assert vocabulary.decode(ids[:-3]) != "a" and len(ids) > 5  # "summing" is pieces, and "a" one of its own
    batch = text_batch(vocabulary, ["a"], [vocabulary.decode(ids[:-3])], device)
    reward = WeightedReward(vocabulary, reward_config(words=words, measure="precision"), 1)
    rewards = reward.prefixes(torch.tensor([ids], device=device), batch)
    # Whole at the prefix that spells the target, and then a word that is not in it.
    assert rewards[0, len(ids) - 4] == 1.0 and rewards[0, -1] == 0.5
