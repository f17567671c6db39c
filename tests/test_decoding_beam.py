from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import are_apart, best_totals
from tiny import TableModel, every_sequence, move, random_batch, select, tiny_model, tiny_transformer
from torch import Tensor
from torch.nn.functional import pad

from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding import beam as beam_module
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.protocol import select_rows
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import Beams, Mixture, SearchRules, beam_step
from rlseq2seq.ops.beams import finish_beams
from rlseq2seq.token_ids import END, PAD

SEEDS = st.integers(0, 10_000)
SIZE, COPIES, MAX_TOKENS = 9, 2, 7
RULES = st.builds(
    SearchRules,
    length_penalty=st.sampled_from([0.0, 1.0, 1.7]),
    block_ngrams=st.integers(0, 3),
    min_tokens=st.integers(0, 4),
)


def search(model: PointerModel, batch: Batch, beam: int, rules: SearchRules) -> Hypotheses:
    memory = model.encode(batch.sources, batch.source_lengths)
    return beam_search(model, memory, MAX_TOKENS, beam, rules)


def make_case(seed: int, device: torch.device, size: int = 4) -> tuple[PointerModel, Batch]:
    """One in three is a Transformer."""
    lstm = seed % 3 != 2
    model = tiny_model(SIZE, seed, coverage=seed % 2 == 0) if lstm else tiny_transformer(SIZE, seed)
    model = model.to(device)
    return model, move(random_batch(seed, SIZE, copies=COPIES, size=size, empty=True), device)


@settings(max_examples=30)
@given(SEEDS)
def test_a_beam_of_one_is_greedy(device: torch.device, seed: int) -> None:
    model, batch = make_case(seed, device)
    found = search(model, batch, 1, SearchRules())
    expected = greedy(model, model.encode(batch.sources, batch.source_lengths), MAX_TOKENS)
    assert torch.equal(found.tokens, pad(expected.tokens, (0, MAX_TOKENS - expected.tokens.shape[1]), value=PAD))
    assert torch.equal(found.lengths, expected.lengths)
    torch.testing.assert_close(found.scores, expected.scores)


