"""The dense mixture, for objectives that need the whole distribution. No operator and no decoder builds it."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from rlseq2seq.ops.contracts import Mixture


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
    ids = source_ids(mixture)
    mass = torch.zeros_like(generated).scatter_add(1, ids, mixture.attention).gather(1, ids)
    copied = log_copied(mass, ids < len(mixture.weight)) + logsigmoid(-mixture.gate_logits)[:, None]
    both = torch.logaddexp(generated.gather(1, ids), copied)
    # The gradient of scatter goes to every copy of a token: all but the last give none.
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    last = torch.zeros_like(generated, dtype=torch.long).scatter_reduce(1, ids, places, "amax").gather(1, ids)
    return generated.scatter(1, ids, torch.where(last == places, both, both.detach()))


def extended_size(mixture: Mixture) -> int:
    """V, or more where a source has extended ids: one more than the largest of them. A GPU is waited for."""
    ids = mixture.source_ids if mixture.gate_logits is not None else mixture.source_ids[:0]
    return max(len(mixture.weight), int(ids.max()) + 1 if ids.numel() else 0)


def source_ids(mixture: Mixture) -> Tensor:
    """The ids [N, S] of each row's source."""
    rows, sources = len(mixture.attention), len(mixture.source_ids)
    return mixture.source_ids if rows == sources else mixture.source_ids.repeat_interleave(rows // sources, 0)


def log_copied(mass: Tensor, known: Tensor) -> Tensor:
    """Log of the attention ``mass`` on tokens, which are generated too where ``known``; elsewhere it stays finite."""
    smallest = torch.finfo(mass.dtype).tiny
    return mass.clamp_min(smallest).log().masked_fill(known & (mass < smallest), -torch.inf)
