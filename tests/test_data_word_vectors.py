import gzip
import random
from pathlib import Path

import numpy as np
import pytest

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.data.word_vectors import WordVectors, load_word_vectors, read_word_vectors
from rlseq2seq.errors import UserError
from rlseq2seq.token_ids import END

# The reserved ids, then pieces as sentencepiece cuts them: a space where a word begins.
PIECES = ["", " \u2047 ", "", "", " the", " sum", "s", "ing", ",", " ,", " caf\u00e9", " unheard", " "]
GLOVE = "the 0.5 -1.5\nzebra 1 2\nsum 1e-3 2\ning 9 9\n, 3 4\ncaf\u00e9 5 6\nthe 7 7\n\u2047 8 8\n"


def write(folder: Path, content: str | bytes, name: str = "vectors.txt") -> Path:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


def assert_is(found: WordVectors, expected: dict[int, list[float]]) -> None:
    assert found.ids.dtype == np.int64 and found.vectors.dtype == np.float32
    assert found.ids.tolist() == sorted(expected)
    np.testing.assert_array_equal(found.vectors, np.array([expected[i] for i in sorted(expected)], np.float32))


EXPECTED = {4: [0.5, -1.5], 5: [1e-3, 2.0], 8: [3.0, 4.0], 9: [3.0, 4.0], 10: [5.0, 6.0]}


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
@pytest.mark.parametrize("header", ["", "8 2\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_pieces_that_are_words_get_the_first_vector_of_their_word(
    tmp_path: Path, name: str, header: str, end: str
) -> None:
    path = write(tmp_path, (header + GLOVE).replace("\n", end), name)
    assert_is(read_word_vectors(path, PIECES), EXPECTED)


def test_a_last_line_without_an_end_and_blank_lines_are_read(tmp_path: Path) -> None:
    assert_is(
        read_word_vectors(write(tmp_path, "\n" + GLOVE.rstrip() + "\n\nunheard 1 1"), PIECES),
        {**EXPECTED, 11: [1.0, 1.0]},
    )


def test_words_may_hold_spaces_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    # As GloVe's vectors of Common Crawl have them.
    path = write(
        tmp_path, b"sum 1 2\n. . . 3 4\nat name@domain.com 5 6\n\xff\xfe 7 8\nx\xc2\xa0y 1 1\nx\xc2\x85y 1 1\nthe 9 9\n"
    )
    assert_is(read_word_vectors(path, PIECES), {4: [9.0, 9.0], 5: [1.0, 2.0]})


def test_a_real_vocabulary_s_words_are_found(
    tmp_path: Path, vocabulary: Vocabulary, word_vocabulary: Vocabulary
) -> None:
    for pieces in (vocabulary, word_vocabulary):
        words = [pieces.decode([i]) for i in range(END + 1, len(pieces))]
        chooser = random.Random(0)
        lines = [f"{word} {i} {chooser.random()}\n" for i, word in enumerate(words) if word]
        found = read_word_vectors(write(tmp_path, "".join(lines)), pieces.piece_texts())
        assert len(found.ids) > 10
        for id_, vector in zip(found.ids.tolist(), found.vectors.tolist(), strict=True):
            assert words[int(vector[0])] == pieces.decode([id_])
            # Whole words: encoded by themselves they are that piece, or they are punctuation.
            assert pieces.encode_target(pieces.decode([id_]))[:-1] == [id_] or not pieces.decode([id_]).isalnum()


def test_what_is_saved_is_loaded_and_nothing_is_none(tmp_path: Path) -> None:
    assert load_word_vectors(tmp_path) is None
    found = read_word_vectors(write(tmp_path, GLOVE), PIECES)
    found.save(tmp_path)
    loaded = load_word_vectors(tmp_path)
    assert loaded is not None
    assert_is(loaded, EXPECTED)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("the 1 2\nsum 1 2 3\n", "line 2 has 3 numbers and the lines before it 2"),
        ("the 1 2\nzebra 1\n", "line 2 has 1 numbers and the lines before it 2"),
        ("2 2\nthe 1 2\nsum\n", "line 3 has a word and no numbers"),
        ("the\nsum 1 2\n", "line 1 has a word and no numbers"),
        ("the 1 2\nsum 1 2x\n", "line 2: '2x' is no number"),
        ("the 1 nan\n", "line 1: 'nan' is no number"),
        ("the 1 1e39\n", "line 1: '1e39' is no number"),
        ("the 1  2\n", "line 1: '' is no number"),
        ("the 1\t2 3\n", "line 1: '1\\\\t2' is no number"),
        ("zebra 1 2\ning 1 2\n", "has none of the vocabulary's words"),
        ("", "is empty"),
        ("400000 100\n", "is empty"),
    ],
)
def test_what_is_no_file_of_word_vectors_is_told_in_a_sentence(tmp_path: Path, content: str, told: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=told) as caught:
        read_word_vectors(path, PIECES)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_or_cut_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^tokenization\.word_vectors asks for '.*vectors\.txt', and there is no such"):
        read_word_vectors(tmp_path / "vectors.txt", PIECES)
    path = write(tmp_path, GLOVE * 100, "vectors.txt.gz")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is no whole gzip file"):
        read_word_vectors(path, PIECES)
