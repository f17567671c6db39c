"""Attention, LSTM cell and pointer loss in PyTorch, a few lines each: what the kernels must agree with."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import logsigmoid

from rlseq2seq.ops.contracts import Attended, Mixture, WeightedLoss
from rlseq2seq.ops.mixture import log_copied, mixture_log_probs, source_ids
from rlseq2seq.token_ids import UNKNOWN


def copy_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    score_weight: Tensor | None,
    coverage: Tensor | None = None,
    coverage_weight: Tensor | None = None,
    past: Tensor | None = None,
) -> Attended:
    """One decoder step of attention; shapes and equations as of the operator, but padding must hold finite numbers."""
    sources, shared = len(keys), len(query) // max(len(keys), 1)

    def grouped(rows: Tensor) -> Tensor:
        return rows.reshape(sources, shared, *rows.shape[1:])

    if score_weight is None:
        energies = grouped(query) @ keys.mT
    else:
        hidden = grouped(query)[:, :, None] + keys[:, None]
        if coverage is not None and coverage_weight is not None:
            hidden = hidden + grouped(coverage)[..., None] * coverage_weight
        energies = torch.tanh(hidden) @ score_weight
    tokens = mask[:, None]
    if past is not None:
        before = grouped(past)
        past = torch.where(tokens, torch.logaddexp(before, energies), before).flatten(0, 1)
        energies = energies - before.masked_fill(before.isneginf(), 0)
    # A finite floor, not -inf: a row of nothing but padding would be 0 / 0.
    attention = energies.masked_fill(~tokens, torch.finfo(energies.dtype).min).softmax(-1) * tokens
    return Attended((attention @ values).flatten(0, 1), attention.flatten(0, 1), past)


def pointer_loss(mixture: Mixture, targets: Tensor) -> Tensor:
    """Log-probabilities [N] of ``targets`` [N] (int64, extended ids allowed), in log space and always finite.

    Attention that underflows counts as the smallest normal number where a target can only be copied. A model that
    cannot copy scores an extended target as the unknown token.
    """
    logits = torch.addmm(mixture.bias, mixture.features, mixture.weight.T)
    known = targets < len(mixture.weight)
    generated = logits.gather(1, targets.masked_fill(~known, UNKNOWN)[:, None])[:, 0] - logits.logsumexp(-1)
    if mixture.gate_logits is None:
        return generated
    copied = (mixture.attention * (source_ids(mixture) == targets[:, None])).sum(-1)
    copied = log_copied(copied, known) + logsigmoid(-mixture.gate_logits)
    generated = (generated + logsigmoid(mixture.gate_logits)).masked_fill(~known, -torch.inf)
    return torch.logaddexp(generated, copied)


def entropy(mixture: Mixture) -> Tensor:
    """-sum of p log p [N] over the extended vocabulary, from the dense mixture."""
    size = max([len(mixture.weight), *(mixture.source_ids.flatten() + 1).tolist()])
    log_probs = mixture_log_probs(mixture, size)
    return -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0)).sum(-1)


def mean_log_softmax(mixture: Mixture) -> Tensor:
    """The mean [N] over the vocabulary of the log-probabilities of generating: mean(z) - logsumexp(z)."""
    logits = torch.addmm(mixture.bias, mixture.features, mixture.weight.T)
    return logits.mean(-1) - logits.logsumexp(-1)


def weighted_pointer_loss(
    mixture: Mixture,
    targets: Tensor,
    weights: Tensor,
    entropy_weights: Tensor | None = None,
    smoothing_weights: Tensor | None = None,
) -> WeightedLoss:
    """The sum of ``weights`` [N] * log-probabilities of ``targets`` [N], ``entropy_weights`` [N] * entropies and
    ``smoothing_weights`` [N] * means of the log-softmax."""
    log_probs = pointer_loss(mixture, targets)
    total = (weights * log_probs).sum()
    if smoothing_weights is not None:
        total = total + (smoothing_weights * mean_log_softmax(mixture)).sum()
    if entropy_weights is None:
        return WeightedLoss(total, log_probs.detach(), None)
    entropies = entropy(mixture)
    return WeightedLoss(total + (entropy_weights * entropies).sum(), log_probs.detach(), entropies.detach())


def linear(inputs: Tensor, weight: Tensor, start: Tensor) -> Tensor:
    """start + W x [N, O] for each row x of ``inputs`` [N, I]; ``start`` is [O] or [N, O]."""
    return functional.linear(inputs, weight, start) if start.dim() == 1 else torch.addmm(start, inputs, weight.T)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and cell [N, D] after a step; shapes as of the operator."""
    entry, forget, candidate, exit_ = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
    return torch.sigmoid(exit_) * torch.tanh(cell), cell
