"""What a policy writes by itself, and what it is paid for it."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.decoding.single_path import sample
from rlseq2seq.models.protocol import Memory, Seq2Seq, State
from rlseq2seq.objectives.returns import sequence_returns, shaped_returns
from rlseq2seq.objectives.scoring import Scored


class Reward(Protocol):
    """What a sequence of tokens is worth; see `rlseq2seq.rewards`."""

    def __call__(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Rewards [N] of ``tokens`` [N, T], N / B in a row for each of the B pairs."""

    def prefixes(self, tokens: Tensor, batch: Batch) -> Tensor:
        """Rewards [N, T] of what is written up to each token."""


class Rollouts(NamedTuple):
    """Samples, the distributions that they are scored in, and the ``rewards`` and ``returns`` [N, T] of their tokens,
    0 after the end."""

    written: Hypotheses
    scored: Scored
    rewards: Tensor
    returns: Tensor


class Paid(NamedTuple):
    """``rewards`` [N] of some hypotheses and the ``returns`` [N, T] of their tokens."""

    rewards: Tensor
    returns: Tensor


@torch.no_grad()
def sample_rollouts(model: Seq2Seq[Memory, State], memory: Memory, max_tokens: int, samples: int) -> Hypotheses:
    """``samples`` independent samples of each source, in a row; noise comes from PyTorch's global generator."""
    noise = torch.rand(samples * len(memory[0]), max_tokens, device=memory[0].device)
    return sample(model, memory, max_tokens, noise)


@torch.no_grad()
def pay(written: Hypotheses, batch: Batch, reward: Reward, config: FinetuneConfig) -> Paid:
    """Rewards of ``written``, and returns as ``config.returns`` says."""
    tokens, lengths = written.tokens, written.lengths
    if config.returns == "shaped":
        of_prefixes = reward.prefixes(tokens, batch)
        rewards = of_prefixes.gather(1, lengths[:, None] - 1)[:, 0]
        return Paid(rewards, shaped_returns(of_prefixes, lengths, config.gamma))
    rewards = reward(tokens, batch)
    gamma = config.gamma if config.returns == "discounted" else 1.0
    return Paid(rewards, sequence_returns(rewards, lengths, tokens.shape[1], gamma))
