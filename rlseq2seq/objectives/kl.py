"""The price of leaving the pretrained policy."""

import torch
from torch import Tensor

from rlseq2seq.config.finetune import KlConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.objectives.scoring import Scored, score_tokens
from rlseq2seq.objectives.setting import Setting

_GAIN, _LIMIT = 0.1, 0.2  # how fast the weight adapts (arXiv:1909.08593, section 2.2)


@torch.no_grad()
def log_ratios(setting: Setting, written: Hypotheses, batch: Batch, scored: Scored) -> Tensor:
    """log p - log p_pretrained [N, T] of the tokens of ``written``, which ``scored`` is of; 0 after the end."""
    assert setting.pretrained is not None
    memory = setting.pretrained.encode(batch.sources, batch.source_lengths)
    held = score_tokens(setting.pretrained, memory, written.tokens, written.lengths).log_probs
    ratios = held.new_zeros(written.tokens.shape)
    return ratios.index_put((scored.row, scored.step), scored.log_probs - held)


def next_weight(weight: Tensor, kl: Tensor, config: KlConfig) -> Tensor:
    """The weight after a batch of divergence ``kl``, in nats a sequence: it adapts where there is a target."""
    if config.target is None:
        return weight
    return weight * (1 + _GAIN * (kl / config.target - 1).clamp(-_LIMIT, _LIMIT))
