"""Policy gradient on free-running samples: REINFORCE, self-critical, leave-one-out, and GRPO."""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.objectives.kl import log_ratios, next_weight
from rlseq2seq.objectives.loss import Facts, Loss
from rlseq2seq.objectives.returns import group_normalized, leave_one_out, penalties, self_critical
from rlseq2seq.objectives.rollouts import pay, sample_rollouts
from rlseq2seq.objectives.scoring import Scored, score_tokens
from rlseq2seq.objectives.setting import Setting

_DECAY = 0.95  # of the moving average of returns


class PolicyState(nn.Module):
    """What policy gradient keeps beside the model. The weights of a ``learned`` baseline alone are trained."""

    def __init__(self, features: int, config: FinetuneConfig) -> None:
        super().__init__()
        self.baseline = nn.Linear(features, 1) if config.baseline == "learned" else None
        self.mean_return = nn.Parameter(torch.zeros(2), requires_grad=False)  # a decayed sum, and its weight
        self.kl_weight = nn.Parameter(torch.tensor(config.kl.weight), requires_grad=False)

    @torch.no_grad()
    def remember(self, values: dict[str, Tensor]) -> Facts:
        """Set parameters, by name, to new ``values``."""
        for name, value in values.items():
            self.get_parameter(name).copy_(value)
        return {}


@dataclass(frozen=True)
class _Compared:
    """Advantages [M] of tokens, what trains the baseline, and what is to be told and remembered of it."""

    advantages: Tensor
    loss: Tensor | float = 0.0
    facts: Facts = field(default_factory=dict)
    remembered: dict[str, Tensor] = field(default_factory=dict)


class _FirstEpoch(NamedTuple):
    """What the later epochs need: samples, advantages [M], log-probabilities [M] before the first update, facts."""

    written: Hypotheses
    advantages: Tensor
    log_probs: Tensor
    facts: Facts


