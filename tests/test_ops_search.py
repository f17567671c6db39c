import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import from_logits, from_one_row, log_probs_of, on, random_mixture, row_of
from torch import Tensor

from rlseq2seq.ops import (
    Beams,
    Mixture,
    SearchRules,
    beam_step,
    finish_beams,
    greedy_step,
    mixture_log_probs,
    sample_step,
    start_beams,
)
from rlseq2seq.token_ids import END, PAD

SEEDS = st.integers(0, 10_000)
Tokens = tuple[int, ...]
NextLogProbs = Callable[[Tokens], list[float]]


def even_noise(count: int, device: torch.device) -> Tensor:
    return (torch.arange(count, dtype=torch.float64, device=device) + 0.5) / count


def frequencies(mixture: Mixture, extended_size: int, **options: float) -> Tensor:
    """How often each token is chosen when noise is spread evenly over [0, 1): within 1 / 2000 of its probability."""
    noise = even_noise(4000, mixture.features.device)
    tokens, _ = sample_step(row_of(mixture, 0, 4000), noise, **options)
    return tokens.bincount(minlength=extended_size).double() / 4000


# --- greedy


@given(SEEDS, st.booleans())
def test_greedy_takes_the_most_probable_token(device: torch.device, seed: int, copy: bool) -> None:
    mixture = on(random_mixture(seed, copy=copy), device)
    tokens, log_probs = greedy_step(mixture)
    dense = mixture_log_probs(mixture, 10)
    assert torch.equal(tokens, dense.argmax(1))
    torch.testing.assert_close(log_probs, dense.max(1).values)


def test_greedy_may_take_a_copy(device: torch.device) -> None:
    mixture = random_mixture(0, vocabulary_size=7)
    mixture.source_ids[:, 0], mixture.gate_logits[:] = 8, -9
    mixture.attention.zero_()[:, 0] = 1
    assert greedy_step(on(mixture, device)).tokens.tolist() == [8, 8, 8]


def test_greedy_takes_the_lower_of_equal_tokens(device: torch.device) -> None:
    logits = torch.zeros(3, 40, device=device)
    logits[1, [33, 9, 21]] = 1.0
    logits[2, [39, 38]] = 1.0
    assert greedy_step(from_logits(logits)).tokens.tolist() == [0, 9, 38]


# --- sampling


@settings(max_examples=20)
@given(SEEDS, st.booleans())
def test_tokens_are_sampled_as_often_as_they_are_probable(device: torch.device, seed: int, copy: bool) -> None:
    mixture = on(random_mixture(seed, rows=1, copy=copy), device)
    probs = mixture_log_probs(mixture, 10).exp()[0]
    assert (frequencies(mixture, 10) - probs).abs().max() < 1e-3


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([0.3, 2.0]), st.sampled_from([0, 1, 3]), st.sampled_from([0.01, 0.6, 0.95, 1.0]))
def test_sampling_by_temperature_top_k_and_top_p(
    device: torch.device, seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    mixture = on(random_mixture(seed, rows=1), device)
    probs = mixture_log_probs(mixture, 10)[0].div(temperature).softmax(0).tolist()
    kept, total = {}, 0.0
    for token in sorted(range(10), key=lambda token: -probs[token]):
        if total >= top_p or (top_k and len(kept) == top_k):
            break
        kept[token] = probs[token]
        total += probs[token]
    expected = torch.tensor([kept.get(token, 0) / sum(kept.values()) for token in range(10)], dtype=torch.float64)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    found = frequencies(mixture, 10, **options).cpu()
    assert (found - expected).abs().max() < 1e-3
    assert found[expected == 0].eq(0).all()
    # The log-probabilities are those of the distribution that was sampled, not of the model's.
    tokens, log_probs = sample_step(row_of(mixture, 0, 50), even_noise(50, device), **options)
    torch.testing.assert_close(log_probs.cpu(), expected[tokens.cpu()].log())


def test_top_k_keeps_the_lower_of_equal_tokens(device: torch.device) -> None:
    mixture = from_logits(torch.zeros(1, 8, dtype=torch.float64, device=device))
    assert frequencies(mixture, 8, top_k=2).tolist() == pytest.approx([0.5, 0.5, *[0] * 6])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=SEEDS)
