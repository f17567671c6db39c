"""The search steps against their references on random mixtures, at the sizes at which kernels go wrong."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from search_cases import Sizes, are_apart, best_totals, equal_copies, make_mixture
from tiny import from_logits, log_probs_of, on
from torch import Tensor

from rlseq2seq.ops import (
    Beams,
    Mixture,
    SearchRules,
    beam_step,
    greedy_step,
    mixture_log_probs,
    reference_search,
    sample_step,
    start_beams,
)
from rlseq2seq.token_ids import END

SEEDS = st.integers(0, 10_000)
# Around vectors, warps and chunks of 256.
VOCABULARIES = [4, 5, 63, 64, 65, 129, 255, 256, 257, 513, 1030]
WIDTHS = [0, 1, 2, 63, 64, 65, 129, 300, 513]
FEATURES = [1, 5, 63, 64, 65, 129, 513]
# Differences of scores below which a kernel may choose otherwise than the reference; errors of log-probabilities.
GAPS = {torch.float64: 1e-6, torch.float32: 1e-4}
TOLERANCES = {torch.float64: {"atol": 1e-9, "rtol": 0}, torch.float32: {"atol": 1e-4, "rtol": 1e-5}}


SIZES = st.builds(
    Sizes,
    sources=st.integers(0, 4),
    shared=st.integers(1, 4),
    vocabulary=st.sampled_from(VOCABULARIES),
    width=st.sampled_from(WIDTHS),
    extended=st.sampled_from([0, 3, 200]),
    features=st.sampled_from(FEATURES),
)
# More rows than are drawn, of long sources.
MANY = Sizes(sources=257, shared=2, vocabulary=65, width=513, extended=3, features=65)


def to_float64(mixture: Mixture) -> Mixture:
    return Mixture(*(t.double() if t is not None and t.is_floating_point() else t for t in mixture))


def dense(mixture: Mixture) -> Tensor:
    """The whole distribution in float64."""
    return mixture_log_probs(to_float64(mixture), reference_search.extended_size(mixture))


# --- greedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(seed=SEEDS, sizes=SIZES, copy=st.booleans())
@example(seed=0, sizes=MANY, copy=True)
def test_greedy_is_the_reference(device: torch.device, dtype: torch.dtype, seed: int, sizes: Sizes, copy: bool) -> None:
    mixture = make_mixture(seed, sizes, copy=copy, dtype=dtype)
    tokens, log_probs = (x.cpu() for x in greedy_step(on(mixture, device)))
    expected = dense(mixture)
    assert (
        tokens.dtype == torch.int64
        and log_probs.dtype == dtype
        and tokens.shape == log_probs.shape == expected.shape[:1]
    )
    best, second = (expected.topk(2).values.unbind(1)) if len(expected) else (log_probs, log_probs)
    clear = best - second > GAPS[dtype]
    assert torch.equal(tokens[clear], expected.argmax(1)[clear])
    found = expected.gather(1, tokens[:, None])[:, 0]
    assert (best - found <= GAPS[dtype]).all()
    torch.testing.assert_close(log_probs.double(), found, **TOLERANCES[dtype])


@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 63, 130])
@pytest.mark.parametrize("rows", [1, 3, 4, 6, 133, 514])
def test_any_number_of_rows_and_features(device: torch.device, rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(rows + width)
    mixture = make_mixture(5, Sizes(rows, 1, 65, 9, 3), dtype=torch.float32)._replace(
        features=torch.randn(rows, width, generator=generator), weight=torch.randn(65, width, generator=generator)
    )
    tokens, log_probs = (x.cpu() for x in greedy_step(on(mixture, device)))
    expected = dense(mixture)
    best, second = expected.topk(2).values.unbind(1)
    assert torch.equal(tokens[best - second > 1e-4], expected.argmax(1)[best - second > 1e-4])
    torch.testing.assert_close(log_probs.double(), best, **TOLERANCES[torch.float32])
    for row in range(0, rows, 7):  # to the last bit: what a row gives does not depend on the others
        alone = Mixture(*(t if t is None or len(t) == 65 else t[row : row + 1] for t in mixture))
        if device.type == "cpu":  # cuBLAS multiplies in another order for another number of rows
            assert torch.equal(greedy_step(alone).log_probs, log_probs[row : row + 1])


@pytest.mark.parametrize("vocabulary", [301, 304])
def test_bfloat16_is_for_cuda_and_sums_are_in_float32(device: torch.device, vocabulary: int) -> None:
    """Of rows of logits that have to be padded and of rows that have not: a library may multiply these otherwise."""
    mixture = make_mixture(3, Sizes(6, 1, vocabulary, 65, 3), dtype=torch.bfloat16)
    mixture.attention[-1] = mixture.attention[0]  # the smallest number, which it would have else, is another in float64
    if device.type == "cpu":
        with pytest.raises(ValueError, match="features must be float32, float64 or, on CUDA, bfloat16, not BFloat16"):
            greedy_step(mixture)
        return
    expected, near = dense(mixture), TOLERANCES[torch.float32]
    mixture = on(mixture, device)
    greedy, sampled = greedy_step(mixture), sample_step(mixture, torch.linspace(0, 0.99, len(expected), device=device))
    for tokens, log_probs in (greedy, sampled):
        found = expected.gather(1, tokens.cpu()[:, None])[:, 0]
        torch.testing.assert_close(log_probs.cpu(), found.float(), **near)
    torch.testing.assert_close(greedy.log_probs.cpu(), expected.amax(1).float(), **near)
    torch.testing.assert_close(log_probs_of(mixture, expected.shape[1]), expected, **near)


def test_equal_tokens_in_different_chunks(device: torch.device) -> None:
    logits = torch.zeros(4, 600, device=device)
    logits[1, [255, 256, 511]] = 1.0
    logits[2, [599, 512]] = 1.0
    logits[3, [257, 300]] = 1.0
    assert greedy_step(from_logits(logits)).tokens.tolist() == [0, 255, 512, 257]
    noise = torch.full((4,), 0.999, device=device)
    assert sample_step(from_logits(logits), noise, top_k=1).tokens.tolist() == [0, 255, 512, 257]
    beams = start_beams(4, 3, 1, like=logits)
    _, _, tokens = beam_step(from_logits(logits.repeat_interleave(3, 0)), beams, 0, SearchRules())
    assert tokens.view(4, 3).tolist() == [[0, 1, 2], [255, 256, 511], [512, 599, 0], [257, 300, 0]]


def test_equal_extended_tokens_are_in_the_order_of_ids(device: torch.device) -> None:
    mixture, ordered = equal_copies(device), [290, 300, 2**40, 2**40 + 1]
    assert greedy_step(mixture).tokens.tolist() == ordered[:1]
    mixture = equal_copies(device, 8)
    noise = torch.tensor([0.1, 0.24, 0.26, 0.49, 0.51, 0.74, 0.76, 0.9], device=device)
    expected = [token for token in ordered for _ in range(2)]
    for options in ({}, {"temperature": 0.9}, {"top_k": 4}):
        assert sample_step(mixture, noise, **options).tokens.tolist() == expected
    assert sample_step(mixture, noise, top_k=2).tokens.tolist() == [ordered[i] for i in [0, 0, 0, 0, 1, 1, 1, 1]]
    assert sample_step(mixture, noise, top_p=0.49).tokens.tolist() == [ordered[i] for i in [0, 0, 0, 0, 1, 1, 1, 1]]
    mixture = equal_copies(device, 5)
    beams = start_beams(1, 5, 1, like=mixture.features)
    assert beam_step(mixture, beams, 0, SearchRules())[2].tolist() == [*ordered, 0]


# --- sampling

OPTIONS = st.sampled_from(
    [
        {},
        {"temperature": 0.6},
        {"top_k": 1},
        {"top_k": 7},
        {"top_p": 0.8},
        {"temperature": 1.7, "top_k": 40, "top_p": 0.9},
    ]
)


def shaped_log_probs(mixture: Mixture, options: dict[str, float]) -> Tensor:
    """The distribution that is sampled, in float64."""
    log_probs = dense(mixture)
    if "temperature" in options:
        log_probs = (log_probs / options["temperature"]).log_softmax(-1)
    if "top_k" in options or "top_p" in options:
        kept = reference_search.most_probable(log_probs, int(options.get("top_k", 0)), options.get("top_p", 1.0))
        log_probs = kept.log_softmax(-1)
    return log_probs


@settings(max_examples=50)
@given(SEEDS, SIZES, st.booleans(), OPTIONS)
@example(0, MANY, True, {})
@example(0, MANY, True, {"temperature": 1.7, "top_k": 40, "top_p": 0.9})
def test_sampling_is_the_reference(
    device: torch.device, seed: int, sizes: Sizes, copy: bool, options: dict[str, float]
) -> None:
    mixture = make_mixture(seed, sizes, copy=copy)
    noise = torch.rand(len(mixture.features), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    tokens, log_probs = (x.cpu() for x in sample_step(on(mixture, device), noise.to(device), **options))
    expected = reference_search.sample_step(mixture, noise, **options)
    cumulative = shaped_log_probs(mixture, options).exp().cumsum(-1)
    clear = ((cumulative / cumulative[:, -1:] - noise[:, None]).abs() > 1e-6).all(1)
    assert torch.equal(tokens[clear], expected.tokens[clear])
    torch.testing.assert_close(log_probs[clear], expected.log_probs[clear], **TOLERANCES[torch.float64])


@settings(max_examples=30)
@given(SEEDS, SIZES, st.booleans(), OPTIONS)
@example(0, MANY, True, {})
@example(0, MANY, True, {"temperature": 1.7})  # of so many rows, float32 would cut some off elsewhere
def test_sampling_in_float32_is_that_in_float64_but_for_the_boundaries(
    device: torch.device, seed: int, sizes: Sizes, copy: bool, options: dict[str, float]
) -> None:
    mixture = make_mixture(seed, sizes, copy=copy, dtype=torch.float32)
    noise = torch.rand(len(mixture.features), generator=torch.Generator().manual_seed(seed))
    tokens, log_probs = (x.cpu() for x in sample_step(on(mixture, device), noise.to(device), **options))
    expected = shaped_log_probs(mixture, options)
    after = expected.exp().cumsum(-1)
    before = after - expected.exp()
    noise = noise * after[:, -1]  # the row without attention has no copies, so its probabilities sum to less than 1
    assert (before.gather(1, tokens[:, None])[:, 0] <= noise + 1e-5).all()
    assert (after.gather(1, tokens[:, None])[:, 0] >= noise - 1e-5).all()
    torch.testing.assert_close(
        log_probs.double(), expected.gather(1, tokens[:, None])[:, 0], **TOLERANCES[torch.float32]
    )


# --- beam search


def to_type(beams: Beams, dtype: torch.dtype, device: torch.device) -> Beams:
    return Beams(*(t.to(device, dtype if t.is_floating_point() else None) for t in beams))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=30)
@given(
    seed=SEEDS,
    sizes=SIZES,
    copy=st.booleans(),
    beam=st.sampled_from([1, 2, 4, 5, 33]),
    rules=st.builds(SearchRules, st.sampled_from([0.0, 1.3]), st.integers(0, 3), st.integers(0, 3)),
)
@example(seed=0, sizes=MANY, copy=True, beam=2, rules=SearchRules(1.3, 1, 1))
def test_a_beam_step_is_the_reference(
    device: torch.device, dtype: torch.dtype, seed: int, sizes: Sizes, copy: bool, beam: int, rules: SearchRules
) -> None:
    """Of sources whose best extensions and finished hypotheses are further apart than what types may differ by."""
    sizes = replace(sizes, shared=beam)
    source_ids = make_mixture(seed, sizes).source_ids  # the same at every step: a hypothesis holds what it could copy
    expected = start_beams(sizes.sources, beam, 5, like=torch.zeros(1, dtype=torch.float64))
    for step in range(5):
        mixture = make_mixture(seed + step, sizes, copy=copy, dtype=dtype)._replace(source_ids=source_ids)
        if dtype == torch.float32:  # the smallest number, which the last row would have else, is another in float64
            mixture.attention[-1:] = torch.linspace(0, 1, sizes.width).softmax(0)
        # Few tokens are likely, so that n-grams come again.
        mixture.bias[[END, sizes.vocabulary - 1, sizes.vocabulary // 2]] += torch.tensor([2.0, 4, 4], dtype=dtype)
        found, parents, tokens = beam_step(on(mixture, device), to_type(expected, dtype, device), step, rules)
        assert found.scores.dtype == found.finished_scores.dtype == dtype
        mixture = to_float64(mixture)
        clear = are_apart(best_totals(mixture, expected, step, rules), GAPS[dtype])
        expected, expected_parents, expected_tokens = reference_search.beam_step(mixture, expected, step, rules)
        clear &= are_apart(expected.finished_scores, GAPS[dtype])
        for scores, wanted in ((found.scores, expected.scores), (found.finished_scores, expected.finished_scores)):
            torch.testing.assert_close(scores.cpu().double()[clear], wanted[clear], **TOLERANCES[dtype])
        alive, pooled = (x.isfinite() & clear[:, None] for x in (expected.scores, expected.finished_scores))
        assert torch.equal(found.tokens.cpu()[alive], expected.tokens[alive])
        assert torch.equal(found.finished_tokens.cpu()[pooled], expected.finished_tokens[pooled])
        assert torch.equal(parents.cpu()[alive.flatten()], expected_parents[alive.flatten()])
        assert torch.equal(tokens.cpu()[alive.flatten()], expected_tokens[alive.flatten()])
        assert parents.cpu().div(beam, rounding_mode="floor").equal(torch.arange(sizes.sources).repeat_interleave(beam))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", [-1000.0, -100.0, -30.0, 0.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("attention", [0.0, 1e-45, 1e-38, 1e-30, 0.5])
def test_log_probs_are_those_of_the_mixture_where_it_underflows(
    device: torch.device, dtype: torch.dtype, gate: float, attention: float
) -> None:
    mixture = make_mixture(1, Sizes(1, 1, 65, 4, 0), dtype=dtype)
    mixture.source_ids[0] = torch.tensor([66, 5, 65, 5])
    mixture.attention[0] = torch.tensor([attention, attention, 0.25, 0], dtype=dtype)
    mixture.gate_logits[:] = gate
    found, expected = log_probs_of(on(mixture, device), 67), mixture_log_probs(mixture, 67)
    assert expected.isfinite().all()
    torch.testing.assert_close(found, expected.double(), **TOLERANCES[dtype])


def test_blocking_takes_copies_out_too(device: torch.device) -> None:
    mixture = equal_copies(device, 2)
    beams = start_beams(1, 2, 3, like=mixture.features)
    for step, expected in enumerate(([290, 300], [300, 2**40], [2**40, 2**40 + 1])):
        beams, _, tokens = beam_step(mixture, beams, step, SearchRules(block_ngrams=1))
        assert tokens.tolist() == expected
