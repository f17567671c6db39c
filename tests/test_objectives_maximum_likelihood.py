from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TableModel, move, random_batch, select, tiny_model
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from rlseq2seq.data.batches import Batch
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.token_ids import PAD, START

SEEDS = st.integers(0, 10_000)
SIZE, COPIES = 9, 2


def loss_of(model: PointerGenerator, batch: Batch, coverage_weight: float = 1.0) -> Loss:
    return maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, coverage_weight)


def smoothed(model: PointerGenerator, batch: Batch, smoothing: float, coverage_weight: float = 1.0) -> Loss:
    memory = model.encode(batch.sources, batch.source_lengths)
    return maximum_likelihood(model, memory, batch, coverage_weight, None, smoothing)


def gradients(model: PointerGenerator, loss: Loss) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
    return {name: torch.zeros(()) if g is None else g for name, g in zip(names, found, strict=True)}


def test_loss_is_the_mean_log_prob_of_the_target_tokens(device: torch.device) -> None:
    model = TableModel(SIZE, width=6).to(device)
    batch = move(random_batch(0, SIZE, copies=COPIES), device)
    log_probs = []
    for row in range(4):
        one = select(batch, [row])
        memory = model.encode(one.sources, one.source_lengths)
        state, last = model.initial_state(memory), START
        for token in one.targets[0, : one.target_lengths[0]].tolist():
            mixture, state = model.step(memory, state, model.embed(torch.tensor([last], device=device)))
            log_probs.append(mixture_log_probs(mixture, SIZE + COPIES)[0, token].item())
            last = token
    loss = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 1.0)
    assert loss.total.item() == pytest.approx(-sum(log_probs) / len(log_probs))
    assert loss.tokens == len(log_probs) == batch.target_lengths.sum()
    assert loss.facts.keys() == {"nll"} and loss.facts["nll"].item() == loss.total.item()


@settings(max_examples=25)
@given(SEEDS, st.booleans())
def test_padding_weighs_nothing(device: torch.device, seed: int, coverage: bool) -> None:
    model = tiny_model(SIZE, seed, coverage=coverage).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES), device)
    other = replace(
        batch,
        sources=pad(batch.sources, (0, 3), value=PAD),
        targets=pad(batch.targets, (0, 4), value=PAD).masked_fill(
            torch.arange(10, device=device) >= batch.target_lengths[:, None], 5
        ),
    )
    mine, theirs = loss_of(model, batch), loss_of(model, other)
    assert mine.tokens == theirs.tokens
    torch.testing.assert_close(theirs.total, mine.total, atol=1e-12, rtol=0)
    theirs_by_name = gradients(model, theirs)
    for name, gradient in gradients(model, mine).items():
        torch.testing.assert_close(theirs_by_name[name], gradient, atol=1e-10, rtol=1e-8)


def test_every_token_weighs_the_same_in_whatever_batch(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(3, SIZE, copies=COPIES), device)
    whole = loss_of(model, batch)
    alone = [loss_of(model, select(batch, [row])) for row in range(4)]
    assert sum(one.total.item() * one.tokens for one in alone) == pytest.approx(whole.total.item() * whole.tokens)


def test_coverage_loss_is_added_with_its_weight_when_coverage_is_on(device: torch.device) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(1, SIZE, copies=COPIES), device)
    scored = score_tokens(model, model.encode(batch.sources, batch.source_lengths), batch.targets, batch.target_lengths)
    loss = loss_of(model, batch, 0.5)
    nll, coverage_loss = -scored.log_probs.mean(), scored.coverage_loss.mean()
    assert coverage_loss > 0
    torch.testing.assert_close(loss.total, nll + 0.5 * coverage_loss)
    torch.testing.assert_close(loss.facts["nll"], nll.detach())
    torch.testing.assert_close(loss.facts["coverage_loss"], coverage_loss.detach())
    assert not any(fact.requires_grad for fact in loss.facts.values())
    model.uses_coverage = False
    off = loss_of(model, batch, 0.5)
    assert off.facts.keys() == {"nll"} and torch.equal(off.total.detach(), off.facts["nll"])


