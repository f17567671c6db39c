"""The critic that knows what states are worth, and how it learns from the samples of a batch."""

import torch
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.models.critic import StateCritic
from rlseq2seq.objectives.critic_targets import generalized_advantages
from rlseq2seq.objectives.critic_update import CriticUpdate
from rlseq2seq.objectives.loss import Facts
from rlseq2seq.objectives.rollouts import Rollouts
from rlseq2seq.objectives.setting import Setting


class StateValues(nn.Module):
    """V(s), trained towards V + A of the samples, A generalised advantages (Schulman et al. 2016, arXiv:1506.02438):
    with ``gae_lambda`` 1 their returns, with 0 one step and the next state's value."""

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        super().__init__()
        self._config, self._gamma, self._device = config.critic, config.gamma, setting.critic_device
        self.critic = StateCritic(setting.model.feature_size, config.critic).to(self._device)
        self.update = CriticUpdate(self.critic, config)

    @torch.no_grad()
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """Of the words that were sampled, [M]."""
        row, step, lengths = rollouts.scored.row, rollouts.scored.step, rollouts.written.lengths
        values = torch.zeros_like(rollouts.rewards).index_put((row, step), self.predicted(rollouts))
        smoothing = self._config.gae_lambda
        return generalized_advantages(rollouts.rewards, values, lengths, self._gamma, smoothing)[row, step]

    @torch.no_grad()
    def predicted(self, rollouts: Rollouts) -> Tensor:
        """V of the states in which words were sampled, [M]."""
        values: Tensor = self.critic(rollouts.scored.mixture.features.to(self._device))
        return values.to(rollouts.rewards)

    def learn(self, rollouts: Rollouts, step: int) -> Facts:
        """Update the critic from ``rollouts`` alone."""
        features = rollouts.scored.mixture.features.detach().to(self._device)
        targets = (self.predicted(rollouts) + self.advantages(rollouts)).to(self._device)
        losses = []
        for _ in range(self._config.updates):
            values = self.critic(features)
            loss = (targets.to(values) - values).square().mean()
            self.update(loss)
            losses.append(loss.detach())
        return {"critic_loss": torch.stack(losses).mean()}
