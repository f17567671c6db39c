"""What every model keeps to, of whatever architecture."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import COPIES, SIZE, encode, step_by_step, teacher_forced
from tiny import MODELS, VARIANTS, move, random_batch, select
from torch import Tensor

from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.protocol import repeat_rows, select_rows
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.objectives.scoring import teacher_forced as gold_inputs
from rlseq2seq.ops import SearchRules, mixture_log_probs

SEEDS = st.integers(0, 10_000)
MAX_TOKENS = 6


class Rows(NamedTuple):
    ids: Tensor
    states: Tensor


ROWS = Rows(torch.tensor([3, 1, 2]), torch.tensor([[3.0, 30.0], [1.0, 10.0], [2.0, 20.0]]))


def test_select_rows_takes_the_same_rows_of_every_tensor() -> None:
    found = select_rows(ROWS, torch.tensor([2, 0, 0, 1]))
    assert isinstance(found, Rows)
    assert found.ids.tolist() == found.states[:, 0].tolist() == [2, 3, 3, 1]


def test_repeat_rows_keeps_the_copies_of_a_row_together() -> None:
    found = repeat_rows(ROWS, 2)
    assert isinstance(found, Rows)
    assert found.ids.tolist() == found.states[:, 0].tolist() == [3, 3, 1, 1, 2, 2]


@pytest.mark.parametrize("variant", MODELS, ids=str)
@settings(max_examples=4)
@given(SEEDS, st.sampled_from([torch.float64, torch.float32]))
def test_decoding_step_by_step_gives_the_teacher_forced_log_probs(
    device: torch.device, variant: Any, seed: int, dtype: torch.dtype
) -> None:
    model = variant.model(SIZE, seed, dtype=dtype).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES if variant.copy else 0, empty=seed % 2 == 0), device)
    stepped = step_by_step(model, encode(model, batch), batch.targets).gather(2, batch.targets[:, :, None])[:, :, 0]
    inside = torch.arange(batch.targets.shape[1], device=device) < batch.target_lengths[:, None]
    difference = (stepped - teacher_forced(model, batch)).abs()[inside]
    assert difference.max() < (1e-9 if dtype == torch.float64 else 1e-4)


@settings(max_examples=50)
@given(SEEDS, st.sampled_from(MODELS))
def test_every_next_token_distribution_sums_to_one(device: torch.device, seed: int, variant: Any) -> None:
    model = variant.model(SIZE, seed).to(device)
    batch = move(random_batch(seed, SIZE, empty=True), device)
    totals = step_by_step(model, encode(model, batch), batch.targets).logsumexp(2)
    torch.testing.assert_close(totals, torch.zeros_like(totals), atol=1e-12, rtol=0)


@settings(max_examples=50)
@given(SEEDS, st.sampled_from(MODELS))
def test_what_padding_holds_changes_nothing(device: torch.device, seed: int, variant: Any) -> None:
    model = variant.model(SIZE, seed).to(device)
    batch = move(random_batch(seed, SIZE, empty=True), device)
    other = replace(batch, sources=batch.sources.clone(), targets=batch.targets.clone())
    place = torch.arange(batch.sources.shape[1], device=device)
    other.sources[place >= batch.source_lengths[:, None]] = 5
    other.targets[place >= batch.target_lengths[:, None]] = 6
    wider = replace(batch, sources=torch.cat([other.sources, other.sources], 1))
    for changed in (other, wider):
        torch.testing.assert_close(teacher_forced(model, changed), teacher_forced(model, batch), atol=1e-12, rtol=0)


@settings(max_examples=50)
@given(SEEDS, st.sampled_from(MODELS), st.permutations(range(4)))
def test_permuting_the_batch_permutes_the_outputs(
    device: torch.device, seed: int, variant: Any, order: list[int]
) -> None:
    model = variant.model(SIZE, seed).to(device)
    batch = move(random_batch(seed, SIZE), device)
    other = select(batch, order)
    found, expected = teacher_forced(model, other), teacher_forced(model, batch)[order]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    found = step_by_step(model, encode(model, other), other.targets)
    expected = step_by_step(model, encode(model, batch), batch.targets)[order]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("variant", [v for v in MODELS if v.output_weights == "tied"], ids=str)
def test_a_batch_of_empty_sources_has_finite_losses_and_gradients(device: torch.device, variant: Any) -> None:
    model = variant.model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=0), device)
    for width in (0, 3):
        model.zero_grad()
        memory = model.encode(batch.sources[:, :width], torch.zeros_like(batch.source_lengths))
        scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
        assert scored.log_probs.isfinite().all()
        scored.log_probs.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("variant", MODELS, ids=str)
def test_every_combination_trains_and_decodes(device: torch.device, variant: Any) -> None:
    model = variant.model(SIZE, 1).to(device)
    batch = move(random_batch(1, SIZE, copies=COPIES if variant.copy else 0, empty=True), device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        loss = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 1.0)
        losses.append(loss.total.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        for name, parameter in model.named_parameters():
            unused = name == "attention_coverage" and not variant.coverage
            assert (parameter.grad is None) == unused, name
            assert unused or (parameter.grad.isfinite().all() and parameter.grad.ne(0).any()), name
        optimizer.step()
    assert losses[-1] < losses[0]
    with torch.no_grad():
        memory = model.encode(batch.sources, batch.source_lengths)
    noise = torch.rand(8, MAX_TOKENS, generator=torch.Generator().manual_seed(0)).to(device)
    best, sampled = greedy(model, memory, MAX_TOKENS), sample(model, memory, MAX_TOKENS, noise)
    searched = beam_search(model, memory, MAX_TOKENS, 3, SearchRules())
    for found in (best, sampled, searched):
        scored = score_tokens(model, memory, found.tokens, found.lengths)
        sums = scored.log_probs.new_zeros(len(found.tokens)).index_add(0, scored.row, scored.log_probs)
        torch.testing.assert_close(found.scores.to(sums.dtype), sums)


@pytest.mark.parametrize(
    "variant", [v for v in MODELS if v not in VARIANTS or v.coverage != (v.attention.score == "bilinear")], ids=str
)
def test_gradients_are_those_of_single_steps(device: torch.device, variant: Any) -> None:
    model = variant.model(SIZE, 2).to(device)
    batch = move(random_batch(2, SIZE, copies=COPIES if variant.copy else 0, empty=True), device)
    names, parameters = zip(*model.named_parameters(), strict=True)

    def gradients(log_probs: Tensor) -> list[Tensor]:
        inside = torch.arange(log_probs.shape[1], device=device) < batch.target_lengths[:, None]
        return [
            torch.zeros(()) if gradient is None else gradient
            for gradient in torch.autograd.grad(log_probs[inside].sum(), parameters, allow_unused=True)
        ]

    memory = model.encode(batch.sources, batch.source_lengths)
    steps = model.all_steps(memory, gold_inputs(model, batch.targets))
    row, step = torch.ones_like(batch.targets).nonzero(as_tuple=True)
    dense = mixture_log_probs(model.mixture(memory, steps, row, step), SIZE + COPIES)
    together = gradients(dense[torch.arange(len(row)), batch.targets.flatten()].view(batch.targets.shape))
    memory = model.encode(batch.sources, batch.source_lengths)
    state, found = model.initial_state(memory), []
    for column, target in zip(gold_inputs(model, batch.targets).unbind(1), batch.targets.unbind(1), strict=True):
        mixture, state = model.step(memory, state, column)
        found.append(mixture_log_probs(mixture, SIZE + COPIES).gather(1, target[:, None]))
    for name, mine, theirs in zip(names, together, gradients(torch.cat(found, 1)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
