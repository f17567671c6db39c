"""Returns: what the tokens of a rollout are credited with, and what they are compared with.

Everything is [N, T] for N rollouts, k in a row for each source, of T tokens at most. After the end of a rollout its
last return stands, so that rollouts of different lengths can be compared at every step.
"""

import torch
from torch import Tensor


def sequence_returns(rewards: Tensor, lengths: Tensor, width: int, gamma: float = 1.0) -> Tensor:
    """gamma^(T - t) R_T at t = 1 .. T for rewards [N] of rollouts of ``lengths`` [N]: [N, width]."""
    place = torch.arange(1, width + 1, device=rewards.device)
    return rewards[:, None] * gamma ** (lengths[:, None] - place).clamp_min(0).to(rewards.dtype)


def shaped_returns(prefix_rewards: Tensor, lengths: Tensor, gamma: float) -> Tensor:
    """sum over u >= t of gamma^(u - t) (R_u - R_(u-1)), R_0 = 0, for rewards [N, T] of every prefix."""
    return hold_last(discounted_sums(shaped_rewards(prefix_rewards), lengths, gamma), lengths)


def shaped_rewards(prefix_rewards: Tensor) -> Tensor:
    """R_t - R_(t-1), R_0 = 0, for rewards [N, T] of every prefix: what each token adds (Bahdanau et al. 2017,
    arXiv:1607.07086, section 3)."""
    return prefix_rewards - torch.nn.functional.pad(prefix_rewards[:, :-1], (1, 0))


def discounted_sums(rewards: Tensor, lengths: Tensor, gamma: float) -> Tensor:
    """sum over T >= u >= t of gamma^(u - t) r_u for the rewards [N, T] of tokens; 0 after the end."""
    place = torch.arange(rewards.shape[1], device=rewards.device)
    inside = rewards * (place < lengths[:, None])
    # [T, T]: what a reward at u (row) counts at t (column).
    later = (place[:, None] - place).clamp_min(0).to(rewards.dtype)
    return inside @ (gamma**later).tril()


def penalties(costs: Tensor, lengths: Tensor, gamma: float | None) -> Tensor:
    """What the costs [N, T] of tokens take off the returns: discounted sums of those to come, or for None, as a
    sequence has one return, the sum of all."""
    if gamma is None:
        return costs.sum(1, keepdim=True).expand_as(costs)
    return hold_last(discounted_sums(costs, lengths, gamma), lengths)


def hold_last(returns: Tensor, lengths: Tensor) -> Tensor:
    """``returns`` [N, T] with the one at the last token in place of what follows it."""
    place = torch.arange(returns.shape[1], device=returns.device)
    return returns.gather(1, torch.minimum(place, lengths[:, None] - 1))


def leave_one_out(returns: Tensor, samples: int) -> Tensor:
    """Each return minus the mean of the other samples' of its source, for ``samples`` >= 2.

    RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740, Eq. 8): the baseline is independent of the sample.
    """
    group = returns.view(-1, samples, returns.shape[1])
    return ((group - group.mean(1, keepdim=True)) * (samples / (samples - 1))).view_as(returns)


def group_normalized(returns: Tensor, samples: int) -> Tensor:
    """(G - mean) / standard deviation over the samples of a source; 0 where they are all alike.

    GRPO (Shao et al. 2024, arXiv:2402.03300, Eq. 3 and section 4.1.2).
    """
    group = returns.view(-1, samples, returns.shape[1])
    spread, mean = torch.std_mean(group, 1, correction=0, keepdim=True)
    return ((group - mean) / (spread + 1e-6)).view_as(returns)


def self_critical(returns: Tensor, greedy_returns: Tensor) -> Tensor:
    """G(y^s) - G(y^g), for the returns [N, T] of k samples a source and [B, T'] of its greedy output.

    Paulus et al. 2018 (arXiv:1705.04304, Eq. 15) minimise (r(y^g) - r(y^s)) log p(y^s): a sample better than greedy
    becomes more likely.
    """
    width = returns.shape[1]
    place = torch.arange(width, device=returns.device).clamp_max(greedy_returns.shape[1] - 1)
    baseline = greedy_returns[:, place]
    return (returns.view(len(baseline), -1, width) - baseline[:, None]).view_as(returns)
