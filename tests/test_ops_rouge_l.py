"""The operator rouge_l: one body for every device there is, against the reference, rouge-score and worked examples."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_cases import SIZES, Inputs, lists, random_inputs
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from rlseq2seq.ops import RougeL, reference_rouge, rouge_l

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
pytestmark = pytest.mark.parametrize("device", DEVICES)


def scored(inputs: Inputs, device: str, prefixes: bool = False) -> RougeL:
    """The operator's result on `device`, brought back."""
    return RougeL(*(x.cpu() for x in rouge_l(*(x.to(device) for x in inputs), prefixes=prefixes)))


def assert_same(result: RougeL, expected: tuple[Tensor, ...]) -> None:
    """To the last bit, types and shapes included."""
    for name, x, y in zip(RougeL._fields, result, expected, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape, name
        assert torch.equal(x, y), name


def test_worked_example(device: str) -> None:
    inputs = lists([[1, 2, 3, 4], [5, 2]], [[1, 2, 4]])
    whole = scored(inputs, device)
    assert whole.lcs.tolist() == [3, 1]
    assert whole.precision.tolist() == [0.75, 0.5]
    assert torch.equal(whole.recall, torch.tensor([1.0, 1 / 3]))
    assert torch.equal(whole.fmeasure, torch.tensor([6 / 7, 2 / 5]))
    prefixes = scored(inputs, device, prefixes=True)
    assert prefixes.lcs.tolist() == [[1, 2, 2, 3], [0, 1, 1, 1]]
    assert torch.equal(prefixes.fmeasure[0], torch.tensor([2 / 4, 4 / 5, 4 / 6, 6 / 7]))
    assert torch.equal(prefixes.fmeasure[1], torch.tensor([0, 2 / 5, 2 / 5, 2 / 5]))


@given(
    seed=st.integers(0, 2**32),
    references=st.integers(0, 3),
    shared=st.integers(0, 4),
    time=st.sampled_from(SIZES),
    reference_time=st.sampled_from(SIZES),
    ids=st.sampled_from([1, 2, 10, 300]),
    offset=st.sampled_from([0, -5, 2**31 - 5, 2**40, -(2**63)]),
    prefixes=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_equals_the_reference(
    device: str,
    seed: int,
    references: int,
    shared: int,
    time: int,
    reference_time: int,
    ids: int,
    offset: int,
    prefixes: bool,
) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(seed, references, shared, time, reference_time, ids)
    inputs = hypotheses + offset, lengths, golds + offset, gold_lengths
    assert_same(scored(inputs, device, prefixes), reference_rouge.rouge_l(*inputs, prefixes))


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("reference_time", SIZES)
def test_every_size_of_reference(device: str, reference_time: int, prefixes: bool) -> None:
    inputs = random_inputs(7, 3, 2, 140, reference_time, ids=max(reference_time // 2, 2))
    assert_same(scored(inputs, device, prefixes), reference_rouge.rouge_l(*inputs, prefixes))


def test_equals_rouge_score_on_words(device: str) -> None:
    draw = random.Random(5)
    vocabulary = [f"word{i}" for i in range(40)]
    ids = {word: hash_ for hash_, word in enumerate(vocabulary, start=2**40)}
    texts = [[draw.choices(vocabulary, k=draw.randint(1, 90)) for _ in range(60)] for _ in range(2)]
    result = scored(lists(*([[ids[word] for word in text] for text in side] for side in texts)), device)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for i, (hypothesis, gold) in enumerate(zip(*texts, strict=True)):
        expected = scorer.score(" ".join(gold), " ".join(hypothesis))["rougeL"]
        assert result.precision[i].item() == pytest.approx(expected.precision, abs=1e-6)
        assert result.recall[i].item() == pytest.approx(expected.recall, abs=1e-6)
        assert result.fmeasure[i].item() == pytest.approx(expected.fmeasure, abs=1e-6)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3, unique=True),
    st.lists(st.integers(0, 2), max_size=9),
    st.lists(st.integers(0, 2), max_size=9),
)
@settings(deadline=None)
def test_any_id(device: str, ids: list[int], hypothesis: list[int], gold: list[int]) -> None:
    ids = [*ids, 0, 1, -1][:3]
    inputs = lists([[ids[i] for i in hypothesis]], [[ids[i] for i in gold]])
    small = lists([[ids.index(ids[i]) for i in hypothesis]], [[ids.index(ids[i]) for i in gold]])
    assert_same(scored(inputs, device, True), reference_rouge.rouge_l(*small, True))


def test_ids_that_share_a_bucket(device: str) -> None:
    # The hash is the top 12 bits of id * 0x9E3779B97F4A7C15; these ids are made by its inverse.
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    same_bucket = [(i * inverse) % 2**64 for i in range(200)]
    ids = torch.tensor([i - 2**64 if i >= 2**63 else i for i in same_bucket])
    hypotheses, lengths, golds, gold_lengths = random_inputs(3, 2, 3, 150, 150, ids=200)
    inputs = ids[hypotheses], lengths, ids[golds], gold_lengths
    assert_same(scored(inputs, device, True), reference_rouge.rouge_l(*inputs, True))


def test_tokens_past_the_length_are_not_read(device: str) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(11, 4, 3, 70, 130)
    expected = scored((hypotheses, lengths, golds, gold_lengths), device, True)
    hypotheses[torch.arange(70) >= lengths[:, None]] = 12
    golds[torch.arange(130) >= gold_lengths[:, None]] = 12
    assert_same(scored((hypotheses, lengths, golds, gold_lengths), device, True), expected)


def test_non_contiguous_inputs(device: str) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(13, 4, 3, 70, 130)
    expected = scored((hypotheses, lengths, golds, gold_lengths), device)
    result = rouge_l(
        hypotheses.to(device).T.contiguous().T,
        lengths.to(device).repeat_interleave(2)[::2],
        torch.stack([golds, golds + 1], -1).to(device)[..., 0],
        torch.stack([gold_lengths, gold_lengths], -1).to(device)[:, 1],
    )
    assert_same(RougeL(*(x.cpu() for x in result)), expected)


def test_hypotheses_share_references_in_order(device: str) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(17, 5, 4, 60, 80)
    shared = scored((hypotheses, lengths, golds, gold_lengths), device)
    repeated = scored((hypotheses, lengths, golds.repeat_interleave(4, 0), gold_lengths.repeat_interleave(4)), device)
    assert_same(shared, repeated)


def test_permuting_rows_permutes_results(device: str) -> None:
    # Enough work for every thread of the pool.
    hypotheses, lengths, golds, gold_lengths = random_inputs(19, 900, 1, 80, 90)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    for prefixes in (False, True):
        straight = scored((hypotheses, lengths, golds, gold_lengths), device, prefixes)
        permuted = scored((hypotheses[order], lengths[order], golds[order], gold_lengths[order]), device, prefixes)
        assert_same(permuted, tuple(x[order] for x in straight))


def test_last_prefix_is_the_whole(device: str) -> None:
    inputs = random_inputs(23, 6, 2, 90, 200)
    prefixes = scored(inputs, device, True)
    assert_same(scored(inputs, device), tuple(x[:, -1] for x in prefixes))
    steps = prefixes.lcs.diff(dim=1)
    assert steps.min() == 0 and steps.max() == 1


def test_nothing_to_score(device: str) -> None:
    empty = scored(random_inputs(29, 0, 0, 5, 5), device)
    assert [x.shape for x in empty] == [(0,)] * 4
    inputs = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 3]), torch.zeros(1, 0).long(), torch.tensor([0])
    for x in scored(inputs, device, prefixes=True):
        assert x.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_lengths_out_of_range(device: str) -> None:
    hypotheses, _, golds, gold_lengths = random_inputs(31, 2, 1, 8, 9)
    lengths = torch.tensor([-1, 9])
    if device == "cpu":
        with pytest.raises(ValueError, match=r"hypothesis_lengths\[0\] is -1, outside 0 to 8\."):
            rouge_l(hypotheses, lengths, golds, gold_lengths)
        with pytest.raises(ValueError, match=r"reference_lengths\[1\] is 10, outside 0 to 9\."):
            rouge_l(hypotheses, lengths.clamp(0, 8), golds, torch.tensor([9, 10]))
    else:  # to look at them would wait for the device
        expected = scored((hypotheses, lengths.clamp(0, 8), golds, gold_lengths), device)
        assert_same(scored((hypotheses, lengths, golds, gold_lengths), device), expected)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("hypotheses", lambda x: x.float(), "hypotheses must be an int64 tensor of 2 dimensions, not Float of shape"),
        ("hypotheses", lambda x: x[0], "hypotheses must be an int64 tensor of 2 dimensions, not Long of shape"),
        ("references", lambda x: x.int(), "references must be an int64 tensor of 2 dimensions, not Int of shape"),
        ("hypothesis_lengths", lambda x: x[:, None], "hypothesis_lengths must be an int64 tensor of 1 dimension"),
        ("hypothesis_lengths", lambda x: x[:-1], "hypothesis_lengths has 5 entries for 6 hypotheses"),
        ("reference_lengths", lambda x: torch.cat([x, x]), "reference_lengths has 4 entries for 2 references"),
        (
            "references",
            lambda x: x.to("cpu" if x.is_cuda else "meta"),
            "references is on (meta|cpu) but (the )?hypotheses",
        ),
    ],
)
def test_wrong_arguments_raise_one_sentence(device: str, name: str, wrong: object, sentence: str) -> None:
    names = ["hypotheses", "hypothesis_lengths", "references", "reference_lengths"]
    arguments = dict(zip(names, (x.to(device) for x in random_inputs(37, 2, 3, 8, 9)), strict=True))
    arguments[name] = wrong(arguments[name])  # type: ignore[operator]
    with pytest.raises(ValueError, match=sentence) as raised:
        rouge_l(**arguments)
    assert str(raised.value).startswith("rouge_l: ") and str(raised.value).count("\n") == 0


