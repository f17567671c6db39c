"""Policy gradient on free-running samples: leave-one-out and self-critical baselines."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood, score_tokens

# tokens [N, T] and the batch of their B sources -> rewards [N]
Reward = Callable[[Tensor, Batch], Tensor]


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """r_i minus the mean of the other samples' rewards, for ``rewards`` [B, k], k >= 2.

    RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740, Eq. 8): each sample's baseline is independent of
    it, so summed over tokens the gradient is unbiased (`policy_gradient` divides it by the number of sampled tokens).
    """
    k = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (k / (k - 1))


def self_critical_advantages(rewards: Tensor, greedy_rewards: Tensor) -> Tensor:
    """r(y^s) - r(y^g) for ``rewards`` [B, k] and ``greedy_rewards`` [B].

    Paulus et al. 2018 (arXiv:1705.04304, Eq. 15) minimise (r(y^g) - r(y^s)) log p(y^s): a sample better than greedy
    becomes more likely.
    """
    return rewards - greedy_rewards[:, None]


def policy_gradient(
    model: Seq2Seq[Memory, State],
    batch: Batch,
    max_tokens: int,
    reward: Reward,
    config: FinetuneConfig,
) -> Loss:
    """eta RL + (1 - eta) MLE, with RL = -sum over sampled tokens of advantage log p(y^s_t), a sampled token.

    The model must be free of dropout: then the log-probabilities are those of the distribution that was sampled.
    Noise comes from PyTorch's global generator.
    """
    memory = model.encode(batch.sources, batch.source_lengths)
    noise = torch.rand(config.samples * len(batch.rows), max_tokens, device=batch.sources.device)
    rollouts = sample(model, memory, max_tokens, noise)
    rewards = reward(rollouts.tokens, batch).view(-1, config.samples)
    facts = {"reward": rewards.mean()}
    if config.method == "rloo":
        advantages = leave_one_out_advantages(rewards)
    else:
        baseline = greedy(model, memory, max_tokens)
        greedy_rewards = reward(baseline.tokens, batch)
        facts["greedy_reward"] = greedy_rewards.mean()
        advantages = self_critical_advantages(rewards, greedy_rewards)
    scored = score_tokens(model, memory, rollouts.tokens, rollouts.lengths)
    rl, log_probs = scored.weighted(-advantages.flatten() / len(scored.row))
    facts |= {"entropy": -log_probs.mean(), "sample_tokens": rollouts.lengths.double().mean()}
    if config.eta == 1:
        return Loss(rl, facts, len(scored.row))
    mle = maximum_likelihood(model, memory, batch, config.coverage.weight)
    total = config.eta * rl + (1 - config.eta) * mle.total
    return Loss(total, facts | mle.facts, len(scored.row) + mle.tokens)
