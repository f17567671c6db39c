"""Actor-critic: what a word is worth is learned, and the policy learns from that."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.critic import ActionCritic, StateCritic
from rlseq2seq.objectives.action_values import ActionValues
from rlseq2seq.objectives.critic_targets import explained_variance
from rlseq2seq.objectives.kl import log_ratios, next_weight
from rlseq2seq.objectives.loss import Facts, Loss
from rlseq2seq.objectives.returns import discounted_sums, shaped_rewards
from rlseq2seq.objectives.rollouts import Rollouts, sample_rollouts
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.objectives.setting import Setting
from rlseq2seq.objectives.state_values import StateValues


class CriticState(nn.Module):
    """What actor-critic keeps beside the model. Its critic has an optimiser of its own."""

    def __init__(self, values: nn.Module, kl_weight: Tensor) -> None:
        super().__init__()
        self.values = values
        self.kl_weight = nn.Parameter(kl_weight, requires_grad=False)


class ActorCritic:
    """-sum over t of A(s_t, y_t) log p(y_t | s_t) for sampled words (``advantage``), or of sum over all words a of
    p(a | s_t) A(s_t, a) (``all_actions``; Bahdanau et al. 2017, arXiv:1607.07086, Eq. 5), divided as
    ``config.average`` says.

    The advantages are those of a critic, `ActionValues` or `StateValues`, of the rewards that each word adds. With
    ``all_actions``, what a sample adds to what the critic says of its own words (`corrections`) comes times
    log p(y_t | s_t). ``kl`` and ``entropy`` are as in `PolicyGradient`. For ``warmup_updates`` the critic learns alone.
    It learns after the policy's update, from samples that are older than that.
    """

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        self._setting, self._config = setting, config
        self._values: ActionValues | StateValues
        self._values = ActionValues(setting, config) if config.critic.kind == "q" else StateValues(setting, config)
        self.state = CriticState(self._values, torch.tensor(config.kl.weight, device=setting.device))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The critic's."""
        return self._values.update.optimizer

    @property
    def critic(self) -> ActionCritic | StateCritic:
        """The network."""
        return self._values.critic

    def __call__(self, memory: tuple[Tensor, ...], batch: Batch, step: int) -> Loss:
        """The loss of a batch; without a gradient during warm-up."""
        with torch.set_grad_enabled(step >= self._config.critic.warmup_updates):
            rollouts, facts = self.roll_out(memory, batch, self._config.samples)
            total, entropy = self._loss(rollouts)
        after = partial(self._after, rollouts, facts.get("kl"), step)
        return Loss(total, facts | {"entropy": entropy}, len(rollouts.scored.row), after)

    def roll_out(self, memory: tuple[Tensor, ...], batch: Batch, samples: int) -> tuple[Rollouts, Facts]:
        """``samples`` of each source with the reward of each of their words, and what is worth telling of them."""
        setting = self._setting
        written = sample_rollouts(setting.model, memory, setting.max_tokens, samples)
        of_prefixes = setting.reward.prefixes(written.tokens, batch)
        scored = score_tokens(setting.model, memory, written.tokens, written.lengths)
        rewards = shaped_rewards(of_prefixes)
        facts = {
            "reward": of_prefixes.gather(1, written.lengths[:, None] - 1).mean(),
            "sample_tokens": written.lengths.double().mean(),
        }
        if setting.pretrained is not None:
            ratios = log_ratios(setting, written, batch, scored)
            rewards = rewards - self.state.kl_weight * ratios
            facts["kl"] = ratios.sum(1).mean()
        returns = discounted_sums(rewards, written.lengths, self._config.gamma)
        return Rollouts(written, scored, rewards, returns), facts

    def _loss(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """The loss, and the entropy of a word's distribution."""
        scored = rollouts.scored
        divisor = len(scored.row) if self._config.average == "token" else len(rollouts.written.tokens)
        if isinstance(self._values, ActionValues) and self._config.critic.actor == "all_actions":
            judged = self._values.judge(scored.mixture)
            chosen, expected = judged.of(scored.tokens)
            corrections = self._values.corrections(rollouts, chosen, expected)
            probs = judged.log_probs.exp()
            # Where a word is impossible, 0 log 0 and its gradient are 0.
            entropy = -(probs * judged.log_probs.masked_fill(probs == 0, 0)).sum()
            advantages = judged.q.detach() - expected[:, None]
            sampled = judged.log_probs.gather(1, scored.tokens[:, None])[:, 0]
            gained = (probs * advantages).sum() + (corrections * sampled).sum() + self._config.entropy * entropy
            return -gained / divisor, entropy.detach() / len(scored.row)
        weights = -self._values.advantages(rollouts) / divisor
        total, log_probs, entropies = scored.weighted(weights, -self._config.entropy / divisor)
        return total, (-log_probs if entropies is None else entropies).mean()

    def _after(self, rollouts: Rollouts, kl: Tensor | None, step: int) -> Facts:
        if kl is not None:
            with torch.no_grad():
                self.state.kl_weight.copy_(next_weight(self.state.kl_weight, kl, self._config.kl))
        return self._values.learn(rollouts, step)

    @torch.no_grad()
    def held_out(self, batches: Iterable[Batch]) -> dict[str, float]:
        """How much of the variance of the returns of ``batches``, a sample of each source, the critic explains."""
        returns, predicted = [], []
        for batch in batches:
            memory = self._setting.model.encode(batch.sources, batch.source_lengths)
            rollouts, _ = self.roll_out(memory, batch, 1)
            returns.append(rollouts.returns[rollouts.scored.row, rollouts.scored.step])
            predicted.append(self._values.predicted(rollouts))
        found = explained_variance(torch.cat(returns).double(), torch.cat(predicted).double())
        return {"critic_explained_variance": found.item()}