def test_the_ends_of_the_noise_choose_tokens_that_are_possible(
    device: torch.device, dtype: torch.dtype, seed: int
) -> None:
    # The ids from 45 on belong to no source: what the noise must never reach.
    mixture = on(random_mixture(seed, vocabulary_size=40, extended=4, sharpness=5, dtype=dtype), device)
    below_one = torch.nextafter(torch.ones(3, dtype=dtype), torch.zeros(3, dtype=dtype)).to(device)
    for noise in (torch.zeros_like(below_one), below_one):
        for options in ({}, {"top_k": 2}, {"top_p": 0.5}, {"temperature": 0.1}):
            tokens, log_probs = sample_step(mixture, noise, **options)
            assert tokens.lt(45).all() and log_probs.isfinite().all()


def test_noise_zero_skips_impossible_tokens(device: torch.device) -> None:
    mixture = from_one_row([-math.inf, -math.inf, 0, 1, -math.inf], 2, device)
    noise = torch.tensor([0, 1 - 2**-53], dtype=torch.float64, device=device)
    assert sample_step(mixture, noise).tokens.tolist() == [2, 3]


@given(SEEDS, st.booleans())
def test_a_row_is_sampled_as_if_it_were_alone(device: torch.device, seed: int, shaped: bool) -> None:
    mixture = on(random_mixture(seed, rows=8), device)
    noise = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(device)
    options = {"temperature": 0.7, "top_k": 6, "top_p": 0.9} if shaped else {}
    together = sample_step(mixture, noise, **options)
    for row in range(8):
        alone = sample_step(row_of(mixture, row), noise[row : row + 1], **options)
        assert alone.tokens.item() == together.tokens[row].item()


# --- beam search, against its description in plain Python


def slow_allowed(log_probs: list[float], history: Tokens, rules: SearchRules) -> list[float]:
    allowed = list(log_probs)
    n = rules.block_ngrams
    if n:
        seen = {history[i : i + n] for i in range(len(history) - n + 1)}
        for token in range(len(allowed)):
            if (*history, token)[-n:] in seen:
                allowed[token] = -math.inf
    if len(history) < rules.min_tokens:
        allowed[END] = -math.inf
    if all(value == -math.inf for value in allowed):
        allowed[END] = log_probs[END]
    return allowed


def slow_beam_search(
    next_log_probs: NextLogProbs, max_tokens: int, beam: int, rules: SearchRules
) -> list[tuple[float, Tokens]]:
    """The finished pool, best first."""
    alive: list[tuple[float, Tokens]] = [(0.0, ())]
    pool: list[tuple[float, Tokens]] = []
    for _ in range(max_tokens):
        extensions = [
            (score + log_prob, (*history, token))
            for score, history in alive
            for token, log_prob in enumerate(slow_allowed(next_log_probs(history), history, rules))
            if log_prob > -math.inf
        ]
        # Python's sort is stable: equals stay in the order of (beam, token).
        extensions.sort(key=lambda extension: -extension[0])
        best = extensions[: beam - len(pool)]
        alive = [extension for extension in best if extension[1][-1] != END]
        ended = [extension for extension in best if extension[1][-1] == END]
        pool += [(score / len(tokens) ** rules.length_penalty, tokens) for score, tokens in ended]
        if not alive:
            break
    pool += [(score / max_tokens**rules.length_penalty, tokens) for score, tokens in alive]
    return sorted(pool, key=lambda item: -item[0])


