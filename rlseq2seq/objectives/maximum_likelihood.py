"""Maximum likelihood with teacher forcing, and coverage loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.ops import Mixture, WeightedLoss
from rlseq2seq.token_ids import START


class Scored(NamedTuple):
    """The M tokens of some sequences and the distributions that they are scored in: ``mixture``, ``tokens`` [M], the
    sequences that they are of, ``row`` [M], and coverage losses [M]."""

    mixture: Mixture
    tokens: Tensor
    row: Tensor
    coverage_loss: Tensor

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities [M], computed anew when asked for, with gradients."""
        return ops.pointer_loss(self.mixture, self.tokens)

    def weighted(self, weights: Tensor, entropy_weights: Tensor | None = None) -> WeightedLoss:
        """The sum of the log-probabilities and, where asked for, of the entropies of the distributions that they are
        in, each weighed by its sequence's entry of ``weights`` and ``entropy_weights`` [N]: what training minimises,
        in less time than by way of `log_probs`."""
        dtype = torch.promote_types(self.mixture.features.dtype, torch.float32)
        spread = None if entropy_weights is None else entropy_weights[self.row].to(dtype)
        return ops.weighted_pointer_loss(self.mixture, self.tokens, weights[self.row].to(dtype), spread)


def score_tokens(model: Seq2Seq[Memory, State], memory: Memory, sequences: Tensor, lengths: Tensor) -> Scored:
    """Score ``sequences`` [N, T] of ``lengths`` [N], N / B in a row for each of the B sources of ``memory``.

    Only the tokens within the lengths reach the output layer, so padding costs nothing and weighs nothing.
    """
    start = sequences.new_full((len(sequences), 1), START)
    steps = model.all_steps(memory, torch.cat([start, sequences[:, :-1]], 1))
    place = torch.arange(sequences.shape[1], device=sequences.device)
    row, step = (place < lengths[:, None]).nonzero(as_tuple=True)
    mixture = model.mixture(memory, steps, row, step)
    return Scored(mixture, sequences[row, step], row, steps.coverage_loss[row, step])


def maximum_likelihood(model: Seq2Seq[Memory, State], memory: Memory, batch: Batch, coverage_weight: float) -> Loss:
    """-log p(y* | x) a token, plus coverage loss (See et al. 2017, arXiv:1704.04368, Eq. 12 and 13)."""
    scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
    each = scored.mixture.features.new_full((len(batch.targets),), -1 / len(scored.row))
    nll = scored.weighted(each).total
    facts = {"nll": nll.detach()}
    if not model.uses_coverage:
        return Loss(nll, facts, len(scored.row))
    coverage_loss = scored.coverage_loss.mean()
    facts["coverage_loss"] = coverage_loss.detach()
    return Loss(nll + coverage_weight * coverage_loss, facts, len(scored.row))
