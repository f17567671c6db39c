from rlseq2seq.data.pairs import Pair
from rlseq2seq.evaluation.baselines import baseline_outputs, greedy_oracle, oracle


def _pair(source: str, target: str, name: str = "f", references: tuple[str, ...] = ()) -> Pair:
    return Pair(id="0", source=source, target=target, name=name, references=references)


def test_lead_is_the_beginning_of_the_source_and_name_its_name() -> None:
    pairs = [_pair("Get sum. Of  all numbers", "x", name="get_sum"), _pair("short", "x", name="g")]
    outputs = baseline_outputs(["source", "lead", "name"], pairs, words=5, workers=1)
    assert list(outputs) == ["source", "lead", "name"]
    assert outputs["lead"] == ["Get sum. Of  all", "short"]
    assert outputs["name"] == ["get_sum", "g"]
    assert outputs["source"] == ["Get sum. Of  all numbers", "short"]


def test_there_is_no_name_baseline_where_a_name_is_missing() -> None:
    pairs = [_pair("a", "b"), _pair("a", "b", name="")]
    assert list(baseline_outputs(["name", "oracle"], pairs, words=5, workers=1)) == ["oracle"]


def test_lead_3_are_three_sentences_or_what_there_is() -> None:
    pairs = [_pair("One two. Three? Four\nfive. Six. Seven.", "x"), _pair("One. Two", "x"), _pair("", "x")]
    assert baseline_outputs(["lead_3"], pairs, words=1, workers=1)["lead_3"] == [
        "One two.\nThree?\nFour",
        "One.\nTwo",
        "",
    ]


def test_blank_lines_are_no_sentences() -> None:
    pairs = [_pair("\nOne.\n \t\nTwo\n \n\nThree. Four.", "x"), _pair(" \n ", "x")]
    assert baseline_outputs(["lead_3"], pairs, words=1, workers=1)["lead_3"] == ["One.\nTwo\nThree.", ""]


def test_the_greedy_oracle_adds_sentences_while_they_help_and_keeps_their_order() -> None:
    # The first would add three words that are out of order.
    source = "Four five six. Nothing of it. One two three four. Not this one."
    assert greedy_oracle(source, ["one two three four five six"]) == "One two three four."
    source = "One two three. Nothing of it. Four five six seven. Not this one."
    assert greedy_oracle(source, ["one two three four five six"]) == "One two three.\nFour five six seven."
    [by_name] = baseline_outputs(["greedy_oracle"], [_pair(source, "not this", references=("x",))], 1, 1).values()
    assert by_name == ["Not this one."]


def test_the_greedy_oracle_takes_the_better_reference_and_nothing_where_nothing_helps() -> None:
    assert greedy_oracle("Alpha beta. Gamma delta.", ["zzz", "gamma delta"]) == "Gamma delta."
    assert greedy_oracle("Alpha beta. Gamma delta.", ["zzz"]) == ""
    assert greedy_oracle("", ["zzz"]) == ""


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
