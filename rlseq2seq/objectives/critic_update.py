"""A step of a critic's own optimiser."""

import torch
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.errors import UserError


class CriticUpdate:
    """Adam at the critic's own rate, the norm of its gradient clipped as the model's is."""

    def __init__(self, critic: nn.Module, config: FinetuneConfig) -> None:
        self._critic, self._gradient_clip = critic, config.optimizer.gradient_clip
        self.optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic.learning_rate, fused=True)

    def __call__(self, loss: Tensor) -> None:
        """Minimise ``loss``.

        Raises:
            UserError: it is not finite.
        """
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._critic.parameters(), self._gradient_clip)
        if not (loss.isfinite() & norm.isfinite()):
            raise UserError(
                f"finetune: the critic's loss is {loss.item()} and the norm of its gradient {norm.item()}: lower "
                "finetune.critic.learning_rate (the last checkpoint is whole)"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
