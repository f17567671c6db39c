import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import sentences, tokenization_config

from rlseq2seq.data.vocabulary import CONFIG_FILE, Vocabulary, piece_text, prepare
from rlseq2seq.errors import UserError
from rlseq2seq.processes import CHUNK
from rlseq2seq.token_ids import END, PAD, START, UNKNOWN

TYPES = ("unigram", "bpe", "word", "char")
SIZES = {"unigram": 40, "bpe": 60, "word": 24, "char": 28}

kinds = st.sampled_from(TYPES)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# Letters, digits and marks that the vocabularies know, and those that normalisation changes or they have never seen.
tricky_text = st.text(st.sampled_from("ateu ,.  \t\nAZ09_-<>/séÉﬁ\uff21①日本Ω\u3000\u2581"), max_size=40)


@cache
def vocabulary(kind: str, **changes: object) -> Vocabulary:
    config = tokenization_config(
        **{"type": kind, "vocabulary_size": SIZES[kind], "max_source_tokens": 400, "max_target_tokens": 401, **changes}
    )
    return Vocabulary.train(sentences(), sentences(), config)


def normal(text: str, kind: str) -> str:
    """``text`` in lower case and NFKC, with single spaces."""
    if kind == "word":
        text = re.sub(r"([^\w\s])", r" \1 ", text)
    text = text.replace("\u2581", " ")  # sentencepiece's own sign of a space
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


@given(kinds, tricky_text)
@example("word", "never seen words, in a row")
def test_text_comes_back_normalised(kind: str, text: str) -> None:
    pieces = vocabulary(kind, split_identifiers=False)
    source = pieces.encode_source(text)
    assert pieces.decode(source.ids, source.copies) == normal(text, kind)
    assert pieces.decode(pieces.encode_target(text, source.copies), source.copies) == normal(text, kind)


@pytest.mark.parametrize("kind", TYPES)
def test_text_of_known_pieces_needs_no_copies(kind: str) -> None:
    pieces = vocabulary(kind)
    for text in sentences(20):
        ids = pieces.encode_target(text)
        assert UNKNOWN not in ids and max(ids) < len(pieces)
        assert pieces.decode(ids) == text


def test_case_is_kept_when_asked() -> None:
    texts = ["Return the Sum"] * 20
    pieces = Vocabulary.train(texts, texts, tokenization_config(type="word", lowercase=False))
    assert pieces.decode(pieces.encode_target("Return the Sum")) == "Return the Sum"
    assert pieces.encode_target("return the Sum")[0] == UNKNOWN


def test_a_mark_on_a_letter_is_a_part_of_its_word() -> None:
    texts = ["हिन्दी में , cafe\u0301 !"] * 9
    config = tokenization_config(type="word", vocabulary_size=30, split_punctuation=True)
    pieces = Vocabulary.train(texts, texts, config)
    ids = pieces.encode_target("में cafe\u0301, हिन्दी!")
    assert [pieces.decode([id_]) for id_ in ids[:-1]] == ["में", "café", ",", "हिन्दी", "!"]


@given(kinds, any_text)
@example("char", "</s>")
@example("unigram", "a </s> b <s> <pad> <unk>")
def test_ids_of_a_source_are_pieces_or_its_copies(kind: str, text: str) -> None:
    pieces = vocabulary(kind)
    ids, copies = pieces.encode_source(text)
    assert not {PAD, UNKNOWN, START, END} & set(ids)
    assert len(set(copies)) == len(copies)
    assert not any("\n" in copy or " " in copy or not copy for copy in copies)
    # Extended ids are counted in the order of their first appearance, without a gap.
    extended = [id_ for id_ in ids if id_ >= len(pieces)]
    assert list(dict.fromkeys(extended)) == [len(pieces) + i for i in range(len(copies))]


@given(kinds, any_text, any_text)
@example("bpe", "</s>", "</s> a")
@example("unigram", "日本", "日本語")
def test_ids_of_a_target_end_once_and_point_into_the_copies(kind: str, source: str, target: str) -> None:
    pieces = vocabulary(kind)
    copies = pieces.encode_source(source).copies
    ids = pieces.encode_target(target, copies)
    assert ids[-1] == END and ids.count(END) == 1
    assert not {PAD, START} & set(ids)
    assert max(ids) < len(pieces) + len(copies)
    # With and without the copies, the same places are out of the vocabulary.
    alone = pieces.encode_target(target)
    assert [UNKNOWN if id_ >= len(pieces) else id_ for id_ in ids] == alone


@given(kinds, any_text)
def test_what_the_source_has_is_never_unknown_in_the_target(kind: str, text: str) -> None:
    pieces = vocabulary(kind, split_identifiers=False)
    source = pieces.encode_source(text)
    assert pieces.encode_target(text, source.copies) == [*source.ids, END]


