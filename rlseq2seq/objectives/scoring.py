"""Log-probabilities of sequences that are there: gold targets, or rollouts."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.ops import Mixture, WeightedLoss
from rlseq2seq.token_ids import START


class Scored(NamedTuple):
    """The M tokens of some sequences and the distributions that they are scored in: ``mixture``, ``tokens`` [M], the
    sequences that they are of, ``row`` [M], at ``step`` [M], and coverage losses [M]."""

    mixture: Mixture
    tokens: Tensor
    row: Tensor
    step: Tensor
    coverage_loss: Tensor

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities [M], computed anew when asked for, with gradients."""
        return ops.pointer_loss(self.mixture, self.tokens)

    def weighted(self, weights: Tensor, entropy_weight: float = 0.0, smoothing_weight: float = 0.0) -> WeightedLoss:
        """The sum of the log-probabilities times ``weights`` [M], in less time than by way of `log_probs`, of the
        entropies of the distributions times ``entropy_weight``, and of the mean log-probabilities of the words that
        can be generated times ``smoothing_weight``."""
        dtype = torch.promote_types(self.mixture.features.dtype, torch.float32)
        each = weights.to(dtype)
        more = (torch.full_like(each, weight) if weight else None for weight in (entropy_weight, smoothing_weight))
        return ops.weighted_pointer_loss(self.mixture, self.tokens, each, *more)

    def of_sequences(self, log_probs: Tensor, count: int) -> Tensor:
        """Log-probabilities [count] of whole sequences from those of their tokens [M]."""
        return log_probs.new_zeros(count).index_add(0, self.row, log_probs)


def teacher_forced(model: Seq2Seq[Memory, State], sequences: Tensor) -> Tensor:
    """What a model reads before each token of ``sequences`` [N, T]: the embeddings [N, T, E] of those before it."""
    start = sequences.new_full((len(sequences), 1), START)
    return model.embed(torch.cat([start, sequences[:, :-1]], 1))


def score_tokens(
    model: Seq2Seq[Memory, State], memory: Memory, sequences: Tensor, lengths: Tensor, inputs: Tensor | None = None
) -> Scored:
    """Score ``sequences`` [N, T] of ``lengths`` [N], N / B in a row for each of the B sources of ``memory``.

    The model reads ``inputs`` [N, T, E], the sequences themselves where None. Only the tokens within the lengths reach
    the output layer, so padding costs nothing and weighs nothing.
    """
    steps = model.all_steps(memory, teacher_forced(model, sequences) if inputs is None else inputs)
    place = torch.arange(sequences.shape[1], device=sequences.device)
    row, step = (place < lengths[:, None]).nonzero(as_tuple=True)
    mixture = model.mixture(memory, steps, row, step)
    return Scored(mixture, sequences[row, step], row, step, steps.coverage_loss[row, step])
