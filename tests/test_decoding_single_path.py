from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MODELS, TableModel, every_sequence, move, random_batch, select, tiny_model
from torch import Tensor
from torch.nn.functional import pad

from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding import single_path
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.token_ids import END, PAD, START

SEEDS = st.integers(0, 10_000)
SIZE, COPIES, MAX_TOKENS = 9, 2, 7
NEAR = {"atol": 1e-9, "rtol": 0}


def make_noise(seed: int, rows: int, device: torch.device, max_tokens: int = MAX_TOKENS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, max_tokens, generator=generator, dtype=torch.float64).to(device)


def decode(model: PointerGenerator, batch: Batch, noise: Tensor | None) -> Hypotheses:
    """Greedy without noise, sampling with it."""
    memory = model.encode(batch.sources, batch.source_lengths)
    if noise is None:
        return greedy(model, memory, MAX_TOKENS)
    return sample(model, memory, MAX_TOKENS, noise)


def teacher_forced_sums(model: Seq2Seq[Memory, State], memory: Memory, tokens: Tensor, lengths: Tensor) -> Tensor:
    scored = score_tokens(model, memory, tokens, lengths)
    return scored.log_probs.new_zeros(len(tokens)).index_add(0, scored.row, scored.log_probs)


@torch.no_grad()
def slow_greedy(model: PointerGenerator, batch: Batch) -> list[int]:
    """The tokens of a batch of one, from whole distributions."""
    memory = model.encode(batch.sources, batch.source_lengths)
    state, tokens = model.initial_state(memory), [START]
    while len(tokens) <= MAX_TOKENS and tokens[-1] != END:
        last = torch.tensor(tokens[-1:], device=batch.sources.device)
        mixture, state = model.step(memory, state, model.embed(last))
        log_probs = mixture_log_probs(mixture, SIZE + COPIES)[0].tolist()
        tokens.append(log_probs.index(max(log_probs)))
    return tokens[1:]


@settings(max_examples=15)
@given(SEEDS, st.booleans())
def test_greedy_takes_the_best_token_of_each_step_until_the_end(
    device: torch.device, seed: int, coverage: bool
) -> None:
    model = tiny_model(SIZE, seed, coverage=coverage).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES, empty=True), device)
    tokens, lengths, _ = decode(model, batch, None)
    for row in range(4):
        assert tokens[row, : lengths[row]].tolist() == slow_greedy(model, select(batch, [row]))


@pytest.mark.parametrize("sampled", [True, False])
@settings(max_examples=15)
@given(seed=SEEDS, coverage=st.booleans())
def test_scores_are_the_teacher_forced_log_probs_of_what_was_written(
    device: torch.device, sampled: bool, seed: int, coverage: bool
) -> None:
    model = tiny_model(SIZE, seed, coverage=coverage).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES, empty=True), device)
    found = decode(model, batch, make_noise(seed, 4, device) if sampled else None)
    memory = model.encode(batch.sources, batch.source_lengths)
    expected = teacher_forced_sums(model, memory, found.tokens, found.lengths)
    torch.testing.assert_close(found.scores, expected, **NEAR)
    assert not found.scores.requires_grad


@pytest.mark.parametrize("sampled", [True, False])
@settings(max_examples=15)
@given(seed=SEEDS)
def test_a_row_does_not_depend_on_the_others_or_padding(device: torch.device, sampled: bool, seed: int) -> None:
    model = MODELS[seed % len(MODELS)].model(SIZE, seed).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES, empty=True), device)
    noise = make_noise(seed, 4, device) if sampled else None
    found = decode(model, batch, noise)
    for rows in ([0], [1], [3], [2, 0, 3, 1]):
        other = decode(model, select(batch, rows), None if noise is None else noise[rows])
        assert other.lengths.tolist() == found.lengths[rows].tolist()
        width = other.tokens.shape[1]
        assert torch.equal(other.tokens, found.tokens[rows][:, :width])
        torch.testing.assert_close(other.scores, found.scores[rows], **NEAR)
    for more in (1, 14):
        other = decode(model, replace(batch, sources=pad(batch.sources, (0, more), value=PAD)), noise)
        assert torch.equal(other.tokens, found.tokens) and torch.equal(other.lengths, found.lengths)
        torch.testing.assert_close(other.scores, found.scores, **NEAR)