@given(kinds, any_text, st.integers(1, 12), st.integers(2, 12))
def test_cutting_leaves_a_prefix_and_the_end(kind: str, text: str, source_limit: int, target_limit: int) -> None:
    whole = vocabulary(kind)
    cut = Vocabulary(
        whole.model,
        tokenization_config(type=kind, max_source_tokens=source_limit, max_target_tokens=target_limit),
    )
    source, target = cut.encode_source(text), cut.encode_target(text)
    whole_source, whole_target = whole.encode_source(text), whole.encode_target(text)
    assert source.ids == whole_source.ids[:source_limit]
    assert source.copies == whole_source.copies[: len(source.copies)]
    assert target == [*whole_target[:-1][: target_limit - 1], END]


@pytest.mark.parametrize("kind", TYPES)
def test_an_unknown_that_only_the_target_has_is_the_unknown_token(kind: str) -> None:
    pieces = vocabulary(kind)
    source = pieces.encode_source("日 the sum")
    assert UNKNOWN in pieces.encode_target("本 the sum", source.copies)
    copied = pieces.encode_target("the 日", source.copies)
    assert UNKNOWN not in copied and len(pieces) in copied


def test_each_unknown_word_is_a_copy_of_its_own() -> None:
    pieces = vocabulary("word")
    ids, copies = pieces.encode_source("frobnicate the quux quux frobnicate zork")
    size = len(pieces)
    assert [id_ - size for id_ in ids if id_ >= size] == [0, 1, 1, 0, 2]
    assert [pieces.decode([size + i], copies) for i in range(3)] == ["frobnicate", "quux", "zork"]
    target = pieces.encode_target("zork, frobnicate!", copies)
    assert target == [size + 2, pieces.encode_target(",")[0], size, UNKNOWN, END]
    assert pieces.decode(target, copies) == "zork , frobnicate ⁇"


def test_texts_cannot_spell_reserved_ids() -> None:
    digits = ["1 2 3 4 5 6 7 8"] * 20
    for kind in TYPES:
        pieces = Vocabulary.train(digits, digits, tokenization_config(type=kind, vocabulary_size=13))
        for text in ("</s>", "<s>", "<pad>", "<unk>"):
            source = pieces.encode_source(f"1 {text} 2")
            assert min(source.ids) > END
            target = pieces.encode_target(f"1 {text} 2", source.copies)
            assert target == [*source.ids, END]
            assert pieces.decode(target, source.copies).replace(" ", "") == f"1{text}2"


def test_decoding_stops_at_the_first_end_and_passes_over_what_is_no_text() -> None:
    pieces = vocabulary("unigram")
    ids = pieces.encode_target("the sum")
    assert pieces.decode([START, PAD, *ids, *pieces.encode_target("of values"), 10**9]) == "the sum"
    assert pieces.decode([END, *ids]) == ""
    assert pieces.decode([]) == ""
    assert pieces.decode([UNKNOWN, UNKNOWN, *ids]) == "⁇ ⁇ the sum"


def test_texts_of_pieces_joined_are_the_decoded_text_but_for_spaces() -> None:
    for kind in TYPES:
        pieces = vocabulary(kind)
        texts = pieces.piece_texts()
        assert len(texts) == len(pieces) and texts[END] == texts[PAD] == texts[START] == ""
        source = pieces.encode_source("the sum of Zürich, 東京 x")
        ids = [START, *source.ids, PAD, UNKNOWN, END]
        texts += [piece_text(copy) for copy in source.copies]
        assert "".join(texts[i] for i in ids).split() == pieces.decode(ids, source.copies).split()


def test_an_extended_id_without_its_copies_is_an_error() -> None:
    pieces = vocabulary("word")
    with pytest.raises(IndexError):
        pieces.decode([len(pieces)])


def test_rows_are_decoded_with_the_copies_of_their_source() -> None:
    pieces = vocabulary("word")
    rows = [[len(pieces), END], [len(pieces) + 1, END]] * 2
    assert pieces.decode_rows(rows, [["▁a1", "▁a2"], ["▁b1", "▁b2"]]) == ["a1", "a2", "b1", "b2"]
    assert pieces.decode_rows([], []) == []


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("get_tensorShape", "get tensor Shape"),
        ("HTTPServer", "HTTP Server"),
        ("parseHTMLPage2Text", "parse HTML Page2 Text"),
        ("__init__", "init"),
        ("lower UPPER Title", "lower UPPER Title"),
        ("x1Y", "x1 Y"),
        ("a.bC_d(eF)", "a.b C d(e F)"),
        ("", ""),
    ],
)
def test_identifiers_of_sources_are_split(text: str, split: str) -> None:
    config = tokenization_config()
    assert " ".join(prepare(text, config, is_source=True).split()) == split
    assert prepare(text, config, is_source=False) == text
    assert prepare(text, tokenization_config(split_identifiers=False), is_source=True) == text


def test_marks_are_words_where_words_are_pieces() -> None:
    config = tokenization_config(type="word", split_identifiers=False)
    assert prepare("f(x_1)=a.b", config, is_source=False).split() == ["f", "(", "x_1", ")", "=", "a", ".", "b"]


@pytest.mark.parametrize("kind", TYPES)
def test_the_first_ids_are_the_reserved_ones(kind: str) -> None:
    pieces = vocabulary(kind)
    assert (PAD, UNKNOWN, START, END) == (0, 1, 2, 3)
    assert len(pieces) == SIZES[kind]
    assert min(min(pieces.encode_target(text)[:-1]) for text in sentences(50)) > END


