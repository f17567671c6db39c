"""The operator rouge_n: one body for every device there is, against the reference, rouge-score and worked examples."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_cases import SIZES, Inputs, lists, random_inputs
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor

from rlseq2seq.ops import RougeN, reference_rouge, rouge_n

NS = [1, 2, 3, 4]


def scored(inputs: Inputs, n: int, device: torch.device, prefixes: bool = False) -> RougeN:
    """The operator's result on `device`, brought back."""
    return RougeN(*(x.cpu() for x in rouge_n(*(x.to(device) for x in inputs), n, prefixes=prefixes)))


def assert_same(result: RougeN, expected: tuple[Tensor, ...]) -> None:
    """To the last bit, types and shapes included."""
    for name, x, y in zip(RougeN._fields, result, expected, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape, name
        assert torch.equal(x, y), name


def test_worked_example(device: torch.device) -> None:
    # "a b a b c" against "a b b a b": the bigram a b is twice in both, b a once.
    inputs = lists([[1, 2, 1, 2, 3]], [[1, 2, 2, 1, 2]])
    whole = scored(inputs, 2, device)
    assert whole.overlap.tolist() == [3]
    assert torch.equal(whole.precision, torch.tensor([3 / 4]))
    assert torch.equal(whole.recall, torch.tensor([3 / 4]))
    assert torch.equal(whole.fmeasure, torch.tensor([3 / 4]))
    prefixes = scored(inputs, 2, device, prefixes=True)
    assert prefixes.overlap.tolist() == [[0, 1, 2, 3, 3]]
    assert torch.equal(prefixes.fmeasure[0], torch.tensor([0, 2 / 5, 4 / 6, 6 / 7, 6 / 8]))
    # Unigrams are clipped: of three 1, two are in the reference.
    assert scored(lists([[1, 1, 1]], [[1, 2, 1, 3]]), 1, device).overlap.tolist() == [2]


@given(
    seed=st.integers(0, 2**32),
    references=st.integers(0, 3),
    shared=st.integers(0, 4),
    time=st.sampled_from(SIZES),
    reference_time=st.sampled_from(SIZES),
    ids=st.sampled_from([1, 2, 10, 300]),
    offset=st.sampled_from([0, -5, 2**31 - 5, 2**40, -(2**63)]),
    n=st.sampled_from(NS),
    prefixes=st.booleans(),
)
@settings(max_examples=100)
def test_equals_the_reference(
    device: torch.device,
    seed: int,
    references: int,
    shared: int,
    time: int,
    reference_time: int,
    ids: int,
    offset: int,
    n: int,
    prefixes: bool,
) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(seed, references, shared, time, reference_time, ids)
    inputs = hypotheses + offset, lengths, golds + offset, gold_lengths
    assert_same(scored(inputs, n, device, prefixes), reference_rouge.rouge_n(*inputs, n, prefixes))


@pytest.mark.parametrize("reference_time", SIZES)
def test_every_size_of_reference(device: torch.device, reference_time: int) -> None:
    inputs = random_inputs(7, 3, 2, 140, reference_time, ids=5)
    for n in NS:
        for prefixes in (False, True):
            assert_same(scored(inputs, n, device, prefixes), reference_rouge.rouge_n(*inputs, n, prefixes))


@pytest.mark.parametrize("n", NS)
def test_counts_are_clipped_counts(device: torch.device, n: int) -> None:
    inputs = random_inputs(9, 30, 1, 90, 140, ids=3)
    found = scored(inputs, n, device)
    for i, (row, length, gold, gold_length) in enumerate(zip(*(x.tolist() for x in inputs), strict=True)):
        counts = [
            Counter(tuple(ids[j : j + n]) for j in range(size - n + 1))
            for ids, size in ((row, length), (gold, gold_length))
        ]
        assert found.overlap[i] == (counts[0] & counts[1]).total()


@pytest.mark.parametrize("n", [1, 2])
def test_equals_rouge_score_on_words(device: torch.device, n: int) -> None:
    draw = random.Random(5)
    vocabulary = [f"word{i}" for i in range(12)]
    ids = {word: hash_ for hash_, word in enumerate(vocabulary, start=2**40)}
    texts = [[draw.choices(vocabulary, k=draw.randint(1, 90)) for _ in range(60)] for _ in range(2)]
    result = scored(lists(*([[ids[word] for word in text] for text in side] for side in texts)), n, device)
    scorer = RougeScorer([f"rouge{n}"], use_stemmer=False)
    for i, (hypothesis, gold) in enumerate(zip(*texts, strict=True)):
        expected = scorer.score(" ".join(gold), " ".join(hypothesis))[f"rouge{n}"]
        assert result.precision[i].item() == pytest.approx(expected.precision, abs=1e-6)
        assert result.recall[i].item() == pytest.approx(expected.recall, abs=1e-6)
        assert result.fmeasure[i].item() == pytest.approx(expected.fmeasure, abs=1e-6)


def test_tokens_past_the_length_are_not_read(device: torch.device) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(11, 4, 3, 70, 130)
    expected = scored((hypotheses, lengths, golds, gold_lengths), 2, device, True)
    hypotheses[torch.arange(70) >= lengths[:, None]] = 12
    golds[torch.arange(130) >= gold_lengths[:, None]] = 12
    assert_same(scored((hypotheses, lengths, golds, gold_lengths), 2, device, True), expected)


def test_non_contiguous_inputs(device: torch.device) -> None:
    hypotheses, lengths, golds, gold_lengths = random_inputs(13, 4, 3, 70, 130)
    expected = scored((hypotheses, lengths, golds, gold_lengths), 2, device)
    result = rouge_n(
        hypotheses.to(device).T.contiguous().T,
        lengths.to(device).repeat_interleave(2)[::2],
        torch.stack([golds, golds + 1], -1).to(device)[..., 0],
        torch.stack([gold_lengths, gold_lengths], -1).to(device)[:, 1],
        2,
    )
    assert_same(RougeN(*(x.cpu() for x in result)), expected)


def test_permuting_rows_permutes_results(device: torch.device) -> None:
    # Enough work for every thread of the pool.
    inputs = random_inputs(19, 900, 1, 80, 90)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    hypotheses, lengths, golds, gold_lengths = (x[order] for x in inputs)
    permuted = scored((hypotheses, lengths, golds, gold_lengths), 2, device, True)
    assert_same(permuted, tuple(x[order] for x in scored(inputs, 2, device, True)))


def test_last_prefix_is_the_whole(device: torch.device) -> None:
    inputs = random_inputs(23, 6, 2, 90, 200)
    prefixes = scored(inputs, 2, device, True)
    assert_same(scored(inputs, 2, device), tuple(x[:, -1] for x in prefixes))
    steps = prefixes.overlap.diff(dim=1)
    assert steps.min() == 0 and steps.max() == 1


def test_nothing_to_score(device: torch.device) -> None:
    empty = scored(random_inputs(29, 0, 0, 5, 5), 2, device)
    assert [x.shape for x in empty] == [(0,)] * 4
    inputs = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 3]), torch.zeros(1, 0).long(), torch.tensor([0])
    for x in scored(inputs, 2, device, prefixes=True):
        assert x.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_lengths_out_of_range(device: torch.device) -> None:
    hypotheses, _, golds, gold_lengths = random_inputs(31, 2, 1, 8, 9)
    lengths = torch.tensor([-1, 9])
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"^rouge_n: hypothesis_lengths\[0\] is -1, outside 0 to 8\."):
            rouge_n(hypotheses, lengths, golds, gold_lengths, 2)
    else:  # to look at them would wait for the device
        expected = scored((hypotheses, lengths.clamp(0, 8), golds, gold_lengths), 2, device)
        assert_same(scored((hypotheses, lengths, golds, gold_lengths), 2, device), expected)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("hypotheses", lambda x: x.float(), "hypotheses must be an int64 tensor of 2 dimensions, not Float of shape"),
        ("hypothesis_lengths", lambda x: x[:-1], "hypothesis_lengths has 5 entries for 6 hypotheses"),
        ("references", lambda x: x[0], "references must be an int64 tensor of 2 dimensions, not Long of shape"),
        ("reference_lengths", lambda x: torch.cat([x, x]), "reference_lengths has 4 entries for 2 references"),
        ("n", lambda _: 0, "n must be in 1 to 4, not 0"),
        ("n", lambda _: 5, "n must be in 1 to 4, not 5"),
        (
            "references",
            lambda x: x.to("cpu" if x.is_cuda else "meta"),
            "references is on (meta|cpu) but (the )?hypotheses",
        ),
    ],
)
def test_wrong_arguments_raise_one_sentence(device: torch.device, name: str, wrong: object, sentence: str) -> None:
    names = ["hypotheses", "hypothesis_lengths", "references", "reference_lengths"]
    tensors = (x.to(device) for x in random_inputs(37, 2, 3, 8, 9))
    arguments: dict[str, object] = {**dict(zip(names, tensors, strict=True)), "n": 2}
    arguments[name] = wrong(arguments[name])  # type: ignore[operator]
    with pytest.raises(ValueError, match=sentence) as raised:
        rouge_n(**arguments)  # type: ignore[arg-type]
    assert str(raised.value).startswith("rouge_n: ") and str(raised.value).count("\n") == 0


@pytest.mark.parametrize("prefixes", [False, True])
def test_opcheck(device: torch.device, prefixes: bool) -> None:
    inputs = [x.to(device) for x in random_inputs(43, 2, 3, 8, 9)]
    torch.library.opcheck(torch.ops.rlseq2seq.rouge_n.default, (*inputs, 2, prefixes))


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    inputs = random_inputs(47, 2, 3, 8, 9)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def gains(hypotheses: Tensor, lengths: Tensor, golds: Tensor, gold_lengths: Tensor) -> Tensor:
        return rouge_n(hypotheses, lengths, golds, gold_lengths, 2, prefixes=True).fmeasure.diff(dim=1)

    expected = reference_rouge.rouge_n(*inputs, 2, True)[3].diff(dim=1)
    assert torch.equal(gains(*(x.to(device) for x in inputs)).cpu(), expected)
