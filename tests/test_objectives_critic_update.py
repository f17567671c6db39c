import pytest
import torch
from critic_game import critic_config
from torch import nn

from rlseq2seq.errors import UserError
from rlseq2seq.objectives.critic_update import CriticUpdate


def test_the_norm_of_a_gradient_is_clipped(device: torch.device) -> None:
    for slope, norm in ((3.0, 0.5), (0.1, 0.2)):
        critic = nn.Linear(3, 1).to(device)
        update = CriticUpdate(critic, critic_config(optimizer__gradient_clip=0.5))
        # Its gradient is the slope for each of three weights and for the bias: of norm 2 slopes.
        update(slope * critic(torch.ones(1, 3, device=device)).sum())
        averages = [state["exp_avg"].flatten() for state in update.optimizer.state.values()]
        # Adam's average of one gradient has a tenth of it.
        assert torch.cat(averages).norm().item() == pytest.approx(0.1 * norm, rel=1e-4)
        assert all(parameter.grad is None for parameter in critic.parameters())


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_told_with_the_remedy(
    device: torch.device, factor: float
) -> None:
    critic = nn.Linear(3, 1).to(device)
    update, before = CriticUpdate(critic, critic_config()), critic.weight.clone()
    with pytest.raises(UserError, match=r"lower finetune\.critic\.learning_rate") as caught:
        update(critic(torch.ones(1, 3, device=device)).sum() * factor)
    assert "\n" not in str(caught.value)
    assert torch.equal(critic.weight, before)