@pytest.mark.parametrize("kind", ["unigram", "word", "char"])
def test_a_size_beyond_what_the_texts_hold_gives_what_they_hold(kind: str) -> None:
    texts = ["a b c"] * 20
    pieces = Vocabulary.train(texts, texts, tokenization_config(type=kind, vocabulary_size=5000))
    assert END < len(pieces) < 20
    assert pieces.decode(pieces.encode_target("c b a")) == "c b a"


@pytest.mark.parametrize(("kind", "size"), [("bpe", 5000), ("bpe", 8), ("unigram", 8)])
def test_a_size_that_cannot_be_made_is_told_in_a_line(kind: str, size: int) -> None:
    texts = ["the quick brown fox jumps over the lazy dog"] * 20
    with pytest.raises(UserError, match=rf"^tokenization\.vocabulary_size is {size}: .* {kind} vocabulary") as caught:
        Vocabulary.train(texts, texts, tokenization_config(type=kind, vocabulary_size=size))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("texts", [[], [""], ["  \n "]])
@pytest.mark.parametrize("kind", TYPES)
def test_no_training_text_is_told_in_a_line(kind: str, texts: list[str]) -> None:
    with pytest.raises(UserError, match=r"^tokenization\.vocabulary_size is ") as caught:
        Vocabulary.train(texts, texts, tokenization_config(type=kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", TYPES)
def test_training_is_reproducible(kind: str) -> None:
    assert vocabulary(kind).model == Vocabulary.train(sentences(), sentences(), vocabulary(kind).config).model


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_pieces_do_not_depend_on_the_number_of_processes(kind: str) -> None:
    texts, config = sentences(2 * CHUNK + 7), vocabulary(kind).config
    one, two = (Vocabulary.train(iter(texts), iter(texts), config, workers) for workers in (1, 2))
    assert one.model == two.model


def test_the_most_frequent_words_are_learned_whatever_their_characters() -> None:
    words = [f"w{i}" for i in range(50)] + ["naïve", "日本", "Ω", "x-ray's"]
    texts = [" ".join(words[i:]) for i in range(len(words))]  # the last is the most frequent
    config = tokenization_config(type="word", vocabulary_size=9, max_source_tokens=99, split_punctuation=False)
    pieces = Vocabulary.train(texts, [""] * len(texts), config)
    assert [pieces.decode([id_]) for id_ in range(END + 1, 9)] == ["x-ray's", "ω", "日本", "naïve", "w49"]


def test_a_word_with_a_rare_character_is_learned() -> None:
    texts = ["the sum of a"] * 3000 + ["naïve"] * 3  # one character in ten thousand
    pieces = Vocabulary.train(texts, texts, tokenization_config(type="word", vocabulary_size=9))
    assert pieces.decode([8]) == "naïve"


def test_of_long_texts_a_sample_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, config, given = sentences(300), vocabulary("unigram").config, []

    def learn(lines: Iterable[str], _: object) -> bytes:
        given.append(list(lines))
        return vocabulary("unigram").model

    monkeypatch.setattr("rlseq2seq.data.vocabulary._train", learn)
    size = 2 * sum(map(len, texts))
    for limit in (size, size - 1, size // 5, size // 5):
        monkeypatch.setattr("rlseq2seq.data.vocabulary._SAMPLE", limit)
        Vocabulary.train(texts, texts, config)
    every, half, few, again = given
    assert every == texts + texts
    for sample, limit in ((half, size - 1), (few, size // 5)):
        assert limit / 3 < sum(map(len, sample)) <= limit
        there = iter(every)
        assert all(line in there for line in sample)  # in their order
        assert sample[: len(sample) // 2] == sample[len(sample) // 2 :]  # whole pairs
    assert again == few


def test_words_past_the_limits_are_not_learned() -> None:
    config = tokenization_config(type="word", vocabulary_size=1000, max_source_tokens=2, max_target_tokens=3)
    pieces = Vocabulary.train(["one two hidden"] * 9, ["one three four concealed"] * 9, config)
    _, copies = pieces.encode_source("one two")
    assert copies == []
    unknown = [pieces.encode_target(word)[0] == UNKNOWN for word in ("one", "three", "four", "hidden", "concealed")]
    assert unknown == [False, False, False, True, True]


@pytest.mark.parametrize("kind", TYPES)
def test_save_and_load(kind: str, tmp_path: Path) -> None:
    pieces = vocabulary(kind)
    pieces.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert (loaded.config, loaded.model, len(loaded)) == (pieces.config, pieces.model, len(pieces))
    text = "return the 日本 sum_ofValues"
    assert loaded.encode_source(text) == pieces.encode_source(text)


def test_what_is_not_saved_whole_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Vocabulary.load(tmp_path)
    vocabulary("unigram").save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**config, "lowercase": "yes"}))
    with pytest.raises(UserError, match=r"tokenizer\.json\.lowercase is 'yes'"):
        Vocabulary.load(tmp_path)