@pytest.mark.parametrize("sampled", [True, False])
def test_after_its_end_a_hypothesis_is_padding(device: torch.device, sampled: bool) -> None:
    model = tiny_model(SIZE, 5).to(device)
    batch = move(random_batch(5, SIZE, copies=COPIES, size=64), device)
    tokens, lengths, _ = decode(model, batch, make_noise(5, 64, device) if sampled else None)
    assert len(set(lengths.tolist())) > 2
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert END not in row[: length - 1] and (row[length - 1] == END or length == MAX_TOKENS)
        assert all(token == PAD for token in row[length:])


@pytest.mark.parametrize("sampled", [True, False])
def test_going_on_after_all_have_ended_changes_nothing(
    device: torch.device, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(SIZE).to(device)
    with torch.no_grad():
        model.output.bias[END] += 4
        model.gate.bias += 4
    batch = move(random_batch(0, SIZE, copies=COPIES), device)
    noise = make_noise(0, 4, device) if sampled else None
    monkeypatch.setattr(single_path, "may_stop", lambda finished, step: bool(finished.all()))
    stopped = decode(model, batch, noise)
    monkeypatch.setattr(single_path, "may_stop", lambda finished, step: False)
    found = decode(model, batch, noise)
    width = stopped.tokens.shape[1]
    assert width < MAX_TOKENS == found.tokens.shape[1]
    assert torch.equal(found.tokens[:, :width], stopped.tokens) and found.tokens[:, width:].eq(PAD).all()
    assert torch.equal(found.lengths, stopped.lengths) and torch.equal(found.scores, stopped.scores)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_whole_samples_are_as_frequent_as_they_are_probable(device: torch.device, temperature: float) -> None:
    count, max_tokens = 20_000, 2
    model = TableModel(5, width=2).to(device)
    sources = torch.tensor([[5, 4]], device=device)
    memory = model.encode(sources, torch.tensor([2], device=device))
    tokens, lengths = (t.to(device) for t in every_sequence(6, max_tokens))
    scored = score_tokens(model, memory, tokens, lengths)
    if temperature == 1:
        log_probs = scored.log_probs
    else:  # each step's distribution is sharpened by itself
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], 1)
        steps = model.all_steps(memory, model.embed(before))
        step = torch.cat([torch.arange(length) for length in lengths.tolist()]).to(device)
        dense = mixture_log_probs(model.mixture(memory, steps, scored.row, step), 6)
        sharp = (dense / temperature).log_softmax(1)
        log_probs = sharp.gather(1, tokens[scored.row, step][:, None])[:, 0]
    probs = log_probs.new_zeros(len(tokens)).index_add(0, scored.row, log_probs).exp()
    assert probs.sum().item() == pytest.approx(1)
    noise = make_noise(0, count, device, max_tokens)
    found = sample(model, memory, max_tokens, noise, temperature=temperature)
    same = (found.tokens[:, None] == tokens).all(2)
    assert same.sum(1).eq(1).all()
    assert (same.double().mean(0) - probs).abs().max() < 0.01
    torch.testing.assert_close(found.scores, probs.log()[same.int().argmax(1)])


def test_top_k_and_top_p_reach_every_step(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=COPIES), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    noise = make_noise(0, 4, device)
    best = greedy(model, memory, MAX_TOKENS).tokens
    assert not torch.equal(sample(model, memory, MAX_TOKENS, noise).tokens, best)
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-3}):
        assert torch.equal(sample(model, memory, MAX_TOKENS, noise, **options).tokens, best)
