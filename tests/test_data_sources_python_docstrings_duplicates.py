"""Pairs that say the same, and pairs too near to those held out."""

import pytest

from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.sources.python_docstrings.duplicates import far_from, normal_words, without_duplicates
from rlseq2seq.data.sources.python_docstrings.harvest import Candidate


def candidate(target: str, body: str = "", module: str = "m", name: str = "f") -> Candidate:
    return Candidate(Pair(f"{module}:{name}", "source", target, module, name), "package", body)


def targets(candidates: list[Candidate]) -> list[str]:
    return [one.pair.target for one in candidates]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Return the size.", "return a size"),
        ("Return the size.", "Returns the sizes!"),
        ("Return the class's size.", "Return the class s size."),
        ("Write a read-only file.", "Write the read only file."),
    ],
)
def test_the_same_target(one: str, other: str) -> None:
    kept, counts = without_duplicates([candidate(one, module="a"), candidate(other, module="b")])
    assert targets(kept) == [one]
    assert counts == {"duplicate_targets": 1}


def test_other_targets() -> None:
    all_of_them = ["Return the size.", "Return the sign.", "Set the size.", "Return the size of it.", "As is it."]
    assert targets(without_duplicates(map(candidate, all_of_them))[0]) == all_of_them
    assert normal_words("Is it a bus? As is.") == ("is", "it", "bus", "as", "is")


def test_the_same_body() -> None:
    long, short = "x = 1\n" * 20, "return self._x"
    kept, counts = without_duplicates(
        [candidate("Do one thing.", long), candidate("Do another thing.", long), candidate("Do more things.", short),
         candidate("Do most things.", short)]
    )  # fmt: skip
    assert targets(kept) == ["Do one thing.", "Do more things.", "Do most things."]
    assert counts == {"duplicate_bodies": 1}


HELD_OUT = "Return the number of edges in this graph."


@pytest.mark.parametrize(
    ("target", "is_far"),
    [
        ("Return a number of edges in this graph", False),
        ("Return the number of nodes in this graph.", False),
        ("Return the exact number of edges in this graph.", False),
        ("Return the number of edges in graph.", False),
        ("Return the number of nodes in that graph.", True),
        ("Return the sum of all edges in this graph.", True),
        ("Delete this graph.", True),
    ],
)
def test_near_targets_stay_out_of_training(target: str, is_far: bool) -> None:
    held_out = [candidate(HELD_OUT, name="order"), candidate("Return the size.", name="size")]
    assert targets(far_from(held_out, [candidate(target, name="other")])) == [target] * is_far


def test_namesakes_with_a_like_target_stay_out_of_training() -> None:
    held_out = [candidate("Return the global free and total memory of a device of CUDA.", name="memory")]
    like = "Return the free and total memory of an XPU device."
    unlike = "Allocate so much."
    assert targets(far_from(held_out, [candidate(like, name="memory"), candidate(unlike, name="memory")])) == [unlike]
    assert targets(far_from(held_out, [candidate(like, name="usage")])) == [like]


def test_short_targets_are_not_near_by_one_word() -> None:
    assert targets(far_from([candidate("Return the size.", name="a")], [candidate("Return the sign.", name="b")])) == [
        "Return the sign."
    ]