class Bank:
    """For each of some sources, a next-token distribution for every history: a row of a bank of mixtures."""

    def __init__(self, seed: int, device: torch.device, *, coarse: bool = False) -> None:
        mixture = random_mixture(seed, rows=97, vocabulary_size=6, extended=2, width=4, copy=not coarse, sharpness=1.5)
        if coarse:  # equals everywhere
            mixture = from_logits((mixture.features @ mixture.weight.T).sign())
        self.mixture = on(mixture, device)
        # As the operator has them, so that equals are equals; that they are right is tested elsewhere.
        self.log_probs = log_probs_of(self.mixture, 8).tolist()

    def place(self, source: int, history: Tokens) -> int:
        place = source
        for token in history:
            place = (place * 11 + token + 1) % 97
        return place

    def next_log_probs(self, source: int, history: Tokens) -> list[float]:
        return self.log_probs[self.place(source, history)]

    def rows(self, places: list[int]) -> Mixture:
        index = torch.tensor(places, device=self.mixture.features.device)
        gate_logits = None if self.mixture.gate_logits is None else self.mixture.gate_logits[index]
        return self.mixture._replace(
            features=self.mixture.features[index],
            gate_logits=gate_logits,
            attention=self.mixture.attention[index],
            source_ids=self.mixture.source_ids[index],
        )


def fast_beam_search(bank: Bank, sources: list[int], max_tokens: int, beam: int, rules: SearchRules) -> Beams:
    """Step by step through the operator, with nothing but what it returns: histories follow the parents."""
    beams = start_beams(len(sources), beam, max_tokens, like=bank.mixture.features)
    histories: list[Tokens] = [() for _ in range(len(sources) * beam)]
    for step in range(max_tokens):
        places = [bank.place(sources[i // beam], history) for i, history in enumerate(histories)]
        pool, pool_scores = beams.finished_tokens.clone(), beams.finished_scores.clone()
        beams, parents, tokens = beam_step(bank.rows(places), beams, step, rules)
        histories = [(*histories[p], t) for p, t in zip(parents.tolist(), tokens.tolist(), strict=True)]
        assert_pool_only_grows(pool, pool_scores, beams)
        alive = beams.scores.flatten().isfinite().tolist()
        rows = beams.tokens.flatten(0, 1)[:, : step + 1].tolist()
        assert all(tuple(row) == history for row, history, live in zip(rows, histories, alive, strict=True) if live)
        assert all(END not in history for history, live in zip(histories, alive, strict=True) if live)
    return finish_beams(beams, max_tokens**rules.length_penalty)


def assert_pool_only_grows(tokens: Tensor, scores: Tensor, beams: Beams) -> None:
    """Finished hypotheses are never extended, changed or lost."""
    for source in range(len(tokens)):
        now = [
            (s, t)
            for s, t in zip(beams.finished_scores[source].tolist(), beams.finished_tokens[source].tolist(), strict=True)
        ]
        for before in zip(scores[source].tolist(), tokens[source].tolist(), strict=True):
            if before[0] > -math.inf:
                assert before in now
        for score, row in now:
            if score > -math.inf:
                end = row.index(END)
                assert all(token == PAD for token in row[end + 1 :])


def pool_of(beams: Beams, source: int) -> list[tuple[float, Tokens]]:
    """The finished pool as plain Python, without the padding."""
    pool = []
    for score, row in zip(beams.finished_scores[source].tolist(), beams.finished_tokens[source].tolist(), strict=True):
        if score > -math.inf:
            pool.append((score, tuple(row[: row.index(END) + 1] if END in row else row)))
    return pool


RULES = st.builds(
    SearchRules,
    length_penalty=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    block_ngrams=st.integers(0, 3),
    min_tokens=st.integers(0, 4),
)


@settings(max_examples=60)
@given(SEEDS, RULES, st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_beam_search_does_what_it_says(
    device: torch.device, seed: int, rules: SearchRules, beam: int, max_tokens: int, coarse: bool
) -> None:
    bank, sources = Bank(seed, device, coarse=coarse), [3, 14, 15]
    beams = fast_beam_search(bank, sources, max_tokens, beam, rules)
    for i, source in enumerate(sources):
        expected = slow_beam_search(partial(bank.next_log_probs, source), max_tokens, beam, rules)
        found = pool_of(beams, i)
        assert [tokens for _, tokens in found] == [tokens for _, tokens in expected]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], rel=1e-12)


@settings(max_examples=20)
@given(SEEDS, RULES, st.integers(1, 5))
def test_a_source_is_searched_as_if_it_were_alone(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    bank, sources = Bank(seed, device), [5, 1, 60, 33, 7]
    together = fast_beam_search(bank, sources, 5, beam, rules)
    backwards = fast_beam_search(bank, sources[::-1], 5, beam, rules)
    for i, source in enumerate(sources):
        alone = pool_of(fast_beam_search(bank, [source], 5, beam, rules), 0)
        for found in (pool_of(together, i), pool_of(backwards, len(sources) - 1 - i)):
            assert [tokens for _, tokens in found] == [tokens for _, tokens in alone]
            assert [score for score, _ in found] == pytest.approx([score for score, _ in alone], rel=1e-12)


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([0.0, 1.0, 1.5]), st.sampled_from([0, 1, 2]))
def test_a_beam_that_holds_everything_finds_the_best_of_everything(
    device: torch.device, seed: int, length_penalty: float, block_ngrams: int
) -> None:
    bank, rules, max_tokens = Bank(seed, device), SearchRules(length_penalty, block_ngrams), 3
    every: list[tuple[float, Tokens]] = []

    def write(history: Tokens, score: float) -> None:
        for token, log_prob in enumerate(bank.next_log_probs(9, history)):
            tokens = (*history, token)
            grams = [tokens[i : i + block_ngrams] for i in range(len(tokens) - block_ngrams + 1)]
            if log_prob == -math.inf or (block_ngrams and len(set(grams)) < len(grams)):
                continue
            if token == END or len(tokens) == max_tokens:
                every.append(((score + log_prob) / len(tokens) ** length_penalty, tokens))
            else:
                write(tokens, score + log_prob)

    write((), 0.0)
    found = pool_of(fast_beam_search(bank, [9], max_tokens, 500, rules), 0)
    assert len(found) == len(every)
    assert found[0][1] == max(every)[1]
    assert found[0][0] == pytest.approx(max(every)[0], rel=1e-12)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 3), st.integers(0, 7))
