"""What the operator copy_attention and its reference compute: one body for every device there is."""

import math
from collections.abc import Callable

import pytest
import torch
from attention_cases import (
    KINDS,
    Case,
    assert_agree,
    attention_case,
    called,
    differentiable,
    moved,
    results_and_gradients,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlseq2seq.ops import Attended, copy_attention, reference

SEEDS = st.integers(0, 10_000)
# Around the vectors and warps of the kernels.
SIZES = [0, 1, 2, 63, 64, 65, 129, 513]
both_operators = pytest.mark.parametrize("operator", [copy_attention, reference.copy_attention])


def slow_attention(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Equation by equation, one number at a time; the past as the sum of exponentials that it is the log of."""
    rows, (sources, width) = len(case["query"]), case["mask"].shape
    context = torch.zeros(rows, case["values"].shape[2], dtype=torch.float64)
    attention = torch.zeros(rows, width, dtype=torch.float64)
    past = torch.full((rows, width), -torch.inf, dtype=torch.float64) if case["past"] is None else case["past"].clone()
    for n in range(rows):
        b = n // (rows // sources)
        weights = {}
        for i in case["mask"][b].nonzero()[:, 0].tolist():
            if case["score_weight"] is None:
                energy = float(case["query"][n] @ case["keys"][b, i])
            else:
                hidden = case["query"][n] + case["keys"][b, i]
                if case["coverage"] is not None:
                    hidden = hidden + case["coverage"][n, i] * case["coverage_weight"]
                energy = sum(math.tanh(h) * v for h, v in zip(hidden, case["score_weight"], strict=True))
            earlier = math.exp(past[n, i])
            weights[i] = math.exp(energy) / (earlier if case["past"] is not None and earlier else 1)
            past[n, i] = math.log(earlier + math.exp(energy))
        for i, weight in weights.items():
            attention[n, i] = weight / sum(weights.values())
            context[n] += attention[n, i] * case["values"][b, i]
    return context, attention, past


# --- what it computes


@both_operators
@given(seed=SEEDS, kind=st.sampled_from(KINDS), temporal=st.booleans(), shared=st.integers(1, 3))
def test_attention_is_the_equation(
    device: torch.device, operator: Callable[..., Attended], seed: int, kind: str, temporal: bool, shared: int
) -> None:
    case = attention_case(seed, rows=3 * shared, shared=shared, kind=kind, temporal=temporal)
    attended = called(operator, moved(case, device, torch.float64))
    context, attention, past = slow_attention(case)
    torch.testing.assert_close(attended.attention.cpu(), attention)
    torch.testing.assert_close(attended.context.cpu(), context)
    assert (attended.past is not None) == temporal
    if attended.past is not None:
        torch.testing.assert_close(attended.past.cpu(), past)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=100)
@given(
    seed=SEEDS,
    sources=st.integers(1, 3),
    shared=st.sampled_from([1, 2, 4, 5]),
    width=st.sampled_from(SIZES),
    score_size=st.sampled_from(SIZES),
    value_size=st.sampled_from(SIZES),
    kind=st.sampled_from(KINDS),
    temporal=st.booleans(),
)
def test_results_and_gradients_equal_the_reference(
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    sources: int,
    shared: int,
    width: int,
    score_size: int,
    value_size: int,
    kind: str,
    temporal: bool,
) -> None:
    rows, sizes = sources * shared, (score_size, value_size)
    # Energies of bilinear scores grow with the size; so that attention is not all on one token, keep them near 1.
    scale = max(score_size, 1) ** -0.25
    case = attention_case(seed, rows, width, scale, shared=shared, sizes=sizes, kind=kind, temporal=temporal)
    found = results_and_gradients(copy_attention, moved(case, device, dtype))
    expected = results_and_gradients(reference.copy_attention, moved(case, torch.device("cpu"), torch.float64))
    assert_agree(found, expected, dtype)


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(24, 16), (13, 7), (512, 264)])
def test_bfloat16_equals_the_reference_in_float64(
    device: torch.device, kind: str, temporal: bool, sizes: tuple[int, int]
) -> None:
    case = attention_case(0, 12, 50, sizes[0] ** -0.25, shared=4, sizes=sizes, kind=kind, temporal=temporal)
    rounded = moved(case, device, torch.bfloat16)
    if device.type == "cpu":
        with pytest.raises(ValueError, match="query must be float32 or float64, or on CUDA bfloat16"):
            results_and_gradients(copy_attention, rounded)
        return
    exact = {k: v.double() if v.is_floating_point() else v for k, v in rounded.items()}
    found = results_and_gradients(copy_attention, rounded)
    assert found["attention"].dtype == torch.float32 and found["context"].dtype == torch.bfloat16
    assert_agree(found, results_and_gradients(reference.copy_attention, exact), torch.bfloat16)


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_a_source_equal_rows_with_a_copy_of_it(device: torch.device, kind: str, temporal: bool) -> None:
    case = moved(attention_case(3, 12, 40, shared=4, sizes=(9, 6), kind=kind, temporal=temporal), device, torch.float64)
    own = {**case, **{k: case[k].repeat_interleave(4, 0) for k in ("keys", "values", "mask")}}
    found, expected = (results_and_gradients(copy_attention, x) for x in (case, own))
    for name in ("keys", "values"):
        summed = expected[f"gradient of {name}"].unflatten(0, (-1, 4)).sum(1)
        expected[f"gradient of {name}"] = summed
    assert_agree(found, expected, torch.float64)


def test_permuting_sources_permutes_results_to_the_last_bit(device: torch.device) -> None:
    case = moved(attention_case(5, 64, 70, sizes=(33, 20)), device, torch.float32)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).to(device)
    permuted = {k: v[order] if len(v) == 64 else v for k, v in case.items()}
    straight, shuffled = called(copy_attention, case), called(copy_attention, permuted)
    assert torch.equal(straight.context[order], shuffled.context)
    assert torch.equal(straight.attention[order], shuffled.attention)


def test_a_step_repeats_to_the_last_bit(device: torch.device) -> None:
    case = moved(attention_case(6, 64, 200, shared=4, sizes=(64, 64), temporal=True), device, torch.float32)
    first, second = (results_and_gradients(copy_attention, case) for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_alone_gets_what_it_gets_in_a_batch(device: torch.device, kind: str) -> None:
    case = moved(attention_case(15, 80, 70, shared=2, sizes=(33, 77), kind=kind, temporal=True), device, torch.float64)
    together = results_and_gradients(copy_attention, case)
    alone = called(
        copy_attention, {k: v[6:8] if len(v) == 80 else v[3:4] if len(v) == 40 else v for k, v in case.items()}
    )
    # On a GPU, the size of the batch decides how a source is cut into parts.
    tolerance = 0.0 if device.type == "cpu" else 1e-14
    for name, tensor in zip(Attended._fields, alone, strict=True):
        torch.testing.assert_close(tensor, together[name][6:8].detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sources", [1, 40])
def test_the_number_of_threads_changes_nothing(sources: int) -> None:
    case = moved(attention_case(16, 2 * sources, 300, shared=2, sizes=(65, 130)), torch.device("cpu"), torch.float32)
    case["mask"][:, :200] = True
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(results_and_gradients(copy_attention, case))
    finally:
        torch.set_num_threads(threads)
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]) and torch.equal(tensor, results[2][name]), name


# --- padding


@both_operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=SEEDS, scale=st.sampled_from([0.0, 1.0, 50.0, 1e4]))
def test_attention_sums_to_one_over_tokens_and_is_exactly_zero_at_padding(
    device: torch.device, operator: Callable[..., Attended], dtype: torch.dtype, seed: int, scale: float
) -> None:
    case = moved(attention_case(seed, rows=5, width=7, scale=scale), device, dtype)
    attention = called(operator, case).attention
    torch.testing.assert_close(attention.sum(1), case["mask"].any(1).to(dtype))
    assert attention[~case["mask"]].eq(0).all()
    assert attention.ge(0).all()


@both_operators
@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_of_nothing_but_padding_gives_zeros_and_finite_gradients(
    device: torch.device, operator: Callable[..., Attended], dtype: torch.dtype, temporal: bool
) -> None:
    case = moved(attention_case(0, rows=4, temporal=temporal), device, dtype)
    case["mask"][:] = False
    if temporal:
        case["past"][:] = -torch.inf
    for name in differentiable(case):
        case[name].requires_grad_()
    context, attention, past = called(operator, case)
    assert context.eq(0).all() and attention.eq(0).all()
    if past is not None:
        assert past.eq(-torch.inf).all()
    (context.sum() + attention.square().sum()).backward()
    for name in differentiable(case):
        assert case[name].grad is not None and case[name].grad.eq(0).all(), name


@both_operators
@pytest.mark.parametrize("kind", KINDS)
def test_attention_over_no_places_at_all_is_empty(
    device: torch.device, operator: Callable[..., Attended], kind: str
) -> None:
    case = moved(attention_case(0, width=0, kind=kind, temporal=True), device, torch.float64)
    found = results_and_gradients(operator, case)
    assert found["context"].shape == (3, 2) and found["context"].eq(0).all()
    assert found["attention"].shape == found["past"].shape == (3, 0)
    for name in differentiable(case):
        assert found[f"gradient of {name}"].shape == case[name].shape
        assert found[f"gradient of {name}"].eq(0).all()


def test_no_rows(device: torch.device) -> None:
    case = moved(attention_case(0, temporal=True), device, torch.float64)
    case = {k: v[:0] if k in ("query", "coverage", "past") else v for k, v in case.items()}
    found = results_and_gradients(copy_attention, case)
    assert found["context"].shape == (0, 2) and found["attention"].shape == (0, 5)
    for name in ("keys", "values", "score_weight", "coverage_weight"):
        assert found[f"gradient of {name}"].eq(0).all()


@pytest.mark.parametrize("filler", [1e3, math.inf, math.nan])
@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_what_padding_holds_changes_nothing_and_gets_no_gradient(
    device: torch.device, filler: float, seed: int, kind: str
) -> None:
    case = moved(attention_case(seed, 6, shared=2, kind=kind, temporal=True), device, torch.float64)
    padding, padding_of_rows = ~case["mask"], ~case["mask"].repeat_interleave(2, 0)
    other = {k: v.clone() for k, v in case.items()}
    for name in ("keys", "values"):
        other[name][padding] = filler
    if "coverage" in other:
        other["coverage"][padding_of_rows] = filler
    mine, theirs = (results_and_gradients(copy_attention, x) for x in (case, other))
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    for name in ("keys", "values"):
        assert mine[f"gradient of {name}"][padding].eq(0).all()
    assert torch.equal(theirs["past"][padding_of_rows], case["past"][padding_of_rows])


def test_padding_may_lie_between_tokens(device: torch.device) -> None:
    case = attention_case(8, 6, 90, shared=2, sizes=(5, 3), temporal=True)
    case["mask"] = torch.rand(3, 90, generator=torch.Generator().manual_seed(8)) < 0.5
    found = results_and_gradients(copy_attention, moved(case, device, torch.float64))
    expected = results_and_gradients(reference.copy_attention, moved(case, torch.device("cpu"), torch.float64))
    assert_agree(found, expected, torch.float64)


# --- coverage


@both_operators
def test_coverage_lowers_attention_where_it_has_been_when_its_weight_says_so(
    device: torch.device, operator: Callable[..., Attended]
) -> None:
    ones = torch.ones(1, 3, 1, device=device)
    coverage = torch.tensor([[0.0, 2.0, 0.0]], device=device)
    attended = operator(ones[:, 0], ones, ones, ones[:, :, 0] > 0, ones[0, 0], coverage, -ones[0, 0])
    attention = attended.attention[0]
    assert attention[1] < attention[0] == attention[2]


@both_operators
def test_coverage_of_weight_zero_and_no_coverage_are_the_same(
    device: torch.device, operator: Callable[..., Attended]
) -> None:
    case = moved(attention_case(1), device, torch.float64)
    case["coverage_weight"].zero_()
    without = {k: v for k, v in case.items() if not k.startswith("coverage")}
    assert torch.equal(called(operator, case).attention, called(operator, without).attention)


# --- temporal normalisation


@both_operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0, 1e4])
def test_temporal_attention_neither_overflows_nor_divides_by_zero(
    device: torch.device, operator: Callable[..., Attended], dtype: torch.dtype, size: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 6, 3, generator=generator).to(device, dtype)
    queries = (size * torch.randn(5, 2, 3, generator=generator)).to(device, dtype).requires_grad_()
    mask = torch.ones(2, 6, dtype=torch.bool, device=device)
    mask[1, 4:] = False
    past, total = torch.full((2, 6), -torch.inf, dtype=dtype, device=device), 0.0
    for query in queries:
        attended = operator(query, keys, keys, mask, None, past=past)
        past = attended.past
        torch.testing.assert_close(attended.attention.sum(1), torch.ones(2, dtype=dtype, device=device))
        assert past[mask].isfinite().all() and past[~mask].eq(-torch.inf).all()
        total = total + (attended.context.sum(1) * attended.attention[:, 0]).sum()
    total.backward()
    assert queries.grad.isfinite().all()


def test_the_past_is_the_log_sum_exp_of_all_energies_and_gradients_reach_the_first_step(device: torch.device) -> None:
    case = moved(attention_case(4, kind="additive"), device, torch.float64)
    queries = torch.randn(4, *case["query"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def last_attention(operator: Callable[..., Attended]) -> tuple[Tensor, Tensor, Tensor]:
        leaf = queries.to(device).requires_grad_()
        past = torch.full_like(case["coverage"] if "coverage" in case else case["keys"][:, :, 0], -torch.inf)
        for query in leaf:
            attended = called(operator, {**case, "query": query, "past": past})
            past = attended.past
        (gradient,) = torch.autograd.grad(attended.attention.square().sum(), leaf)
        return past, attended.attention, gradient

    found, expected = last_attention(copy_attention), last_attention(reference.copy_attention)
    torch.testing.assert_close(found, expected)
    assert found[2][0].abs().max() > 1e-3
    hidden = case["keys"] + queries.to(device)[:, :, None]
    energies = torch.tanh(hidden) @ case["score_weight"]
    torch.testing.assert_close(found[0][case["mask"]], energies.logsumexp(0)[case["mask"]])


@pytest.mark.parametrize("shift", [9.0, 11.0, 30.0, 60.0])
@pytest.mark.parametrize("size", [1, 2, 65])
def test_keys_and_queries_far_apart_whose_sum_is_small(device: torch.device, size: int, shift: float) -> None:
    """Rows that share a key may share its exponential only where no product of exponentials overflows or is lost."""
    case = attention_case(5, 12, 9, 0.5, shared=4, sizes=(size, 3), kind="additive")
    near, far = case["keys"] + shift, case["query"] - shift
    case |= {"keys": torch.where(torch.rand(3, 9, 1) < 0.5, near, case["keys"]), "query": far}
    case["query"][::3] += shift  # some rows stay near
    found = results_and_gradients(copy_attention, moved(case, device, torch.float32))
    rounded = {k: v.double() if v.is_floating_point() else v for k, v in moved(case, device, torch.float32).items()}
    assert_agree(found, results_and_gradients(reference.copy_attention, rounded), torch.float32)


def test_what_is_not_finite_stays_in_the_rows_that_share_it(device: torch.device) -> None:
    case = moved(attention_case(6, 12, 9, shared=4, sizes=(6, 3), kind="additive"), device, torch.float32)
    case["mask"][:] = True
    case["query"][1, 4], case["keys"][2, 3, 5] = torch.nan, torch.nan
    lost = called(copy_attention, case).attention.isnan()
    assert lost.any(1).nonzero()[:, 0].tolist() == [1, 8, 9, 10, 11]
