"""Mixtures on which the search steps and their references are compared."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlseq2seq.ops import Beams, Mixture, SearchRules, mixture_log_probs
from rlseq2seq.ops.dense_search import _allowed
from rlseq2seq.ops.mixture import extended_size


@dataclass(frozen=True)
class Sizes:
    sources: int
    shared: int
    vocabulary: int
    width: int
    extended: int
    features: int = 5


def make_mixture(seed: int, sizes: Sizes, *, copy: bool = True, dtype: torch.dtype = torch.float64) -> Mixture:
    """Sources with many copies and extended ids in any order; the last row attends to nothing but padding."""
    generator = torch.Generator().manual_seed(seed)
    rows = sizes.sources * sizes.shared

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    # Half of the ids are near the first extended one, where the vocabulary ends.
    anywhere = torch.randint(0, sizes.vocabulary + sizes.extended, (sizes.sources, sizes.width), generator=generator)
    near = torch.randint(
        sizes.vocabulary - 4, sizes.vocabulary + min(sizes.extended, 4), anywhere.shape, generator=generator
    )
    source_ids = torch.where(normal(*anywhere.shape) > 0, anywhere, near)
    attention = (2 * normal(rows, sizes.width)).softmax(-1)
    if rows:
        attention[-1] = 0
    return Mixture(
        features=normal(rows, sizes.features).to(dtype),
        # Logits are as large, however many features they are sums of.
        weight=(normal(sizes.vocabulary, sizes.features) * (5 / max(sizes.features, 1)) ** 0.5).to(dtype),
        bias=normal(sizes.vocabulary).to(dtype),
        gate_logits=normal(rows).to(dtype) if copy else None,
        attention=attention.to(dtype),
        source_ids=source_ids,
    )


def equal_copies(device: torch.device, rows: int = 1) -> Mixture:
    """Four extended tokens, in no order, each as probable as the others, and hardly anything else."""
    ids = torch.tensor([[2**40, 300, 2**40 + 1, 290, 300, 2**40, 290, 2**40 + 1]], device=device)
    return Mixture(
        features=torch.zeros(rows, 1, device=device),
        weight=torch.zeros(260, 1, device=device),
        bias=torch.zeros(260, device=device),
        gate_logits=torch.full((rows,), -20.0, device=device),
        attention=torch.full((rows, 8), 0.125, device=device),
        source_ids=ids,
    )


def best_totals(mixture: Mixture, beams: Beams, step: int, rules: SearchRules) -> Tensor:
    """Scores [B, K + 1] of the best extensions of K hypotheses, in order, from the whole distribution."""
    log_probs = mixture_log_probs(mixture, extended_size(mixture))
    allowed = _allowed(log_probs, beams.tokens.flatten(0, 1)[:, :step], rules)
    totals = beams.scores[:, :, None] + allowed.unflatten(0, beams.scores.shape)
    return totals.flatten(1).sort(1, descending=True).values[:, : beams.scores.shape[1] + 1]


def are_apart(scores: Tensor, gap: float) -> Tensor:
    """Of which rows [B] of ``scores`` [B, K], in order, neighbours are equal or further apart than ``gap``."""
    upper, lower = scores[:, :-1], scores[:, 1:]
    return ((upper == lower) | (upper - lower > gap)).all(1)
