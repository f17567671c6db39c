"""What happens to beams before the first step and after the last."""

import torch
from torch import Tensor

from rlseq2seq.ops.contracts import Beams
from rlseq2seq.token_ids import PAD


def start_beams(batch: int, beam_size: int, max_tokens: int, like: Tensor) -> Beams:
    """Beams before the first step: one empty hypothesis a source, on the device of ``like``, in float32 at least."""
    tokens = torch.full((batch, beam_size, max_tokens), PAD, device=like.device)
    dtype = torch.promote_types(like.dtype, torch.float32)
    free = torch.full((batch, beam_size), -torch.inf, dtype=dtype, device=like.device)
    scores = free.clone()
    scores[:, 0] = 0
    return Beams(tokens, scores, tokens.clone(), free)


def finish_beams(beams: Beams, divisor: float) -> Beams:
    """Move the unfinished hypotheses to the pool, best first; of equals the one that was there earlier."""
    beam = beams.scores.shape[1]
    scores, order = torch.cat([beams.finished_scores, beams.scores / divisor], 1).sort(
        stable=True, dim=1, descending=True
    )
    tokens = torch.cat([beams.finished_tokens, beams.tokens], 1)
    tokens = tokens.gather(1, order[:, :beam, None].expand_as(beams.tokens))
    return Beams(beams.tokens, torch.full_like(beams.scores, -torch.inf), tokens, scores[:, :beam])
