"""What every decoder returns."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlseq2seq.token_ids import END, PAD

# Asking a GPU whether all have ended makes the host wait for it, so it is asked once in so many steps.
_STEPS_BETWEEN_CHECKS = 8


class Hypotheses(NamedTuple):
    """``tokens`` [N, T] int64 extended ids, padded after the end token; ``lengths`` [N] count it where there is one.

    ``scores`` [N] are summed log-probabilities, or what a guided search adds up; for beams, divided by
    length ** penalty.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor


def token_lengths(tokens: Tensor) -> Tensor:
    """Lengths [N] of ``tokens`` [N, T] up to and with the first end token, or T."""
    ended = tokens == END
    first = ended.to(torch.int8).argmax(-1) if tokens.shape[1] else tokens.new_zeros(len(tokens))
    return torch.where(ended.any(-1), first + 1, tokens.shape[1])


def cut_at_end(tokens: Tensor, lengths: Tensor) -> Tensor:
    """``tokens`` [N, T] with padding past ``lengths`` [N]."""
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens.masked_fill(place >= lengths[:, None], PAD)


def may_stop(finished: Tensor, step: int) -> bool:
    """Whether every row of ``finished`` [N] is true, where asking is cheap or due."""
    due = finished.device.type == "cpu" or step % _STEPS_BETWEEN_CHECKS == _STEPS_BETWEEN_CHECKS - 1
    return due and bool(finished.all())
