"""The loss of fine-tuning: reinforcement learning by the method that the parameters name, mixed with likelihood."""

from typing import Any

from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.protocol import Seq2Seq
from rlseq2seq.objectives.exposure_bias import decoder_inputs
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.minimum_risk import MinimumRisk
from rlseq2seq.objectives.policy_gradient import PolicyGradient, PolicyState
from rlseq2seq.objectives.rollouts import Reward
from rlseq2seq.objectives.schedule import scheduled


class FineTuning:
    """eta RL + (1 - eta) MLE (Paulus et al. 2018, arXiv:1705.04304, Eq. 16); both read the encoder's one pass.

    ``state`` is what is trained or remembered besides the model. ``pretrained`` is the policy that ``config.kl`` holds
    the model to, None where it does not.
    """

    def __init__(
        self,
        model: Seq2Seq[Any, Any],
        pretrained: Seq2Seq[Any, Any] | None,
        reward: Reward,
        max_tokens: int,
        config: FinetuneConfig,
    ) -> None:
        self._model, self._config = model, config
        self.state = PolicyState(model.feature_size, config)
        if config.method == "mrt":
            self._method: MinimumRisk | PolicyGradient = MinimumRisk(model, reward, max_tokens, config)
        else:
            self._method = PolicyGradient(model, pretrained, reward, max_tokens, config, self.state)

    def __call__(self, batch: Batch, step: int) -> Loss:
        """The loss at ``step``."""
        memory = self._model.encode(batch.sources, batch.source_lengths)
        if not self._config.reinforces:
            return self._likelihood(memory, batch, step)
        eta = scheduled(self._config.eta, step)
        rl = self._method(memory, batch, step)
        if eta == 1:
            return rl
        mle = self._likelihood(memory, batch, step)
        total = eta * rl.total + (1 - eta) * mle.total
        return Loss(total, rl.facts | mle.facts, rl.tokens + mle.tokens, rl.remembered)

    def _likelihood(self, memory: tuple[Tensor, ...], batch: Batch, step: int) -> Loss:
        inputs = decoder_inputs(self._model, memory, batch.targets, step, self._config.exposure_bias)
        return maximum_likelihood(self._model, memory, batch, self._config.coverage.weight, inputs)
