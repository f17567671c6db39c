from dataclasses import fields, replace

import pytest
import torch
from reward_cases import EACH, SOURCES, TARGETS, TERMS, expected, random_rows, source_batch
from tiny import reward_config, select, text_batch
from waiting import nothing_waits

from rlseq2seq.config.reward import AddedTerms
from rlseq2seq.data.batches import Batch
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import END, PAD, START, UNKNOWN

WORDS = ["surface", "cased", "rouge", "stemmed", "pieces"]


def written_texts(vocabulary: Vocabulary, batch: Batch, tokens: torch.Tensor) -> list[tuple[str, str, str]]:
    """Texts of hypotheses, their references, and their sources as the model reads them."""
    texts = vocabulary.decode_rows(tokens.tolist(), batch.copies)
    sources = vocabulary.decode_rows(batch.sources.tolist(), batch.copies)
    each = len(texts) // len(sources)
    return [(text, batch.target_texts[i // each], sources[i // each]) for i, text in enumerate(texts)]


def reward_of(vocabulary: Vocabulary, term: str, **changes: object) -> WeightedReward:
    return WeightedReward(vocabulary, reward_config(metric=term, **changes), 1)


@pytest.mark.parametrize("words", [name for name in WORDS if name != "pieces"])
@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_what_its_judge_gives_for_the_texts(
    device: torch.device, vocabulary: Vocabulary, word_vocabulary: Vocabulary, term: str, words: str
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        batch = source_batch(pieces, device)
        for seed in range(3):
            tokens = torch.tensor(random_rows(pieces, batch, seed), device=device)
            rewards = reward_of(pieces, term, words=words)(tokens, batch)
            assert rewards.shape == (len(tokens),) and rewards.dtype == torch.float32
            assert rewards.device == tokens.device and rewards.any()
            found = [expected(term, texts, words) for texts in written_texts(pieces, batch, tokens)]
            assert rewards.tolist() == pytest.approx(found, abs=2e-6)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("term", TERMS)
def test_the_reward_of_a_prefix_is_the_reward_of_what_it_spells(
    device: torch.device, vocabulary: Vocabulary, word_vocabulary: Vocabulary, term: str, words: str
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        batch = source_batch(pieces, device)
        tokens = torch.tensor(random_rows(pieces, batch, 5), device=device)
        reward = reward_of(pieces, term, words=words)
        prefixes = reward.prefixes(tokens, batch)
        assert prefixes.shape == tokens.shape and prefixes.device == tokens.device
        for t in range(tokens.shape[1]):
            torch.testing.assert_close(prefixes[:, t], reward(tokens[:, : t + 1], batch), rtol=0, atol=1e-7)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("term", TERMS)
def test_a_reward_stops_at_the_first_end_token(
    device: torch.device, word_vocabulary: Vocabulary, term: str, words: str
) -> None:
    the, total, mean = word_vocabulary.encode_target("the sum mean")[:3]
    rows = [[the, total, END, PAD, PAD, PAD], [the, total, END, the, total, mean], [the, total, PAD, START, END, mean]]
    batch = text_batch(word_vocabulary, ["of the sum"], ["the sum"], device)
    reward = reward_of(word_vocabulary, term, words=words, ngram=1)
    whole, *others = reward(torch.tensor(rows, device=device), batch).tolist()
    assert others == [whole, whole]
    cut = reward.prefixes(torch.tensor(rows, device=device), batch)
    assert (cut[:, 1:] == whole).all()
    unending = reward(torch.tensor([[the, total, mean, the, total, mean]], device=device), batch).item()
    assert unending != whole


@pytest.mark.parametrize("words", WORDS)
def test_a_row_s_reward_depends_on_no_other_row_and_on_no_padding(
    device: torch.device, vocabulary: Vocabulary, words: str
) -> None:
    batch = source_batch(vocabulary, device)
    tokens = torch.tensor(random_rows(vocabulary, batch, 7), device=device)
    config = reward_config(words=words, add=dict.fromkeys(TERMS, 0.3))
    reward = WeightedReward(vocabulary, config, 1)
    whole = reward(tokens, batch)
    for source in range(len(SOURCES)):
        one = select(batch, [source])
        width = int(one.source_lengths[0])
        one = replace(one, sources=one.sources[:, :width])
        rows = tokens[source * EACH : (source + 1) * EACH]
        padded = torch.nn.functional.pad(rows, (0, 5), value=PAD)
        for mine in (reward(rows, one), reward(padded, one), reward(rows.repeat(2, 1), one)[EACH:]):
            torch.testing.assert_close(mine, whole[source * EACH : (source + 1) * EACH], rtol=0, atol=1e-6)


def test_terms_are_added_up_times_their_weights(device: torch.device, vocabulary: Vocabulary) -> None:
    batch = source_batch(vocabulary, device)
    tokens = torch.tensor(random_rows(vocabulary, batch, 8), device=device)
    weights = {"rouge_2": 0.5, "bleu": 0.25, "chrf": 2.0, "length": 0.1, "repetition": 1.5, "rouge_l": 0.5}
    reward = WeightedReward(vocabulary, reward_config(metric="rouge_l", add=weights), 1)
    for way in ("__call__", "prefixes"):
        total = getattr(reward_of(vocabulary, "rouge_l"), way)(tokens, batch)
        for term, weight in weights.items():
            total = total + weight * getattr(reward_of(vocabulary, term), way)(tokens, batch)
        torch.testing.assert_close(getattr(reward, way)(tokens, batch), total)


def test_no_text_is_made_of_ids_and_nothing_is_waited_for(
    device: torch.device, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = source_batch(vocabulary, device)
    tokens = torch.tensor(random_rows(vocabulary, batch, 3), device=device)
    rewards = [
        WeightedReward(vocabulary, reward_config(words=words, add=dict.fromkeys(TERMS, 1.0)), 1)
        for words in ("surface", "cased", "rouge", "pieces")
    ]
    monkeypatch.delattr(Vocabulary, "decode")
    monkeypatch.delattr(Vocabulary, "decode_rows")
    with nothing_waits(device):
        found = [way(tokens, batch) for reward in rewards for way in (reward, reward.prefixes)]
    assert all(x.any() for x in found)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("term", TERMS)
def test_rewards_of_nothing(device: torch.device, vocabulary: Vocabulary, term: str, words: str) -> None:
    reward = reward_of(vocabulary, term, words=words)
    nothing = torch.zeros(4, 0, dtype=torch.int64, device=device)
    for sources, targets in ((["", "the"], ["a b", ""]), (["", ""], ["", ""])):
        batch = text_batch(vocabulary, sources, targets, device)
        assert reward(nothing, batch).tolist() == [0.0] * 4
        assert reward.prefixes(nothing, batch).shape == (4, 0)
        for token in (PAD, END):
            empty = torch.full((4, 3), token, device=device)
            assert reward(empty, batch).tolist() == [0.0] * 4
            assert not reward.prefixes(empty, batch).any()


def test_rows_of_a_source_read_its_own_copies(device: torch.device, word_vocabulary: Vocabulary) -> None:
    batch = text_batch(word_vocabulary, ["zorp", "quux zorp"], ["zorp", "zorp"], device)
    size = len(word_vocabulary)
    assert batch.sources.tolist() == [[size, PAD], [size, size + 1]]
    tokens = torch.tensor([[size, END], [END, PAD], [size, END], [size + 1, END]], device=device)
    for words in WORDS:
        reward = reward_of(word_vocabulary, "rouge_l", words=words, measure="recall")
        assert reward(tokens, batch).tolist() == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("words", WORDS)
def test_an_unknown_token_is_never_what_was_asked_for(
    device: torch.device, word_vocabulary: Vocabulary, words: str
) -> None:
    batch = text_batch(word_vocabulary, ["the sum"], ["the zorp"], device)
    assert UNKNOWN in batch.targets[0].tolist()
    tokens = torch.tensor([[UNKNOWN, END], [batch.targets[0, 0].item(), UNKNOWN]], device=device)
    for term in ("rouge_1", "copy_rate"):
        found = reward_of(word_vocabulary, term, words=words, measure="recall")(tokens, batch).tolist()
        # It is no word of rouge-score's, and so leaves "the" to be all that is written.
        assert found == [0.0, 1.0 if (term, words) == ("copy_rate", "rouge") else 0.5]


def test_every_term_has_a_weight() -> None:
    assert {field.name for field in fields(AddedTerms)} == {*TERMS, "function"}
    assert TARGETS[-1] == ""  # an empty reference is among the cases


def test_commas_and_endless_texts_are_paid_no_more(device: torch.device, word_vocabulary: Vocabulary) -> None:
    """Loopholes of a reward that counts no punctuation, or recall alone, and the terms that close them."""
    ids = {text: word_vocabulary.encode_target(text)[:-1] for text in ("the sum", ",", "the sum of values rows")}
    rows = [ids["the sum"], ids["the sum"] + ids[","] * 6, ids["the sum of values rows"] * 2]
    tokens = torch.tensor([[*row, *[END] * (12 - len(row))] for row in rows], device=device)
    batch = text_batch(word_vocabulary, ["the sum"], ["the sum"], device)

    def rewards(**changes: object) -> list[float]:
        return reward_of(word_vocabulary, "rouge_l", **changes)(tokens, batch).tolist()

    assert rewards(words="rouge")[:2] == [1.0, 1.0]  # the loophole
    assert rewards(measure="recall") == [1.0, 1.0, 1.0]  # another
    for changes in ({"beta": 1.4}, {"words": "stemmed"}, {"words": "pieces"}, {"measure": "precision"}):
        right, *cheated = rewards(**changes)
        assert right == pytest.approx(1.0) and max(cheated) < 0.7
    for term in ("repetition", "length"):
        right, *cheated = rewards(measure="recall", add={term: 1.0}, ngram=1)
        assert max(cheated) < right - 0.3
