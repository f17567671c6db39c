from rlseq2seq.data.pairs import Pair
from rlseq2seq.evaluation.baselines import baseline_outputs, oracle


def _pair(source: str, target: str, name: str = "f", references: tuple[str, ...] = ()) -> Pair:
    return Pair(id="0", source=source, target=target, name=name, references=references)


def test_lead_is_the_beginning_of_the_source_and_name_its_name() -> None:
    pairs = [_pair("Get sum. Of  all numbers", "x", name="get_sum"), _pair("short", "x", name="g")]
    outputs = baseline_outputs(pairs, words=5, workers=1)
    assert list(outputs) == ["lead", "name", "oracle"]
    assert outputs["lead"] == ["Get sum. Of  all", "short"]
    assert outputs["name"] == ["get_sum", "g"]


def test_there_is_no_name_baseline_where_a_name_is_missing() -> None:
    assert "name" not in baseline_outputs([_pair("a", "b"), _pair("a", "b", name="")], words=5, workers=1)


def test_oracle_takes_the_best_sentence_or_line() -> None:
    source = "def total(x)\nThe mean of x. The sum of all numbers! See also mean\nreturn the_sum"
    assert oracle([_pair(source, "Return the sum of numbers")], words=10, workers=1) == ["The sum of all numbers!"]
    assert oracle([_pair(source, "def total")], words=10, workers=1) == ["def total(x)"]


def test_oracle_chooses_among_sentences_already_cut() -> None:
    # Whole, the first has F = 2 * 3 / (3 + 6); cut to three words it has nothing, and the second has 2 / 3.
    source = "well now then add three numbers. Add x y"
    assert oracle([_pair(source, "add three numbers")], words=3, workers=1) == ["Add x y"]


def test_oracle_takes_the_best_of_several_references_and_the_first_of_equals() -> None:
    pair = _pair("one two. Three four. Three four five", "zzz", references=("three four",))
    assert oracle([pair], words=9, workers=1) == ["Three four."]
    assert oracle([_pair("first. second", "zzz")], words=9, workers=1) == ["first."]


def test_oracle_of_an_empty_source_is_empty() -> None:
    assert oracle([_pair(" \n ", "sum")], words=9, workers=1) == [""]
