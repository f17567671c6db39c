"""What reinforcement learning works with, whatever the method."""

from dataclasses import dataclass
from typing import Any

import torch

from rlseq2seq.models.protocol import Seq2Seq
from rlseq2seq.objectives.rollouts import Reward


@dataclass(frozen=True)
class Setting:
    """``pretrained`` is the policy that `config.kl` holds ``model`` to, None where it does not. Both are on ``device``,
    a critic is on its own. Texts are of so many tokens at most."""

    model: Seq2Seq[Any, Any]
    pretrained: Seq2Seq[Any, Any] | None
    reward: Reward
    max_source_tokens: int
    max_tokens: int
    device: torch.device
    critic_device: torch.device
