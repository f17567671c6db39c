"""The loss of fine-tuning: reinforcement learning by the method that the parameters name, mixed with likelihood."""

from collections.abc import Iterable

from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.objectives.actor_critic import ActorCritic
from rlseq2seq.objectives.exposure_bias import decoder_inputs
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.minimum_risk import MinimumRisk
from rlseq2seq.objectives.policy_gradient import PolicyGradient
from rlseq2seq.objectives.schedule import scheduled
from rlseq2seq.objectives.setting import Setting


class FineTuning:
    """eta RL + (1 - eta) MLE (Paulus et al. 2018, arXiv:1705.04304, Eq. 16); both read the encoder's one pass.

    ``state`` is what is trained or remembered besides the model, and ``optimizers`` those that are not the loop's;
    ``critic`` is None where there is none.
    """

    def __init__(self, setting: Setting, config: FinetuneConfig) -> None:
        self._model, self._config = setting.model, config
        self._method: PolicyGradient | MinimumRisk | ActorCritic
        match config.method:
            case "mrt":
                self._method = MinimumRisk(setting, config)
            case "actor_critic":
                self._method = ActorCritic(setting, config)
            case _:
                self._method = PolicyGradient(setting, config)
        self.state: nn.Module = self._method.state
        actor_critic = self._method if isinstance(self._method, ActorCritic) else None
        self.optimizers = [actor_critic.optimizer] if actor_critic else []
        self.critic = actor_critic.critic if actor_critic else None

    def __call__(self, batch: Batch, step: int) -> Loss:
        """The loss at ``step``."""
        memory = self._model.encode(batch.sources, batch.source_lengths)
        if not self._config.reinforces:
            return self._likelihood(memory, batch, step)
        eta = scheduled(self._config.eta, step)
        rl = self._method(memory, batch, step)
        if eta == 1 or not rl.total.requires_grad:
            return rl
        mle = self._likelihood(memory, batch, step)
        total = eta * rl.total + (1 - eta) * mle.total
        return Loss(total, rl.facts | mle.facts, rl.tokens + mle.tokens, rl.after)

    def held_out(self, batches: Iterable[Batch]) -> dict[str, float]:
        """What else is worth knowing of held-out ``batches``, beside what every model is validated by."""
        return self._method.held_out(batches) if isinstance(self._method, ActorCritic) else {}

    def _likelihood(self, memory: tuple[Tensor, ...], batch: Batch, step: int) -> Loss:
        inputs = decoder_inputs(self._model, memory, batch.targets, step, self._config.exposure_bias)
        return maximum_likelihood(self._model, memory, batch, self._config.coverage.weight, inputs)
