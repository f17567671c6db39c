"""One decoding step from a mixture in PyTorch: greedy, sampled, or a batch of beams."""

import torch
from torch import Tensor

from rlseq2seq.ops.beams import finish_beams
from rlseq2seq.ops.contracts import Beams, Chosen, Mixture, SearchRules
from rlseq2seq.ops.mixture import extended_size, mixture_log_probs
from rlseq2seq.token_ids import END


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
    batch, beam, _ = beams.tokens.shape
    size = extended_size(mixture)
    log_probs = mixture_log_probs(mixture, size)
    log_probs = allowed_log_probs(log_probs, beams.tokens.flatten(0, 1)[:, :step], rules)
    best, places = _best((beams.scores[:, :, None] + log_probs.view(batch, beam, size)).flatten(1), beam)
    parents, chosen = places // size, places % size
    lacking = beam - beams.finished_scores.isfinite().sum(-1, keepdim=True)
    best = best.masked_fill(torch.arange(beam, device=best.device) >= lacking, -torch.inf)
    tokens = beams.tokens.gather(1, parents[:, :, None].expand_as(beams.tokens))
    tokens[:, :, step] = chosen
    ended = chosen == END
    extended = beams._replace(tokens=tokens, scores=best.masked_fill(~ended, -torch.inf))
    pooled = finish_beams(extended, (step + 1) ** rules.length_penalty)
    rows = parents + torch.arange(batch, device=parents.device)[:, None] * beam
    return pooled._replace(scores=best.masked_fill(ended, -torch.inf)), rows.flatten(), chosen.flatten()


def allowed_log_probs(log_probs: Tensor, history: Tensor, rules: SearchRules) -> Tensor:
    """Log-probabilities [N, X] with the tokens that ``history`` [N, t] forbids at -inf.

    Forbidden are tokens that would complete an n-gram that the history holds, and the end token before
    ``min_tokens``. Where nothing is left, the end token is allowed: blocking ends a hypothesis, it never empties it.
    """
    length, size = history.shape[1], rules.block_ngrams
    allowed = log_probs.clone()
    if size and length >= size:
        windows = history.unfold(1, size, 1)
        repeats = (windows[:, :, :-1] == history[:, None, length - size + 1 :]).all(-1)
        row, window = repeats.nonzero(as_tuple=True)
        allowed[row, windows[row, window, -1]] = -torch.inf
    if length < rules.min_tokens:
        allowed[:, END] = -torch.inf
    nothing_left = allowed.isneginf().all(-1)
    allowed[:, END] = torch.where(nothing_left, log_probs[:, END], allowed[:, END])
    return allowed


def _best(totals: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of each row and their places; of equals the lower place (topk promises no order)."""
    totals = totals.clone()
    values, places = [], []
    for _ in range(count):
        place = totals.argmax(-1, keepdim=True)
        values.append(totals.gather(1, place))
        places.append(place)
        totals.scatter_(1, place, -torch.inf)
    return torch.cat(values, 1), torch.cat(places, 1)


def most_probable(log_probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Log-probabilities with all but the ``top_k`` and the nucleus of ``top_p`` at -inf."""
    ordered, ids = log_probs.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    dropped = before >= top_p
    dropped[:, 0] = False
    if top_k:
        dropped[:, top_k:] = True
    return log_probs.masked_fill(torch.zeros_like(dropped).scatter(1, ids, dropped), -torch.inf)
