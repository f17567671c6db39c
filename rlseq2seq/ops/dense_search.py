"""A beam step on scores that are all there: for search by what is more than a mixture. Nothing waits for a GPU."""

import torch
from torch import Tensor

from rlseq2seq.ops.beams import finish_beams
from rlseq2seq.ops.contracts import Beams, SearchRules
from rlseq2seq.token_ids import END


def dense_beam_step(scores: Tensor, beams: Beams, step: int, rules: SearchRules) -> tuple[Beams, Tensor, Tensor]:
    """Extend every unfinished hypothesis by one token (the ``step``-th, from 0): as `rlseq2seq.ops.beam_step` does.

    Args:
        scores: [B * K, X], what each token would add to the score of its hypothesis, of either sign; -inf where it
            is impossible.
        beams: B sources of K hypotheses.
        step: how many tokens the hypotheses hold.
        rules: what is forbidden, and how finished hypotheses of different lengths compare.

    Returns:
        The beams, the rows of ``scores`` that each goes on from [B * K] and the tokens chosen [B * K].
    """
    batch, beam, _ = beams.tokens.shape
    size = scores.shape[1]
    allowed = _allowed(scores, beams.tokens.flatten(0, 1)[:, :step], rules)
    best, places = _best((beams.scores[:, :, None] + allowed.view(batch, beam, size)).flatten(1), beam)
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


def _allowed(scores: Tensor, history: Tensor, rules: SearchRules) -> Tensor:
    """Scores [N, X] with the tokens that ``history`` [N, t] forbids at -inf.

    Forbidden are tokens that would complete an n-gram that the history holds, and the end token before
    ``min_tokens``. Where nothing is left, the end token is allowed: blocking ends a hypothesis, it never empties it.
    """
    length, size = history.shape[1], rules.block_ngrams
    allowed = scores.clone()
    if size and length >= size:
        windows = history.unfold(1, size, 1)
        repeats = (windows[:, :, :-1] == history[:, None, length - size + 1 :]).all(-1)
        # By a minimum with infinity elsewhere: to ask where they are would be to wait for a GPU.
        ceilings = torch.full_like(repeats, torch.inf, dtype=scores.dtype).masked_fill(repeats, -torch.inf)
        allowed.scatter_reduce_(1, windows[:, :, -1], ceilings, "amin")
    if length < rules.min_tokens:
        allowed[:, END] = -torch.inf
    nothing_left = allowed.isneginf().all(-1)
    allowed[:, END] = torch.where(nothing_left, scores[:, END], allowed[:, END])
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
