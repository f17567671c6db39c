"""What the operators take and give."""

from typing import NamedTuple

from torch import Tensor


class Attended(NamedTuple):
    """``context`` [N, C]; ``attention`` [N, S], which sums to 1 and is exactly 0 at padding; ``past`` [N, S] or None.

    ``past`` is the log-sum-exp of a position's energies up to this step, for attention that is normalised over time.
    """

    context: Tensor
    attention: Tensor
    past: Tensor | None


class Mixture(NamedTuple):
    """N next-token distributions, not yet computed (See et al. 2017, arXiv:1704.04368, Eq. 8 and 9).

    p(y) = g softmax(W f + b)_y + (1 - g) sum over {i: x_i = y} of a_i, where g = sigmoid(gate).

    Attributes:
        features: [N, F], f.
        weight: [V, F], W.
        bias: [V], b.
        gate_logits: [N], or None for a model that cannot copy (g = 1).
        attention: [N, S], a.
        source_ids: [B, S] int64, x: ids below V are in the vocabulary, others are extended. N is a multiple of B, and
            row n belongs to source n // (N // B).
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    gate_logits: Tensor | None
    attention: Tensor
    source_ids: Tensor


class WeightedLoss(NamedTuple):
    """``total`` [], the sum of weights * log-probabilities, entropy weights * entropies and smoothing weights * mean
    log-softmax; the ``log_probs`` [N] and the ``entropy`` [N] in nats, None unless asked for, which have no gradient.
    """

    total: Tensor
    log_probs: Tensor
    entropy: Tensor | None


class Chosen(NamedTuple):
    """``tokens`` [N] int64 (extended ids) and their ``log_probs`` [N] in the distribution that they came from."""

    tokens: Tensor
    log_probs: Tensor


class Beams(NamedTuple):
    """K hypotheses a source while they are searched for, best first.

    Attributes:
        tokens: [B, K, T] int64, the unfinished hypotheses so far.
        scores: [B, K], the sums of their tokens' scores, which are log-probabilities unless the search is guided;
            -inf where a place is free.
        finished_tokens: [B, K, T], the pool; each hypothesis holds its end token, padding after it.
        finished_scores: [B, K], sum of scores / length ** penalty; -inf where a place is free.
    """

    tokens: Tensor
    scores: Tensor
    finished_tokens: Tensor
    finished_scores: Tensor


class SearchRules(NamedTuple):
    """``length_penalty`` 0 compares sums; ``block_ngrams`` 0 blocks nothing; ``min_tokens`` counts no end token."""

    length_penalty: float = 0.0
    block_ngrams: int = 0
    min_tokens: int = 0