def test_no_ngram_twice_and_no_early_end(device: torch.device, seed: int, block_ngrams: int, min_tokens: int) -> None:
    rules = SearchRules(block_ngrams=block_ngrams, min_tokens=min_tokens)
    for beam in (1, 4):
        beams = fast_beam_search(Bank(seed, device), [2, 4], 7, beam, rules)
        for source in (0, 1):
            found = pool_of(beams, source)
            assert len(found) == beam
            for _, tokens in found:
                grams = [tokens[i : i + block_ngrams] for i in range(len(tokens) - block_ngrams + 1)]
                assert len(set(grams)) == len(grams)
                # With single tokens blocked, fewer may be left than are asked for.
                assert END not in tokens[:min_tokens] or block_ngrams == 1


def test_blocking_ends_a_hypothesis_and_never_empties_it(device: torch.device) -> None:
    # Two tokens that are possible, each only once, and an end that may not come before the sixth: it comes third.
    mixture = from_one_row([-math.inf, -math.inf, -math.inf, -20, 1, 0], 4, device)
    beams = start_beams(2, 2, 6, like=mixture.features)
    rules = SearchRules(block_ngrams=1, min_tokens=5)
    for step in range(6):
        beams, _, _ = beam_step(mixture, beams, step, rules)
    beams = finish_beams(beams, 1.0)
    assert beams.finished_tokens.tolist() == [[[4, 5, END, 0, 0, 0], [5, 4, END, 0, 0, 0]]] * 2
    assert beams.finished_scores.isfinite().all()


