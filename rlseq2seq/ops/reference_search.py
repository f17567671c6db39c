"""One decoding step from a mixture in PyTorch: greedy, sampled, or a batch of beams."""

import torch
from torch import Tensor

from rlseq2seq.ops.contracts import Beams, Chosen, Mixture, SearchRules
from rlseq2seq.ops.dense_search import dense_beam_step
from rlseq2seq.ops.mixture import extended_size, mixture_log_probs


def greedy_step(mixture: Mixture) -> Chosen:
    """The most probable token; of equals the lower id (which is the one that PyTorch's arg-max returns)."""
    log_probs = mixture_log_probs(mixture, extended_size(mixture))
    tokens = log_probs.argmax(-1, keepdim=True)
    return Chosen(tokens[:, 0], log_probs.gather(1, tokens)[:, 0])


def sample_step(
    mixture: Mixture, noise: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Chosen:
    """A token for each ``noise`` [N] in [0, 1), by inverting the cumulative distribution in the order of ids.

    ``top_k`` 0 keeps all tokens; ``top_p`` keeps the fewest most probable tokens that sum to at least it
    (Holtzman et al. 2020, arXiv:1904.09751). The log-probabilities are those of what is left.
    """
    log_probs = mixture_log_probs(mixture, extended_size(mixture))
    if temperature != 1:
        log_probs = (log_probs / temperature).log_softmax(-1)
    if top_k or top_p < 1:
        log_probs = most_probable(log_probs, top_k, top_p).log_softmax(-1)
    # In double precision: a parallel sum of floats may rise where a token has no probability. Noise below 1 times the
    # whole stays below the whole, so a possible token is always found.
    cumulative = log_probs.exp().double().cumsum(-1)
    tokens = torch.searchsorted(cumulative, noise[:, None] * cumulative[:, -1:], right=True)
    return Chosen(tokens[:, 0], log_probs.gather(1, tokens)[:, 0])


def beam_step(mixture: Mixture, beams: Beams, step: int, rules: SearchRules) -> tuple[Beams, Tensor, Tensor]:
    """Extend every unfinished hypothesis by one token (the ``step``-th, from 0).

    What the rules forbid is taken out before the best K extensions a source are chosen. Those that end move to the
    pool and keep their place: only as many go on as the pool still lacks, so K hypotheses are found in all and a
    beam of 1 is greedy. Ties go to the lower (beam, token).

    Returns:
        The beams, the rows of the mixture that each goes on from [B * K] and the tokens chosen [B * K].
    """
    log_probs = mixture_log_probs(mixture, extended_size(mixture))
    return dense_beam_step(log_probs, beams, step, rules)


def most_probable(log_probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Log-probabilities with all but the ``top_k`` and the nucleus of ``top_p`` at -inf."""
    ordered, ids = log_probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    dropped = before >= top_p
    dropped[:, 0] = False
    if top_k:
        dropped[:, top_k:] = True
    return log_probs.masked_fill(torch.zeros_like(dropped).scatter(1, ids, dropped), -torch.inf)
