"""What REINFORCE subtracts from returns."""

import pytest
import torch
from objective_cases import SIZE, Recorder, finetune_config, gradient, make_table, run, tuned
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
        remembered = loss.remembered["mean_return"]
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


def test_no_gradient_of_the_baseline_reaches_the_model(device: torch.device) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch, recorder = move(random_batch(0, SIZE, copies=1), device), Recorder()
    fine_tuning = tuned(model, finetune_config("reinforce", baseline="learned", samples=3), recorder)
    assert fine_tuning.state.baseline is not None
    loss = fine_tuning(batch, 0)
    scored = score_tokens(
        model, model.encode(batch.sources, batch.source_lengths), recorder.tokens[0], token_lengths(recorder.tokens[0])
    )
    expected = fine_tuning.state.baseline(scored.mixture.features)[:, 0].detach()
    advantages = recorder.rewards[0][scored.row] - expected
    of_the_policy = -(advantages * scored.log_probs).sum() / len(advantages)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(gradient(loss.total, model), gradient(of_the_policy, model))
