"""The critic that knows what every word is worth, and how it learns from what was tried."""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq import ops
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.models.critic import ActionCritic, expectation
from rlseq2seq.objectives.critic_targets import corrections, double_value, temporal_difference
from rlseq2seq.objectives.critic_update import CriticUpdate
from rlseq2seq.objectives.loss import Facts
from rlseq2seq.objectives.replay import Replay, Replayed, Transitions
from rlseq2seq.objectives.rollouts import Rollouts
from rlseq2seq.objectives.schedule import scheduled
from rlseq2seq.objectives.scoring import Scored
from rlseq2seq.objectives.setting import Setting
from rlseq2seq.ops import Mixture

# A gate logit whose sigmoid is 1 in every floating-point type, for a model that cannot copy.
_ALWAYS_GENERATE = 100.0
# Some megabytes, which stay in a processor's cache.
_VALUES_AT_ONCE = 2**19


class Judged(NamedTuple):
    """Q and log pi [N, X] of the states of a mixture."""

    q: Tensor
    log_probs: Tensor

    def of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Q(s, y) of the ``tokens`` [N], and sum over a of pi(a | s) Q(s, a): [N]; no gradient flows into either."""
        q = self.q.detach()
        return _chosen(q, tokens), expectation(q, self.log_probs.detach())


class ActionValues(nn.Module):
    """Q(s, ·), the network that its targets come from, and the replay ring.

    - ``target``: what follows a word is worth sum over a of pi(a | s') Q_target(s', a), by the policy as it is
      (``expected``; Bahdanau et al. 2017, arXiv:1607.07086, Eq. 7), or `double_value`. ``true_q`` is the share, by
      schedule, that the return of the sample has in the target instead.
    - ``target_network``: moved by ``polyak`` (Lillicrap et al. 2016, arXiv:1509.02971) or ``hard`` (Mnih et al. 2015).
    - ``variance_penalty`` times sum over a of (Q(s, a) - mean Q)^2 (arXiv:1607.07086, Eq. 10): of thousands of words, a
      state has seen few tried.
    """

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        super().__init__()
        self._config, self._gamma, self._device = config.critic, config.gamma, setting.critic_device
        model = setting.model
        self.critic = ActionCritic(model.feature_size, model.vocabulary_size, config.critic).to(self._device)
        self.target = deepcopy(self.critic).requires_grad_(False)
        self.updates = nn.Parameter(torch.zeros((), dtype=torch.int64), requires_grad=False)
        self.replay = Replay(model.feature_size, setting.max_source_tokens, config.critic.replay)
        self.update = CriticUpdate(self.critic, config)

    def judge(self, mixture: Mixture) -> Judged:
        """What the critic says of the states of ``mixture``, on the device and in the type of its distribution."""
        size = ops.extended_size(mixture)
        log_probs = ops.mixture_log_probs(mixture, size)
        return Judged(self.critic(mixture, size).to(log_probs), log_probs)

    @torch.no_grad()
    def advantages(self, rollouts: Rollouts) -> Tensor:
        """Of the words that were sampled, [M]: Q(s, y) - sum over a of pi(a | s) Q(s, a), and `corrections`."""
        chosen, expected = self._of_sampled(rollouts.scored)
        return chosen - expected + self.corrections(rollouts, chosen, expected)

    @torch.no_grad()
    def corrections(self, rollouts: Rollouts, chosen: Tensor, expected: Tensor) -> Tensor:
        """What the rewards that followed add to ``chosen`` Q(s, y) [M], sum over a of pi(a | s) Q(s, a) being
        ``expected`` [M]."""
        rewards, place = rollouts.rewards, (rollouts.scored.row, rollouts.scored.step)
        q, v = (torch.zeros_like(rewards).index_put(place, values.to(rewards)) for values in (chosen, expected))
        found = corrections(rewards, q, v, rollouts.written.lengths, self._gamma, self._config.gae_lambda)
        return found[place].to(chosen)

    @torch.no_grad()
    def predicted(self, rollouts: Rollouts) -> Tensor:
        """Q(s, y) of the words that were sampled, [M]: of what is to come, the part that is known."""
        return self._of_sampled(rollouts.scored)[0]

    def _of_sampled(self, scored: Scored) -> tuple[Tensor, Tensor]:
        """Q(s, y) of the sampled words and sum over a of pi(a | s) Q(s, a), [M], for a few states at a time: of all at
        once they would fill the memory."""
        count = max(1, _VALUES_AT_ONCE // len(scored.mixture.weight))
        parts = [slice(start, start + count) for start in range(0, len(scored.tokens), count)]
        found = [self.judge(_rows(scored.mixture, rows)).of(scored.tokens[rows]) for rows in parts]
        chosen, expected = zip(*found, strict=True)
        return torch.cat(chosen), torch.cat(expected)

    def learn(self, rollouts: Rollouts, step: int) -> Facts:
        """Remember what was tried, and update the critic from that and earlier."""
        self.replay.push(_transitions(rollouts))
        mixture = rollouts.scored.mixture
        head = mixture.weight.detach().to(self._device), mixture.bias.detach().to(self._device)
        losses = []
        for _ in range(self._config.updates):
            importance = scheduled(self._config.replay.importance, step)
            replayed = self.replay.sample(self._config.batch_size, importance, self._device)
            losses.append(self._learn_from(replayed, head, scheduled(self._config.true_q, step)))
        return {"critic_loss": torch.stack(losses).mean()}

    def _learn_from(self, replayed: Replayed, head: tuple[Tensor, Tensor], true_share: float) -> Tensor:
        target = self._target(replayed, head, true_share)
        mixture = _mixture(replayed.now, head)
        q = self.critic(mixture, ops.extended_size(mixture))
        errors = target.to(q) - _chosen(q, replayed.now.tokens)
        loss = (replayed.weights.to(q) * errors.square()).mean()
        if self._config.variance_penalty:
            words = q[:, : len(mixture.weight)]
            spread = (words - words.mean(1, keepdim=True)).square().sum(1).mean()
            self.update(loss + self._config.variance_penalty * spread)
        else:
            self.update(loss)
        self.replay.set_errors(replayed.rows, errors.detach())
        self._move_target()
        return loss.detach()

    @torch.no_grad()
    def _target(self, replayed: Replayed, head: tuple[Tensor, Tensor], true_share: float) -> Tensor:
        now, then = replayed.now, _mixture(replayed.then, head)
        if true_share == 1:
            return now.returns
        size = ops.extended_size(then)
        log_probs = ops.mixture_log_probs(then, size)
        target_q = self.target(then, size).to(log_probs)
        if self._config.target == "double":
            values = double_value(self.critic(then, size), target_q, log_probs)
        else:
            values = expectation(target_q, log_probs)
        estimated = temporal_difference(now.rewards, now.last, self._gamma, values)
        return true_share * now.returns + (1 - true_share) * estimated

    @torch.no_grad()
    def _move_target(self) -> None:
        config = self._config.target_network
        self.updates.add_(1)
        share = config.tau if config.update == "polyak" else float(int(self.updates) % config.every == 0)
        for old, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            old.lerp_(new, share)


def _transitions(rollouts: Rollouts) -> Transitions:
    scored = rollouts.scored
    mixture, place = scored.mixture, (scored.row, scored.step)
    gate_logits = mixture.gate_logits
    if gate_logits is None:
        gate_logits = torch.full_like(mixture.features[:, 0], _ALWAYS_GENERATE)
    return Transitions(
        features=mixture.features.detach(),
        gate_logits=gate_logits.detach(),
        attention=mixture.attention.detach(),
        source_ids=mixture.source_ids,
        tokens=scored.tokens,
        rewards=rollouts.rewards[place],
        returns=rollouts.returns[place],
        last=scored.step == rollouts.written.lengths[scored.row] - 1,
    )


def _mixture(states: Transitions, head: tuple[Tensor, Tensor]) -> Mixture:
    """What the policy's head as it is makes of ``states``."""
    weight, bias = head
    return Mixture(
        states.features.to(weight),
        weight,
        bias,
        states.gate_logits.to(weight),
        states.attention.to(weight),
        states.source_ids,
    )


def _rows(mixture: Mixture, rows: slice) -> Mixture:
    """Some rows of a mixture each of whose rows has a source of its own."""
    gate_logits = None if mixture.gate_logits is None else mixture.gate_logits[rows]
    return mixture._replace(
        features=mixture.features[rows],
        gate_logits=gate_logits,
        attention=mixture.attention[rows],
        source_ids=mixture.source_ids[rows],
    )


def _chosen(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(1, tokens.to(values.device)[:, None])[:, 0]
