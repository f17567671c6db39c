from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from rlseq2seq.rewards.words import cut_words, mean_words, split_words

ROUGE_SCORE = DefaultTokenizer(use_stemmer=False)

# Random Unicode, and text as documentation has it.
TEXTS = st.text() | st.text(alphabet="abZ09_.,;:!?()[]'\"`-/ \t\n\u00e9\u0130\u212a\u4e2d\u20ac")


def test_surface_words_hold_letters_and_digits_together_and_every_mark_alone() -> None:
    assert split_words("Don't call get_tensor2(x), OK?", "surface") == [
        *("don", "'", "t", "call", "get", "_", "tensor2", "(", "x", ")", ",", "ok", "?")
    ]


def test_cased_words_are_surface_words_as_they_are_spelled() -> None:
    assert split_words("Don't CALL Größe_\u03a3\u03b1\u03c2", "cased") == [
        *("Don", "'", "t", "CALL", "Größe", "_", "\u03a3\u03b1\u03c2")
    ]


def test_surface_words_of_other_alphabets_are_words() -> None:
    assert split_words("Größe naïve 東京 №5 €3", "surface") == ["größe", "naïve", "東京", "№", "5", "€", "3"]


def test_a_sigma_at_the_end_of_a_word_is_as_any_other() -> None:
    assert split_words("\u03a3\u0391\u03a3 \u03c3\u03b1\u03c2", "surface") == ["\u03c3\u03b1\u03c3"] * 2


def test_a_row_of_commas_is_seen_by_surface_and_not_by_rouge() -> None:
    assert split_words("sum, , , ,", "surface") == ["sum", ",", ",", ",", ","]
    assert split_words("sum, , , ,", "rouge") == ["sum"]


@settings(deadline=None)
@given(TEXTS)
def test_surface_words_leave_out_nothing_but_spaces(text: str) -> None:
    words = split_words(text, "surface")
    assert "".join(words) == "".join(text.lower().replace("\u03c2", "\u03c3").split())
    assert all(len(word) == 1 or word.isalnum() for word in words)


@settings(deadline=None)
@given(TEXTS)
@example("\u212aelvin \u0130stanbul caf\u00e9 x_y \u00b2\n\n")
@example("")
@example("\u03a3s\u03c2")
def test_rouge_words_are_those_of_the_rouge_score_package(text: str) -> None:
    assert split_words(text, "rouge") == ROUGE_SCORE.tokenize(text)


def test_cut_words_keeps_spelling_and_spaces() -> None:
    text = "  Return  the Sum,\n of x."
    assert cut_words(text, 3) == "Return  the Sum"
    assert cut_words(text, 4) == "Return  the Sum,"
    assert cut_words(text, 6) == "Return  the Sum,\n of x"
    assert cut_words(text, 100) == "Return  the Sum,\n of x."
    assert cut_words(text, 0) == ""
    assert cut_words("  ", 3) == ""


@settings(deadline=None)
@given(st.text(alphabet="aB1_., \n"), st.integers(0, 12))
def test_cut_words_keeps_the_first_words(text: str, words: int) -> None:
    cut = cut_words(text, words)
    assert split_words(cut, "surface") == split_words(text, "surface")[:words]
    assert cut in text


def test_mean_words() -> None:
    assert mean_words(["one two.", "three", ""]) == (3 + 1 + 0) / 3
    assert mean_words([]) == 0
