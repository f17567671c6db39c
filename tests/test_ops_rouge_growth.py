"""rouge_l and rouge_n of words that grow: a column may take the place of the one before it."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_cases import SIZES, Inputs, lists, random_growth, random_inputs
from torch import Tensor

from rlseq2seq.ops import reference_rouge, rouge_l, rouge_n

GRAMS = [0, 1, 2, 3, 4]  # 0 is rouge_l


def scored(inputs: Inputs, growth: tuple[Tensor, Tensor], n: int, device: torch.device) -> list[Tensor]:
    arguments = [x.to(device) for x in inputs]
    continues, ends = (x.to(device) for x in growth)
    if n == 0:
        found: NamedTuple = rouge_l(*arguments, prefixes=True, continues=continues, ends=ends)  # type: ignore[misc]
    else:
        found = rouge_n(*arguments, n, prefixes=True, continues=continues, ends=ends)  # type: ignore[misc]
    return [x.cpu() for x in found]


def assert_same(result: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...]) -> None:
    """To the last bit, types and shapes included."""
    for place, (x, y) in enumerate(zip(result, expected, strict=True)):
        assert x.dtype == y.dtype and x.shape == y.shape, place
        assert torch.equal(x, y), place


def twin(inputs: Inputs, growth: tuple[Tensor, Tensor], n: int) -> tuple[Tensor, ...]:
    return reference_rouge.rouge_n(*inputs, n, True, *growth) if n else reference_rouge.rouge_l(*inputs, True, *growth)


def test_worked_example(device: torch.device) -> None:
    # "a", "ab", "c" against "a c": a is there, what it grows into is not.
    inputs = lists([[1, 7, 2]], [[1, 2]])
    growth = torch.tensor([[False, True, False]]), torch.tensor([[0, 1, 1, 2, 3, 3]])
    common, precision, recall, fmeasure = scored(inputs, growth, 0, device)
    assert common.tolist() == [[0, 1, 1, 0, 1, 1]]
    assert precision.tolist() == [[0, 1, 1, 0, 0.5, 0.5]]
    assert recall.tolist() == [[0, 0.5, 0.5, 0, 0.5, 0.5]]
    assert torch.equal(fmeasure, torch.tensor([[0, 2 / 3, 2 / 3, 0, 0.5, 0.5]]))
    # The bigram a c is not there: at the end, c follows what a has grown into.
    assert scored(inputs, growth, 2, device)[0].tolist() == [[0, 0, 0, 0, 0, 0]]
    # And where b grows into c, a c is.
    growth = torch.tensor([[False, False, True]]), torch.tensor([[1, 2, 3]])
    assert scored(inputs, growth, 2, device)[0].tolist() == [[0, 0, 1]]


@given(
    seed=st.integers(0, 2**32),
    references=st.integers(0, 3),
    shared=st.integers(0, 3),
    time=st.sampled_from([0, 1, 2, 31, 32, 33, 64, 65, 129]),
    reference_time=st.sampled_from(SIZES),
    ends=st.sampled_from([0, 1, 31, 32, 33, 64, 100]),
    ids=st.sampled_from([1, 2, 10]),
    offset=st.sampled_from([0, 2**40, -(2**63)]),
    n=st.sampled_from(GRAMS),
)
@settings(max_examples=120)
def test_equals_the_reference(
    device: torch.device,
    seed: int,
    references: int,
    shared: int,
    time: int,
    reference_time: int,
    ends: int,
    ids: int,
    offset: int,
    n: int,
) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(seed, references, shared, time, reference_time, ids)
    inputs = hypotheses + offset, lengths, golds + offset, gold_lengths
    growth = random_growth(seed, hypotheses, ends)
    assert_same(scored(inputs, growth, n, device), twin(inputs, growth, n))


@pytest.mark.parametrize("n", GRAMS)
def test_each_score_is_that_of_the_words_that_are_left(device: torch.device, n: int) -> None:
    inputs = hypotheses, lengths, golds, gold_lengths = random_inputs(5, 3, 2, 70, 130, ids=4)
    continues, _ = random_growth(5, hypotheses, 0)
    ends = torch.arange(73).expand(6, 73)
    found = scored(inputs, (continues, ends), n, device)
    left = []
    for row in range(6):
        for end in range(73):
            words: list[int] = []
            for t in range(min(end, int(lengths[row]))):
                words[len(words) - bool(t and continues[row, t]) :] = [int(hypotheses[row, t])]
            left.append(words)
    padded, counts, _, _ = lists(left, [[0]])
    each = padded, counts, golds, gold_lengths
    expected = rouge_n(*each, n) if n else rouge_l(*each)
    assert_same(found, [x.view(6, 73) for x in expected])


@pytest.mark.parametrize("n", GRAMS)
def test_words_that_do_not_grow_score_as_without(device: torch.device, n: int) -> None:
    inputs = random_inputs(6, 3, 2, 90, 200)
    growth = torch.zeros(6, 90, dtype=torch.bool), torch.arange(1, 91).expand(6, 90)
    expected = rouge_n(*inputs, n, prefixes=True) if n else rouge_l(*inputs, prefixes=True)
    assert_same(scored(inputs, growth, n, device), list(expected))


@pytest.mark.parametrize("n", [0, 2])
def test_what_lies_outside_is_not_read(device: torch.device, n: int) -> None:
    inputs = hypotheses, lengths, *_ = random_inputs(8, 4, 3, 70, 130)
    continues, ends = random_growth(8, hypotheses, 80)
    expected = scored(inputs, (continues, ends), n, device)
    continues[torch.arange(70) >= lengths[:, None]] ^= True
    continues[:, 0] ^= True
    hypotheses[torch.arange(70) >= lengths[:, None]] = 12
    assert_same(scored(inputs, (continues, ends), n, device), expected)
    beyond = torch.where(ends >= lengths[:, None], 2**40, ends)
    assert_same(scored(inputs, (continues, beyond), n, device), expected)


def test_non_contiguous_inputs(device: torch.device) -> None:
    inputs = random_inputs(9, 4, 3, 70, 130)
    continues, ends = random_growth(9, inputs[0], 40)
    expected = scored(inputs, (continues, ends), 2, device)
    assert_same(scored(inputs, (continues.T.contiguous().T, ends.T.contiguous().T), 2, device), expected)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ends": None}, "continues and ends go together"),
        ({"continues": None}, "continues and ends go together"),
        ({"prefixes": False}, "continues and ends are for prefixes alone"),
        ({"continues": torch.zeros(6, 8)}, "continues must be a bool tensor of 2 dimensions, not Float of shape"),
        (
            {"continues": torch.zeros(6, 7, dtype=torch.bool)},
            "continues is of shape .* but the hypotheses are of shape",
        ),
        ({"ends": torch.zeros(6, 4)}, "ends must be an int64 tensor of 2 dimensions, not Float of shape"),
        ({"ends": torch.zeros(5, 4).long()}, "ends has 5 rows for 6 hypotheses"),
        ({"ends": torch.zeros(6, 4, device="meta").long()}, "ends is on meta but hypotheses on"),
    ],
)
@pytest.mark.parametrize("n", [0, 2])
def test_wrong_arguments_raise_one_sentence(
    device: torch.device, n: int, changes: dict[str, object], sentence: str
) -> None:
    inputs = [x.to(device) for x in random_inputs(37, 2, 3, 8, 9)]
    continues, ends = (x.to(device) for x in random_growth(1, inputs[0].cpu(), 4))
    keywords = {"prefixes": True, "continues": continues, "ends": ends} | {
        name: x.to(device) if isinstance(x, Tensor) and not x.is_meta else x for name, x in changes.items()
    }
    with pytest.raises(ValueError, match=sentence) as raised:
        rouge_n(*inputs, n, **keywords) if n else rouge_l(*inputs, **keywords)  # type: ignore[arg-type]
    assert str(raised.value).startswith("rouge_") and str(raised.value).count("\n") == 0


@pytest.mark.parametrize("n", [0, 2])
def test_opcheck(device: torch.device, n: int) -> None:
    inputs = [x.to(device) for x in random_inputs(43, 2, 3, 8, 9)]
    growth = [x.to(device) for x in random_growth(43, inputs[0].cpu(), 5)]
    op = torch.ops.rlseq2seq.rouge_n.default if n else torch.ops.rlseq2seq.rouge_l.default
    torch.library.opcheck(op, (*inputs, *([n] if n else []), True, *growth))


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    inputs = random_inputs(47, 2, 3, 8, 9)
    growth = random_growth(47, inputs[0], 5)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def gains(h: Tensor, hl: Tensor, r: Tensor, rl: Tensor, continues: Tensor, ends: Tensor) -> Tensor:
        return rouge_l(h, hl, r, rl, prefixes=True, continues=continues, ends=ends).fmeasure.diff(dim=1)

    found = gains(*(x.to(device) for x in (*inputs, *growth)))
    assert torch.equal(found.cpu(), twin(inputs, growth, 0)[3].diff(dim=1))