@settings(max_examples=15)
@given(SEEDS, RULES, st.integers(1, 5))
def test_scores_are_teacher_forced_log_probs_over_length_to_the_penalty(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    model, batch = make_case(seed, device)
    found = search(model, batch, beam, rules)
    memory = model.encode(batch.sources, batch.source_lengths)
    scored = score_tokens(model, memory, found.tokens, found.lengths)
    sums = scored.log_probs.new_zeros(4).index_add(0, scored.row, scored.log_probs)
    torch.testing.assert_close(found.scores, sums / found.lengths.double() ** rules.length_penalty, atol=1e-9, rtol=0)


@settings(max_examples=15)
@given(SEEDS, RULES, st.integers(1, 5))
def test_a_row_does_not_depend_on_batch_order_or_padding(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    model, batch = make_case(seed, device)
    found = search(model, batch, beam, rules)
    for rows in ([0], [1], [2], [3], [3, 1, 0, 2], [1, 1]):
        other = search(model, select(batch, rows), beam, rules)
        assert torch.equal(other.tokens, found.tokens[rows])
        torch.testing.assert_close(other.scores, found.scores[rows])
    wider = replace(batch, sources=pad(batch.sources, (0, 5), value=PAD))
    assert torch.equal(search(model, wider, beam, rules).tokens, found.tokens)


@pytest.mark.parametrize("seed", range(6))
def test_float32_finds_what_float64_finds_where_scores_are_apart(device: torch.device, seed: int) -> None:
    model, batch = make_case(seed, device, size=64)
    single = model.float()
    double, clear, gap = deepcopy(single).double(), torch.ones(64, dtype=torch.bool, device=device), 1e-4
    rules, searched = SearchRules(1.0, block_ngrams=2, min_tokens=1), []

    def watched(mixture: Mixture, beams: Beams, step: int, rules: SearchRules) -> tuple[Beams, Tensor, Tensor]:
        extended = beam_step(mixture, beams, step, rules)
        clear.logical_and_(are_apart(best_totals(mixture, beams, step, rules), gap))
        searched.append(extended[0])
        return extended

    memory = double.encode(batch.sources, batch.source_lengths)
    expected = beam_search(double, memory, MAX_TOKENS, 4, rules, watched)
    clear &= are_apart(finish_beams(searched[-1], MAX_TOKENS**1.0).finished_scores[:, :2], gap)
    assert clear.double().mean() > 0.9
    # The same memory: cuDNN may encode in TF32, whose errors are no decoder's.
    memory = type(memory)(*(t.float() if t.is_floating_point() else t for t in memory))
    found = beam_search(single, memory, MAX_TOKENS, 4, rules)
    assert found.scores.dtype == torch.float32
    assert torch.equal(found.tokens[clear], expected.tokens[clear])
    torch.testing.assert_close(found.scores[clear].double(), expected.scores[clear], atol=gap, rtol=0)


@settings(max_examples=15)
@given(SEEDS, RULES, st.integers(1, 5))
def test_outputs_keep_the_rules(device: torch.device, seed: int, rules: SearchRules, beam: int) -> None:
    model, batch = make_case(seed, device)
    found = search(model, batch, beam, rules)
    assert found.tokens.shape == (4, MAX_TOKENS) and found.scores.isfinite().all()
    for row, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True):
        tokens, n = row[:length], rules.block_ngrams
        assert END not in tokens[:-1] and (tokens[-1] == END or length == MAX_TOKENS)
        assert all(token == PAD for token in row[length:])
        assert length > rules.min_tokens
        if n:
            grams = [tuple(tokens[i : i + n]) for i in range(length - n + 1)]
            assert len(set(grams)) == len(grams)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_that_holds_everything_finds_the_best(device: torch.device, seed: int, length_penalty: float) -> None:
    model = TableModel(6, width=2, seed=seed).to(device)
    memory = model.encode(torch.tensor([[6, 4], [5, 0]], device=device), torch.tensor([2, 1], device=device))
    tokens, lengths = (t.to(device) for t in every_sequence(7, 3))
    found = beam_search(model, memory, 3, 400, SearchRules(length_penalty))
    for source in (0, 1):
        one = select_rows(memory, torch.tensor([source], device=device))
        scored = score_tokens(model, one, tokens, lengths)
        sums = scored.log_probs.new_zeros(len(tokens)).index_add(0, scored.row, scored.log_probs)
        best = (sums / lengths.double() ** length_penalty).argmax()
        assert torch.equal(found.tokens[source], tokens[best])


def test_a_state_of_one_size_is_searched_in_two_places(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Transformer's is large: new memory for it at each step would take longer than the step."""
    model, batch = make_case(2, device)
    model.output.bias.data[END] = -1e4
    step, caches = model.step, []

    def watched(memory: Any, state: Any, inputs: Tensor) -> Any:
        caches.append(state[0])
        return step(memory, state, inputs)

    monkeypatch.setattr(model, "step", watched)
    found = search(model, batch, 3, SearchRules())
    # On CUDA, a step from each place is run once and recorded once, and replayed from then on.
    calls = 4 if device.type == "cuda" else MAX_TOKENS
    assert len(caches) == calls > 2 and len({cache.data_ptr() for cache in caches}) == 2

    def take(place: Any, state: Any, parents: Tensor) -> None:
        place._state = select_rows(state, parents)

    monkeypatch.setattr(beam_module._Place, "take", take)
    expected = search(model, batch, 3, SearchRules())
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.scores, expected.scores)


def test_one_token_at_most(device: torch.device) -> None:
    model, batch = make_case(0, device)
    memory = model.encode(batch.sources, batch.source_lengths)
    best = greedy(model, memory, 1)
    for beam in (1, 3):
        found = beam_search(model, memory, 1, beam, SearchRules())
        assert torch.equal(found.tokens, best.tokens) and found.lengths.tolist() == [1] * 4


def test_going_on_after_all_have_ended_changes_nothing(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_case(0, device)
    with torch.no_grad():
        model.output.bias[END] += 9
        model.gate.bias += 9
    steps = []
    monkeypatch.setattr(beam_module, "may_stop", lambda finished, step: steps.append(step) or bool(finished.all()))
    stopped = search(model, batch, 3, SearchRules(1.0))
    assert len(steps) < MAX_TOKENS
    monkeypatch.setattr(beam_module, "may_stop", lambda finished, step: False)
    found = search(model, batch, 3, SearchRules(1.0))
    assert torch.equal(found.tokens, stopped.tokens) and torch.equal(found.scores, stopped.scores)


def test_a_wider_beam_finds_what_greedy_misses(device: torch.device) -> None:
    better = 0
    for seed in range(20):
        model, batch = make_case(seed, device)
        narrow, wide = (search(model, batch, beam, SearchRules()).scores for beam in (1, 8))
        better += (wide > narrow + 1e-9).sum().item()
    assert better > 10