class PolicyGradient:
    """-sum over sampled tokens of advantage log p(y_t | y_<t, x) (REINFORCE, Williams 1992), by ``config``:

    - ``method`` and ``baseline`` say what a return is compared with: other samples (``rloo``, ``grpo``), the greedy
      output (``self_critical``), or for ``reinforce`` nothing, a moving average, or what a linear layer on the
      decoder's features expects (Ranzato et al. 2016, arXiv:1511.06732, section 3.2.1).
    - ``kl``: each token's log-ratio log p - log p_pretrained, a number without a gradient, is taken off its reward
      (Ziegler et al. 2019, arXiv:1909.08593, Eq. 2); its weight adapts to a target if there is one (section 2.2).
    - ``average`` divides by the number of sampled tokens, or by that of samples, which leaves the gradient exactly that
      of the expected return.
    - ``entropy`` rewards the entropy of each token's distribution (Williams and Peng 1991).

    The model must be free of dropout: then the log-probabilities are those of the distribution that was sampled. The
    encoder runs once a source however many samples there are.
    """

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        self._setting, self._config = setting, config
        self.state = PolicyState(setting.model.feature_size, config).to(setting.device)
        self._first_epoch: _FirstEpoch | None = None

    def __call__(self, memory: tuple[Tensor, ...], batch: Batch, step: int) -> Loss:
        """The loss of a batch. Where ``grpo`` has several epochs, those after the first go over the same samples."""
        if self._config.method == "grpo" and step % self._config.grpo.epochs:
            return self._later_epoch(memory)
        written = sample_rollouts(self._setting.model, memory, self._setting.max_tokens, self._config.samples)
        paid = pay(written, batch, self._setting.reward, self._config)
        scored = score_tokens(self._setting.model, memory, written.tokens, written.lengths)
        facts = {"reward": paid.rewards.mean(), "sample_tokens": written.lengths.double().mean()}
        returns, remembered = paid.returns, {}
        if self._setting.pretrained is not None:
            ratios = log_ratios(self._setting, written, batch, scored)
            gamma = None if self._config.returns == "sequence" else self._config.gamma
            returns = returns - self.state.kl_weight * penalties(ratios, written.lengths, gamma)
            facts["kl"] = ratios.sum(1).mean()
            remembered["kl_weight"] = next_weight(self.state.kl_weight, facts["kl"], self._config.kl)
        compared = self._compare(returns, memory, batch, scored)
        divisor = self._divisor(scored, written)
        rl, log_probs, entropy = scored.weighted(-compared.advantages / divisor, -self._config.entropy / divisor)
        facts |= {"entropy": (-log_probs if entropy is None else entropy).mean(), **compared.facts}
        if self._config.method == "grpo":
            facts["clipped"] = torch.zeros(())
        self._first_epoch = _FirstEpoch(written, compared.advantages, log_probs, facts)
        after = partial(self.state.remember, remembered | compared.remembered)
        return Loss(rl + compared.loss, facts, len(scored.row), after)

    def _later_epoch(self, memory: tuple[Tensor, ...]) -> Loss:
        """-min(ratio A, clip(ratio, 1 - c, 1 + c) A) (Schulman et al. 2017, arXiv:1707.06347, Eq. 7; Shao et al. 2024,
        arXiv:2402.03300, Eq. 3), where ratio = p / p before the first epoch."""
        assert self._first_epoch is not None  # checkpoints lie between batches, so a run goes on with a first epoch
        written, advantages, before, facts = self._first_epoch
        scored = score_tokens(self._setting.model, memory, written.tokens, written.lengths)
        with torch.no_grad():
            ratio = (scored.log_probs - before).exp()
        clip, divisor = self._config.grpo.clip, self._divisor(scored, written)
        # Its gradient is that of log p times the ratio times A, where clipping leaves any.
        clipped = torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
        weights = (ratio * advantages).masked_fill(clipped, 0)
        rl = scored.weighted(-weights / divisor, -self._config.entropy / divisor)
        return Loss(rl.total, facts | {"clipped": clipped.double().mean()}, len(scored.row))

    def _divisor(self, scored: Scored, written: Hypotheses) -> int:
        return len(scored.row) if self._config.average == "token" else len(written.tokens)

    def _compare(self, returns: Tensor, memory: tuple[Tensor, ...], batch: Batch, scored: Scored) -> _Compared:
        place = scored.row, scored.step
        match self._config.method:
            case "rloo":
                return _Compared(leave_one_out(returns, self._config.samples)[place])
            case "grpo":
                return _Compared(group_normalized(returns, self._config.samples)[place])
            case "self_critical":
                written = greedy(self._setting.model, memory, self._setting.max_tokens)
                paid = pay(written, batch, self._setting.reward, self._config)
                return _Compared(
                    self_critical(returns, paid.returns)[place], facts={"greedy_reward": paid.rewards.mean()}
                )
        match self._config.baseline:
            case "moving_average":
                return self._moving_average(returns[place])
            case "learned":
                return self._learned(returns[place], scored)
        return _Compared(returns[place])

    def _moving_average(self, returns: Tensor) -> _Compared:
        total, weight = self.state.mean_return
        now = torch.stack([returns.mean().to(total), torch.ones_like(weight)])
        remembered = {"mean_return": torch.lerp(now, self.state.mean_return, _DECAY)}
        # Nothing is subtracted in the first step: a mean of this batch would not be independent of its samples.
        return _Compared(returns - total / weight.clamp_min(1e-8), remembered=remembered)

    def _learned(self, returns: Tensor, scored: Scored) -> _Compared:
        """The baseline has a loss of its own, and its gradient ends at the features."""
        assert self.state.baseline is not None
        expected = self.state.baseline(scored.mixture.features.detach())[:, 0]
        loss = (expected - returns).square().mean()
        return _Compared(returns - expected.detach(), loss, {"baseline_loss": loss.detach()})