def test_blocked_tokens_leave_their_places_in_the_beam_to_others(device: torch.device) -> None:
    # After 4, it is 4 that is best: taken out before the two best are chosen, there are still two, 5 and 6.
    logits = torch.tensor([[-9.0, -9, -9, -9, 5, 2, 1]], dtype=torch.float64, device=device)
    beams = start_beams(1, 2, 3, like=logits)
    beams, _, _ = beam_step(from_logits(logits.repeat(2, 1)), beams, 0, SearchRules(block_ngrams=1))
    beams = beams._replace(scores=torch.tensor([[0.0, -torch.inf]], dtype=torch.float64, device=device))
    beams, parents, tokens = beam_step(from_logits(logits.repeat(2, 1)), beams, 1, SearchRules(block_ngrams=1))
    assert tokens.tolist() == [5, 6] and parents.tolist() == [0, 0]


def test_of_equals_the_lower_beam_and_then_the_lower_token_is_taken(device: torch.device) -> None:
    logits = torch.zeros(6, 50, dtype=torch.float64, device=device)
    logits[:, : END + 1] = -50
    beams = start_beams(2, 3, 2, like=logits)
    beams, parents, tokens = beam_step(from_logits(logits), beams, 0, SearchRules())
    assert tokens.tolist() == [4, 5, 6] * 2 and parents.tolist() == [0] * 3 + [3] * 3
    beams, parents, tokens = beam_step(from_logits(logits), beams, 1, SearchRules())
    assert tokens.tolist() == [4, 5, 6] * 2 and parents.tolist() == [0] * 3 + [3] * 3


def test_one_token_is_the_most_probable_one_finished_or_not(device: torch.device) -> None:
    logits = torch.tensor([[0.0, 0, 0, 1, 2, 0]] * 2 + [[0.0, 0, 0, 2, 1, 0]] * 2, dtype=torch.float64, device=device)
    beams, _, _ = beam_step(from_logits(logits), start_beams(2, 2, 1, like=logits), 0, SearchRules())
    beams = finish_beams(beams, 1.0)
    assert beams.finished_tokens.tolist() == [[[4], [END]], [[END], [4]]]
    expected = logits[[0, 2]].log_softmax(1).sort(descending=True).values[:, :2]
    torch.testing.assert_close(beams.finished_scores, expected)


def test_a_beam_wider_than_the_vocabulary_holds_each_hypothesis_once(device: torch.device) -> None:
    beams = fast_beam_search(Bank(0, device), [0], 1, 40, SearchRules())
    found = [tokens for _, tokens in pool_of(beams, 0)]
    assert len(found) == len(set(found)) == sum(value > -math.inf for value in Bank(0, device).log_probs[0])


def test_a_length_penalty_divides_by_the_length_with_its_end_token(device: torch.device) -> None:
    # At each step the end costs 1.2 and token 4 costs 0.5. Ended at once: -1.2; cut after three tokens: -1.5 / 3.
    rest = math.log(1 - math.exp(-1.2) - math.exp(-0.5))
    mixture = from_one_row([-math.inf, -math.inf, -math.inf, -1.2, -0.5, rest], 2, device)
    for penalty, best in ((0.0, [END, 0, 0]), (1.0, [4, 4, 4])):
        beams = start_beams(1, 2, 3, like=mixture.features)
        for step in range(3):
            beams, _, _ = beam_step(mixture, beams, step, SearchRules(penalty))
        beams = finish_beams(beams, 3**penalty)
        assert beams.finished_tokens[0, 0].tolist() == best
        assert beams.finished_scores[0, 0].item() == pytest.approx(-1.2 if penalty == 0 else -0.5)
