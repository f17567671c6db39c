import gzip
from pathlib import Path

import pytest
import torch
from tiny import reward_config, text_batch, tiny_model, tokenization_config

from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.vocabulary import Vocabulary, normalizer
from rlseq2seq.data.vocabulary_file import read_words
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.errors import UserError
from rlseq2seq.generation import Generator
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import END, UNKNOWN

TOKENISED = tokenization_config(type="word", split_punctuation=False, vocabulary_size=100, max_target_tokens=20)
# In an order that neither counts nor letters give, with characters that are rare, or signs of sentencepiece's.
LINES = "zebra 9\n. 9\nthe 9\n-lrb- 70\n's 5\nnaïve 5\n'' 4\n日本 4\n$ 3\n1,000 3\n<b> 2\na 0\n"
WORDS = ["zebra", ".", "the", "-lrb-", "'s", "naïve", "''", "日本", "$", "1,000", "<b>", "a"]


def vocabulary_of(tmp_path: Path, text: str, config: TokenizationConfig, count: int = 96) -> Vocabulary:
    (tmp_path / "vocab").write_text(text)
    return Vocabulary.of_words(read_words(tmp_path / "vocab", count, normalizer(config)).words, config)


def pieces_of(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.decode([id_]) for id_ in range(END + 1, len(vocabulary))]


def test_the_vocabulary_is_the_file_s_words_in_the_file_s_order(tmp_path: Path) -> None:
    assert pieces_of(vocabulary_of(tmp_path, LINES, TOKENISED)) == WORDS
    assert pieces_of(vocabulary_of(tmp_path, LINES, TOKENISED, count=5)) == WORDS[:5]
    (tmp_path / "vocab.gz").write_bytes(gzip.compress(LINES.encode()))
    assert read_words(tmp_path / "vocab.gz", 96, normalizer(TOKENISED)).words == WORDS


def test_many_words_keep_their_order(tmp_path: Path) -> None:
    words = [f"{chr(0x4E00 + i % 5000)}{(i * 7919) % 50_000}" for i in range(50_000)]
    config = tokenization_config(type="word", split_punctuation=False, vocabulary_size=50_004)
    assert pieces_of(vocabulary_of(tmp_path, "".join(f"{w} 1\n" for w in words), config, count=50_000)) == words


def test_words_of_tokenised_texts_are_found_whole(tmp_path: Path) -> None:
    vocabulary = vocabulary_of(tmp_path, LINES, TOKENISED)
    text = "the zebra 's 1,000 $ -lrb- naïve '' ."
    assert vocabulary.encode_source(text).copies == []
    assert vocabulary.decode(vocabulary.encode_target(text)) == text
    # Set apart, the marks of the same text are words that the file lacks.
    split = Vocabulary(vocabulary.model, tokenization_config(type="word", vocabulary_size=100))
    assert UNKNOWN in split.encode_target(text)


def test_words_that_no_text_can_hold_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "vocab").write_text("The 9\nthe 8\n0800\u00a0555 7\n\u00a0 7\n2 1/2 7\nend 6\nthe 5\n's 4\n½ 3\n")
    config = tokenization_config(type="word")
    found = read_words(tmp_path / "vocab", 96, normalizer(config))
    assert (found.words, found.skipped) == (["the", "end", "1\u20442"], 6)
    cased = read_words(tmp_path / "vocab", 96, normalizer(tokenization_config(type="word", lowercase=False)))
    assert cased.words == ["The", "the", "end", "1\u20442"]


@pytest.mark.parametrize(
    "line", ["word", "word\n", "\n", "12", "word seven", "word -1", "word 1.5", "", b"\xff 3".decode("latin-1")]
)
def test_a_line_that_is_no_word_and_count_is_told(tmp_path: Path, line: str) -> None:
    (tmp_path / "vocab").write_bytes(f"the 9\n{line}\nend 2\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"vocab, line 2 is no word and its count: correct or take out the line$"):
        read_words(tmp_path / "vocab", 96, normalizer(TOKENISED))


@pytest.mark.parametrize("text", ["", "2 1/2 7\n"])
def test_no_words_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab").write_text(text)
    with pytest.raises(UserError, match=r"vocab has no words: a vocabulary file has a word and its count a line$"):
        read_words(tmp_path / "vocab", 96, normalizer(TOKENISED))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^tokenization\.vocabulary_file asks for '.*vocab', and there is no such file"
    ):
        read_words(tmp_path / "vocab", 96, normalizer(TOKENISED))


@pytest.mark.parametrize("name", ["<s>", "</s>", "<unk>", "<pad>"])
def test_names_of_reserved_ids_are_not_among_the_words(tmp_path: Path, name: str) -> None:
    vocabulary = vocabulary_of(tmp_path, f"{name} 9\nthe 8\n", TOKENISED)
    assert pieces_of(vocabulary) == ["the"]
    source = vocabulary.encode_source(f"the {name}")
    assert vocabulary.decode(source.ids, source.copies) == f"the {name}" and source.copies


def test_a_name_that_the_file_lacks_is_copied_printed_and_rewarded(tmp_path: Path, device: torch.device) -> None:
    vocabulary = vocabulary_of(tmp_path, LINES, TOKENISED)
    model = tiny_model(len(vocabulary), dtype=torch.float32).to(device)
    with torch.no_grad():  # what it attends to is what it writes
        model.gate.weight.zero_()
        model.gate.bias.fill_(-50)
    name = "o'neill-smith"
    assert Generator(model, vocabulary, device).generate([name]) == [" ".join([name] * 20)]
    batch = text_batch(vocabulary, [name, name], [name, "zebra"], device)
    with torch.no_grad():
        memory = model.encode(batch.sources, batch.source_lengths)
        tokens = greedy(model, memory, max_tokens=1).tokens
    assert vocabulary.decode_rows(tokens.tolist(), batch.copies) == [name, name]
    assert WeightedReward(vocabulary, reward_config(), workers=1)(tokens, batch).tolist() == [1.0, 0.0]