def test_hypotheses_must_be_a_multiple_of_references(device: str) -> None:
    hypotheses, lengths, golds, gold_lengths = (x.to(device) for x in random_inputs(41, 2, 3, 8, 9))
    with pytest.raises(ValueError, match=r"hypotheses, 5, must be a multiple of .* references, 2"):
        rouge_l(hypotheses[:5], lengths[:5], golds, gold_lengths)
    with pytest.raises(ValueError, match=r"hypotheses, 6, must be a multiple of .* references, 0"):
        rouge_l(hypotheses, lengths, golds[:0], gold_lengths[:0])


@pytest.mark.parametrize("prefixes", [False, True])
def test_opcheck(device: str, prefixes: bool) -> None:
    inputs = [x.to(device) for x in random_inputs(43, 2, 3, 8, 9)]
    torch.library.opcheck(torch.ops.rlseq2seq.rouge_l.default, (*inputs, prefixes))


def test_compiles_without_a_graph_break(device: str) -> None:
    inputs = random_inputs(47, 2, 3, 8, 9)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def gains(hypotheses: Tensor, lengths: Tensor, golds: Tensor, gold_lengths: Tensor) -> Tensor:
        return rouge_l(hypotheses, lengths, golds, gold_lengths, prefixes=True).fmeasure.diff(dim=1)

    expected = reference_rouge.rouge_l(*inputs, True)[3].diff(dim=1)
    assert torch.equal(gains(*(x.to(device) for x in inputs)).cpu(), expected)
