"""What REINFORCE subtracts from returns."""

import pytest
import torch
from objective_cases import SIZE, Recorder, finetune_config, make_table, run, tuned
from tiny import move, random_batch, tiny_model

from rlseq2seq.decoding.hypotheses import token_lengths
from rlseq2seq.objectives.scoring import score_tokens


def test_a_moving_average_is_that_of_the_batches_before(device: torch.device) -> None:
    model, batch = make_table(device)
    means, expected, remembered = [], 0.0, torch.zeros(2)
    for step in range(4):
        torch.manual_seed(step)
        recorder = Recorder()
        fine_tuning = tuned(model, finetune_config("reinforce", baseline="moving_average"), recorder)
        fine_tuning.state.load_state_dict({**fine_tuning.state.state_dict(), "mean_return": remembered})
        loss = fine_tuning(batch, step)
        without = run(model, batch, finetune_config("reinforce"), seed=step)[0]
        memory = model.encode(batch.sources, batch.source_lengths)
        lengths = token_lengths(recorder.tokens[0])
        log_probs = score_tokens(model, memory, recorder.tokens[0], lengths).log_probs
        # What is subtracted from every return.
        found = (loss.total - without.total) / log_probs.mean()
        assert found.item() == pytest.approx(expected, abs=1e-6)
        loss.after()
        remembered = fine_tuning.state.mean_return
        means.append((recorder.rewards[0] * lengths).sum().item() / lengths.sum().item())
        weights = [0.95**i for i in range(len(means))][::-1]
        expected = sum(w * m for w, m in zip(weights, means, strict=True)) / sum(weights)


def test_a_learned_baseline_is_trained_by_its_own_loss_and_leaves_the_model_alone(device: torch.device) -> None:
    model, batch = make_table(device)
    fine_tuning = tuned(model, finetune_config("reinforce", baseline="learned", samples=500))
    assert fine_tuning.state.baseline is not None
    own = list(fine_tuning.state.baseline.parameters())
    optimizer = torch.optim.Adam(own, lr=0.05)
    losses = []
    for _ in range(60):
        loss = fine_tuning(batch, 0)
        optimizer.zero_grad()
        for parameter, slope in zip(own, torch.autograd.grad(loss.total, own), strict=True):
            parameter.grad = slope
        optimizer.step()
        losses.append(loss.facts["baseline_loss"].item())
    # A constant would leave the variance of the rewards; states know more.
    rewards = run(model, batch, finetune_config("reinforce", samples=5000))[1].rewards[0]
    assert losses[-1] < 0.9 * rewards.var().item() < losses[0]


def test_model_and_baseline_have_each_the_gradient_of_its_own_loss(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    recorder = Recorder()
    fine_tuning = tuned(model, finetune_config("reinforce", baseline="learned"), recorder)
    baseline = fine_tuning.state.baseline
    assert baseline is not None
    loss = fine_tuning(batch, 0)
    tokens = recorder.tokens[0]
    scored = score_tokens(model, model.encode(batch.sources, batch.source_lengths), tokens, token_lengths(tokens))
    returns = recorder.rewards[0][scored.row]
    expected = baseline(scored.mixture.features.detach())[:, 0]
    of_model = -((returns - expected.detach()) * scored.log_probs).mean()
    of_baseline = (expected - returns).square().mean()
    for owner, own in ((model, of_model), (baseline, of_baseline)):
        parameters = [p for p in owner.parameters() if p.requires_grad]
        found = torch.autograd.grad(loss.total, parameters, retain_graph=True, allow_unused=True)
        slopes = torch.autograd.grad(own, parameters, retain_graph=True, allow_unused=True)
        torch.testing.assert_close(found, slopes)
        assert any(slope is not None and slope.ne(0).any() for slope in slopes)
