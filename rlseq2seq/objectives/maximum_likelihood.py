"""Maximum likelihood with teacher forcing, and coverage loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.token_ids import START


class Scored(NamedTuple):
    """The M tokens of some sequences: their ``log_probs`` [M], sequences ``row`` [M] and coverage losses [M]."""

    log_probs: Tensor
    row: Tensor
    coverage_loss: Tensor


def score_tokens(model: Seq2Seq[Memory, State], memory: Memory, sequences: Tensor, lengths: Tensor) -> Scored:
    """Log-probabilities of ``sequences`` [N, T] of ``lengths`` [N], given a memory of N rows.

    Only the tokens within the lengths reach the output layer, so padding costs nothing and weighs nothing.
    """
    start = sequences.new_full((len(sequences), 1), START)
    steps = model.all_steps(memory, torch.cat([start, sequences[:, :-1]], 1))
    place = torch.arange(sequences.shape[1], device=sequences.device)
    row, step = (place < lengths[:, None]).nonzero(as_tuple=True)
    log_probs = ops.pointer_loss(model.mixture(memory, steps, row, step), sequences[row, step])
    return Scored(log_probs, row, steps.coverage_loss[row, step])


def maximum_likelihood(model: Seq2Seq[Memory, State], memory: Memory, batch: Batch, coverage_weight: float) -> Loss:
    """-log p(y* | x) a token, plus coverage loss (See et al. 2017, arXiv:1704.04368, Eq. 12 and 13)."""
    scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
    nll = -scored.log_probs.mean()
    facts = {"nll": nll.detach()}
    if not model.uses_coverage:
        return Loss(nll, facts, len(scored.row))
    coverage_loss = scored.coverage_loss.mean()
    facts["coverage_loss"] = coverage_loss.detach()
    return Loss(nll + coverage_weight * coverage_loss, facts, len(scored.row))
