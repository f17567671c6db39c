"""What critics are trained towards, and how well they do."""

import torch
from torch import Tensor

from rlseq2seq.objectives.returns import discounted_sums


def double_value(q: Tensor, target_q: Tensor, log_probs: Tensor) -> Tensor:
    """Q_target(s, arg-max of Q(s, ·)), [n]: what the best policy would get (van Hasselt et al. 2016, arXiv:1509.06461,
    Eq. 4). Q, Q_target and log-probabilities [n, X] are of the same state; of impossible words, none is chosen."""
    best = q.masked_fill(log_probs.isneginf(), -torch.inf).argmax(1, keepdim=True)
    return target_q.gather(1, best)[:, 0]


def temporal_difference(rewards: Tensor, last: Tensor, gamma: float, values: Tensor) -> Tensor:
    """r + gamma * the value of the state after, [n], which is 0 where there is none."""
    return rewards + gamma * values.masked_fill(last, 0)


def generalized_advantages(rewards: Tensor, values: Tensor, lengths: Tensor, gamma: float, smoothing: float) -> Tensor:
    """sum over u >= t of (gamma lambda)^(u - t) (r_u + gamma V_(u+1) - V_u), V = 0 after the end: [N, T], for rewards
    and values [N, T] and lambda ``smoothing`` (Schulman et al. 2016, arXiv:1506.02438, Eq. 16)."""
    place = torch.arange(rewards.shape[1], device=rewards.device)
    inside = place < lengths[:, None]
    values = values * inside
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    return discounted_sums(rewards + gamma * following - values, lengths, gamma * smoothing)


def corrections(
    rewards: Tensor, chosen: Tensor, expected: Tensor, lengths: Tensor, gamma: float, smoothing: float
) -> Tensor:
    """lambda * sum over u >= t of (gamma lambda)^(u - t) (r_u + gamma V_(u+1) - Q_u), V = 0 after the end: [N, T], for
    rewards, Q of the sampled words (``chosen``) and V = sum over a of pi(a) Q(a) (``expected``) [N, T].

    It is what a sample adds to Q(s_t, y_t) by Retrace on the policy's own samples (Munos et al. 2016, arXiv:1606.02647,
    Eq. 3, c = lambda), gone lambda, ``smoothing``, of the way. 0 leaves Q as it is. With 1 the sum is the value of the
    word in expectation, however wrong Q is, as in ACER (Wang et al. 2017, arXiv:1611.01224, Eq. 5).
    """
    place = torch.arange(rewards.shape[1], device=rewards.device)
    inside = place < lengths[:, None]
    following = torch.nn.functional.pad((expected * inside)[:, 1:], (0, 1))
    return smoothing * discounted_sums(rewards + gamma * following - chosen, lengths, gamma * smoothing)


def explained_variance(returns: Tensor, predicted: Tensor) -> Tensor:
    """1 - Var(G - predicted) / Var(G), [], of returns and predictions [n]: 1 for a critic that knows, 0 for a constant.

    nan where the returns are all alike.
    """
    return 1 - (returns - predicted).var(correction=0) / returns.var(correction=0)