def test_scores_name_the_sequence_of_each_token(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(2, SIZE, copies=COPIES), device)
    lengths = torch.tensor([2, 0, 1, 3], device=device)
    memory = model.encode(batch.sources, batch.source_lengths)
    scored = score_tokens(model, memory, batch.targets, lengths)
    assert scored.row.tolist() == [0, 0, 2, 3, 3, 3]
    full = score_tokens(model, memory, batch.targets, torch.full_like(lengths, 6))
    torch.testing.assert_close(scored.log_probs, full.log_probs.view(4, 6)[torch.arange(6) < lengths[:, None].cpu()])


def test_tokens_are_weighed_and_so_are_their_entropies(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(2, SIZE, copies=COPIES), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
    weights = torch.arange(len(scored.row), dtype=torch.float64, device=device) + 1
    found = scored.weighted(weights, -2.0)
    dense = mixture_log_probs(scored.mixture, SIZE + COPIES).exp()
    torch.testing.assert_close(found.entropy, torch.special.entr(dense).sum(1).detach())
    each = weights * scored.log_probs - 2 * found.entropy
    torch.testing.assert_close(found.total, each.sum())
    assert scored.weighted(weights).entropy is None


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_label_smoothing_is_that_of_pytorch_where_nothing_is_copied(device: torch.device, smoothing: float) -> None:
    model = tiny_model(SIZE, copy=False).to(device)
    batch = move(random_batch(4, SIZE, copies=0), device)
    scored = score_tokens(model, model.encode(batch.sources, batch.source_lengths), batch.targets, batch.target_lengths)
    logits = torch.addmm(scored.mixture.bias, scored.mixture.features, scored.mixture.weight.T)
    total = cross_entropy(logits, scored.tokens, label_smoothing=smoothing)
    found, expected = smoothed(model, batch, smoothing), Loss(total, {}, 0)
    torch.testing.assert_close(found.total, total)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected))


@pytest.mark.parametrize("coverage", [False, True])
def test_label_smoothing_spreads_over_the_words_that_can_be_generated(device: torch.device, coverage: bool) -> None:
    model = tiny_model(SIZE, coverage=coverage).to(device)
    batch = move(random_batch(1, SIZE, copies=COPIES), device)
    plain, found = loss_of(model, batch, 0.5), smoothed(model, batch, 0.2, 0.5)
    memory = model.encode(batch.sources, batch.source_lengths)
    mixture = score_tokens(model, memory, batch.targets, batch.target_lengths).mixture
    logits = torch.addmm(mixture.bias, mixture.features, mixture.weight.T)
    even = (logits.logsumexp(1) - logits.mean(1)).mean()
    torch.testing.assert_close(found.total, plain.total + 0.2 * (even - plain.facts["nll"]))
    assert found.facts.keys() == plain.facts.keys()
    for name, fact in plain.facts.items():  # what is told of a model does not depend on how it is trained
        assert torch.equal(found.facts[name], fact) and not found.facts[name].requires_grad


def test_label_smoothing_leaves_the_share_that_it_says_to_the_target(device: torch.device) -> None:
    model = TableModel(SIZE, width=6, copy=False).to(device)
    batch = move(random_batch(0, SIZE, size=1, copies=0), device)
    optimizer = torch.optim.Adam([model.logits], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        loss = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 0.0, None, 0.3)
        loss.total.backward()
        optimizer.step()
    assert loss.facts["nll"].neg().exp().item() == pytest.approx(0.7 + 0.3 / SIZE, abs=1e-4)


def test_learning_by_heart(device: torch.device) -> None:
    torch.manual_seed(0)
    model = PointerGenerator(tiny_model(SIZE, decoder_size=12, embedding_size=8).config, SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=COPIES), device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.total.backward()
        optimizer.step()
    assert loss.total.item() < 0.1
