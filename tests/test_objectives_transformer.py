"""Every way to reinforce, with a Transformer as the policy."""

import pytest
import torch
from objective_cases import (
    SIZE,
    Recorder,
    assert_log_probs_are_those_of_the_distribution_sampled,
    finetune_config,
    tuned,
)
from tiny import move, random_batch, tiny_transformer

from rlseq2seq.config.model import HeadConfig

METHODS = ["reinforce", "self_critical", "rloo", "grpo", "mrt", "actor_critic"]


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_reaches_every_weight_from_the_rollouts_alone(
    device: torch.device, method: str, positions: str
) -> None:
    model = tiny_transformer(SIZE, positions=positions).to(device)
    batch = move(random_batch(0, SIZE, copies=1, size=16), device)
    torch.manual_seed(0)
    fine_tuning = tuned(model, finetune_config(method, samples=4, critic__warmup_updates=0), Recorder())
    if fine_tuning.critic is not None:
        for parameter in fine_tuning.critic.parameters():  # at first it knows nothing, and nothing is learned from it
            torch.nn.init.normal_(parameter)
    loss = fine_tuning(batch, 0)
    loss.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.ne(0).any(), name
    assert all(fact.isfinite() for fact in loss.after().values())


@pytest.mark.parametrize("copy_head", [None, HeadConfig(2, 1)])
def test_log_probs_in_the_loss_are_those_of_the_distribution_sampled(
    device: torch.device, copy_head: HeadConfig | None
) -> None:
    model = tiny_transformer(SIZE, copy_head=copy_head).to(device)
    assert_log_probs_are_those_of_the_distribution_sampled(model, device)
