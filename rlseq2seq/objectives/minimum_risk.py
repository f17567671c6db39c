"""Minimum risk training: the expected reward over a few samples, renormalised."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.rollouts import sample_rollouts
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.objectives.setting import Setting


class MinimumRisk:
    """-sum over the unique samples of a source of Q(y) r(y), Q(y) = p(y)^a / sum of p(y')^a (Shen et al. 2016,
    arXiv:1512.02433, section 3, with r for -Delta), a mean over sources.

    ``config.mrt``: ``sharpness`` is a; ``reference`` puts the gold target into the set.
    """

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        self._setting, self._config = setting, config
        self.state = nn.Module()  # it keeps nothing beside the model

    def __call__(self, memory: tuple[Tensor, ...], batch: Batch, step: int) -> Loss:
        """The loss of a batch."""
        written = sample_rollouts(self._setting.model, memory, self._setting.max_tokens, self._config.samples)
        facts = {"sample_tokens": written.lengths.double().mean()}
        tokens, lengths = written.tokens, written.lengths
        if self._config.mrt.reference:
            tokens, lengths = _with_references(written, batch)
        rewards = self._setting.reward(tokens, batch).view(len(batch.rows), -1)
        scored = score_tokens(self._setting.model, memory, tokens, lengths)
        sequences = scored.of_sequences(scored.log_probs, len(tokens)).view_as(rewards)
        weights = self._config.mrt.sharpness * sequences
        q = weights.masked_fill(repeated(tokens, len(batch.rows)), -torch.inf).softmax(1)
        # What is told is told of the samples alone, as with other methods.
        sampled = slice(self._config.samples)
        entropy = -sequences[:, sampled].detach().sum() / written.lengths.sum()
        facts |= {"reward": rewards[:, sampled].mean(), "entropy": entropy}
        return Loss(-(q * rewards.to(q)).sum(1).mean(), facts, len(scored.row))


def _with_references(written: Hypotheses, batch: Batch) -> tuple[Tensor, Tensor]:
    """Tokens and lengths of the samples of each source and, after them, its gold target."""
    width = max(written.tokens.shape[1], batch.targets.shape[1])
    rows = len(batch.rows)
    samples, gold = (pad(x, (0, width - x.shape[1])).view(rows, -1, width) for x in (written.tokens, batch.targets))
    lengths = torch.cat([written.lengths.view(rows, -1), batch.target_lengths[:, None]], 1)
    return torch.cat([samples, gold], 1).flatten(0, 1), lengths.flatten()


def repeated(tokens: Tensor, sources: int) -> Tensor:
    """Which of the N / B sequences of a source are those of an earlier one, [B, N / B], of ``tokens`` [N, T]."""
    group = tokens.view(sources, -1, tokens.shape[1])
    same = (group[:, :, None] == group[:, None]).all(-1)
    return same.tril(-1).any(-1)
