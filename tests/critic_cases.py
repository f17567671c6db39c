"""Critics with random, large weights, for tests."""

from pathlib import Path
from typing import Any

import torch

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.critic import CriticConfig
from rlseq2seq.models.critic import ActionCritic

_PARAMS = Path(__file__).parents[1] / "params.yaml"


def critic_config(**changes: Any) -> CriticConfig:
    """The parameters of the project, but for ``changes``."""
    values = read_params(_PARAMS)["finetune"]["critic"] | {"layers": [7]} | changes
    return parse(CriticConfig, values, "finetune.critic")


def random_critic(feature_size: int, vocabulary_size: int, seed: int = 0, **changes: Any) -> ActionCritic:
    """A critic whose values differ by some units from action to action and from state to state."""
    critic = ActionCritic(feature_size, vocabulary_size, critic_config(**changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return critic
