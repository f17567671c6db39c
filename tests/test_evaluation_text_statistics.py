import tracemalloc

import pytest

from rlseq2seq.evaluation.text_statistics import text_statistics


def test_by_hand() -> None:
    statistics = text_statistics(["a b c A B C", "x , y"], ["a b", "x y"])
    assert statistics == {
        "words": pytest.approx(9 / 2),
        "empty": 0,
        "repetition": pytest.approx(1 / 5),  # a b c, of a b c, b c a, c a b, a b c and x , y
        "punctuation": pytest.approx(1 / 9),
        "novel_1": pytest.approx(3 / 9),  # c twice, and the comma
        "novel_2": pytest.approx(5 / 7),  # all but a b, twice
        "novel_3": pytest.approx(5 / 5),
    }


def test_a_row_of_commas_shows() -> None:
    statistics = text_statistics(["the sum , , , , , ,"], ["the sum"])
    assert statistics["words"] == 8
    assert statistics["punctuation"] == pytest.approx(6 / 8)
    assert statistics["repetition"] == pytest.approx(3 / 6)  # the sum , / sum , , / , , , four times


def test_a_copy_is_neither_novel_nor_repeated() -> None:
    statistics = text_statistics(["return the sum"], ["Return the sum of all"])
    assert [statistics[key] for key in ("novel_1", "novel_2", "novel_3", "repetition")] == [0, 0, 0, 0]


def test_words_novel_in_their_own_source_count_though_another_source_has_them() -> None:
    assert text_statistics(["a", "b"], ["b", "a"])["novel_1"] == 1


def test_texts_too_short_to_tell_count_neither_way() -> None:
    longer = text_statistics(["a b c a b c"], ["a"])
    with_short = text_statistics(["a b c a b c", "a b", ""], ["a", "a b", "a"])
    assert with_short["repetition"] == longer["repetition"] == pytest.approx(1 / 4)
    assert with_short["novel_3"] == longer["novel_3"] == 1


def test_empty_texts_are_counted() -> None:
    statistics = text_statistics(["", " \n", "."], ["a", "b", "c"])
    assert statistics["empty"] == 2
    assert statistics["words"] == pytest.approx(1 / 3)
    assert set(text_statistics([], []).values()) == {0}


@pytest.mark.parametrize(("text", "share"), [("x_y", 1 / 3), ("€5 + 3", 1 / 2), ("naïve 東京", 0), ("क्या", 0)])
def test_punctuation_is_marks_and_symbols_in_any_alphabet(text: str, share: float) -> None:
    assert text_statistics([text], [""])["punctuation"] == pytest.approx(share)


def test_each_text_needs_its_source() -> None:
    with pytest.raises(ValueError):
        text_statistics(["a", "b"], ["a"])


def test_the_words_of_the_sources_are_not_all_held_at_once() -> None:
    sources = [" ".join(f"w{i}x{j}" for j in range(500)) for i in range(40)]
    tracemalloc.start()
    text_statistics(["a"] * 40, sources)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # those of all are over a million bytes, the n-grams of one some 200,000
