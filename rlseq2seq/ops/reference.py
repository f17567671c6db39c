"""The operators in PyTorch, a few lines each: what a kernel must agree with, and what runs where there is none."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from rlseq2seq.ops.contracts import Attended, Mixture
from rlseq2seq.token_ids import UNKNOWN


def copy_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    score_weight: Tensor,
    coverage: Tensor | None = None,
    coverage_weight: Tensor | None = None,
) -> Attended:
    """One decoder step of additive attention, with optional coverage.

    e_i = v . tanh(W_h h_i + W_s s + w_c c_i + b), a = softmax(e) over tokens, context = sum of a_i h_i
    (Bahdanau et al. 2015, arXiv:1409.0473; See et al. 2017, arXiv:1704.04368, Eq. 1, 2 and 11).

    Args:
        query: [N, A], the projected decoder state with its bias, ``W_s s + b``.
        keys: [N, S, A], the projected encoder states, ``W_h h_i``.
        values: [N, S, C], what is averaged.
        mask: [N, S] bool, true at tokens. A row without any gives attention and context 0.
        score_weight: [A], ``v``.
        coverage: [N, S], the sum of earlier attention, or None.
        coverage_weight: [A], ``w_c``; used with ``coverage``.
    """
    hidden = keys + query[:, None]
    if coverage is not None and coverage_weight is not None:
        hidden = hidden + coverage[:, :, None] * coverage_weight
    energies = torch.tanh(hidden) @ score_weight
    # A finite floor, not -inf: a row of nothing but padding would be 0 / 0.
    attention = energies.masked_fill(~mask, torch.finfo(energies.dtype).min).softmax(-1) * mask
    return Attended(torch.bmm(attention[:, None], values)[:, 0], attention)


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
    copied = (mixture.attention * (mixture.source_ids == targets[:, None])).sum(-1)
    copied = _log_copied(copied, known) + logsigmoid(-mixture.gate_logits)
    generated = (generated + logsigmoid(mixture.gate_logits)).masked_fill(~known, -torch.inf)
    return torch.logaddexp(generated, copied)


def mixture_log_probs(mixture: Mixture, extended_size: int) -> Tensor:
    """All log-probabilities [N, extended_size]: the one function that builds the dense mixture.

    Only the tokens of the source have a copied part, so only they are added in log space. ``extended_size`` is V
    plus the largest number of copies that a source has.
    """
    generated = torch.addmm(mixture.bias, mixture.features, mixture.weight.T).log_softmax(-1)
    generated = pad(generated, (0, extended_size - len(mixture.weight)), value=-torch.inf)
    if mixture.gate_logits is None:
        return generated
    generated = generated + logsigmoid(mixture.gate_logits)[:, None]
    ids = mixture.source_ids
    mass = torch.zeros_like(generated).scatter_add(1, ids, mixture.attention).gather(1, ids)
    copied = _log_copied(mass, ids < len(mixture.weight)) + logsigmoid(-mixture.gate_logits)[:, None]
    return generated.scatter(1, ids, torch.logaddexp(generated.gather(1, ids), copied))


def _log_copied(mass: Tensor, known: Tensor) -> Tensor:
    """Log of the attention ``mass`` on tokens, which are generated too where ``known``; elsewhere it stays finite."""
    smallest = torch.finfo(mass.dtype).tiny
    return mass.clamp_min(smallest).log().masked_fill(known & (mass < smallest), -torch.inf)


def rouge_l(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    prefixes: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Longest common subsequences, precision, recall and F1, by the textbook programme; shapes as of the operator.

    L[t, u] = max(L[t-1, u], L[t, u-1], L[t-1, u-1] + [tokens t and u match]), all u of a row t at once.
    """
    shared = len(hypotheses) // max(len(references), 1)
    references, reference_lengths = (x.repeat_interleave(shared, 0) for x in (references, reference_lengths))
    inside = torch.arange(references.shape[1], device=references.device) < reference_lengths[:, None]
    rows = [references.new_zeros(len(references), references.shape[1] + 1)]
    for t in range(hypotheses.shape[1]):
        match = (references == hypotheses[:, t, None]) & inside & (t < hypothesis_lengths)[:, None]
        diagonal = pad(rows[-1][:, :-1] + match, (1, 0))
        rows.append(torch.maximum(rows[-1], diagonal).cummax(1).values)
    common = torch.stack([row[:, -1] for row in rows], 1)
    read = torch.arange(len(rows), device=common.device).minimum(hypothesis_lengths[:, None])
    whole = reference_lengths[:, None]
    ratios = [x.float() / y.clamp_min(1) for x, y in ((common, read), (common, whole), (2 * common, read + whole))]
    lcs, precision, recall, fmeasure = (x[:, 1:] if prefixes else x[:, -1] for x in (common.int(), *ratios))
    return lcs, precision, recall, fmeasure


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and cell [N, D] after a step; shapes as of the operator."""
    entry, forget, candidate, exit_ = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
    return torch.sigmoid(exit_) * torch.tanh(cell), cell
