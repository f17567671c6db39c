from typing import Any

import pytest
import torch
from critic_game import Game, acting, critic_config, make_game, read, scramble, teach
from tiny import TableModel
from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.objectives.actor_critic import ActorCritic
from rlseq2seq.objectives.rollouts import Rollouts
from rlseq2seq.objectives.state_values import StateValues


def state_config(critic: dict[str, Any], **others: Any) -> FinetuneConfig:
    changes = {"kind": "state_value"} | critic
    return critic_config(**{f"critic__{name}": value for name, value in changes.items()}, **others)


def playing(model: TableModel, config: FinetuneConfig, **others: Any) -> tuple[ActorCritic, StateValues]:
    method = acting(model, config, **others)
    assert isinstance(method.state.values, StateValues)
    return method, method.state.values


def advantages_by_hand(rollouts: Rollouts, values: StateValues, gamma: float, smoothing: float) -> list[float]:
    """Of every word, text after text."""
    v, found = values.critic(rollouts.scored.mixture.features).tolist(), []
    for row, length in enumerate(rollouts.written.lengths.tolist()):
        of_text, v = [*v[:length], 0.0], v[length:]
        rewards = rollouts.rewards[row].tolist()
        errors = [rewards[t] + gamma * of_text[t + 1] - of_text[t] for t in range(length)]
        found += [sum((gamma * smoothing) ** (u - t) * errors[u] for u in range(t, length)) for t in range(length)]
    return found


@pytest.mark.parametrize(("gamma", "smoothing"), [(1.0, 0.95), (0.7, 0.0), (0.7, 1.0)])
def test_the_critic_learns_what_every_state_is_worth(device: torch.device, gamma: float, smoothing: float) -> None:
    model, batch = make_game(device, max_tokens=2)
    game = Game(model, batch, 2)
    config = state_config({"gae_lambda": smoothing, "updates": 30}, gamma=gamma)
    method, values = playing(model, config, max_tokens=2)
    torch.manual_seed(0)
    exact = game.state_values(gamma)
    assert (values.critic(game.mixture.features) - exact).abs().max() > 0.3
    rollouts, _ = method.roll_out(read(model, batch), batch, 15_000)
    for rate in (0.05, 0.05, 0.01, 0.002):
        method.optimizer.param_groups[0]["lr"] = rate
        values.learn(rollouts, 0)
    assert (values.critic(game.mixture.features) - exact).abs().max() < 0.02


@pytest.mark.parametrize("smoothing", [0.0, 0.6, 1.0])
def test_advantages_and_targets_by_hand(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, smoothing: float
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    method, values = playing(model, state_config({"gae_lambda": smoothing, "updates": 2}, gamma=0.8))
    scramble(values.critic)
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 30)
    assert rollouts.written.lengths.unique().tolist() == [1, 2, 3]
    expected = advantages_by_hand(rollouts, values, 0.8, smoothing)
    assert values.advantages(rollouts).tolist() == pytest.approx(expected, rel=1e-5)
    losses: list[Tensor] = []
    monkeypatch.setattr(values, "update", losses.append)
    told = values.learn(rollouts, 0)["critic_loss"]
    # V is asked for V + A.
    squares = sum(advantage**2 for advantage in expected) / len(expected)
    assert [loss.item() for loss in losses] == pytest.approx([squares] * 2, rel=1e-5)
    assert told.item() == pytest.approx(squares, rel=1e-5)


def test_the_targets_stay_while_it_learns_from_a_batch(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_game(device)
    changes = {"gae_lambda": 0.0, "updates": 3, "learning_rate": 0.05}
    method, values = playing(model, state_config(changes, learning_rate=0.5))
    scramble(values.critic)
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 30)
    features = rollouts.scored.mixture.features
    targets = values.critic(features).detach() + values.advantages(rollouts)
    update, losses = values.update, []

    def learn_and_look(loss: Tensor) -> None:
        expected = (targets - values.critic(features)).square().mean()
        torch.testing.assert_close(loss.detach(), expected.detach())
        losses.append(loss.item())
        before = values.critic.value.bias.clone()
        update(loss)
        if len(losses) == 1:
            # A first step of Adam is as long as the critic's rate.
            assert (values.critic.value.bias - before).abs().item() == pytest.approx(0.05, rel=1e-3)

    monkeypatch.setattr(values, "update", learn_and_look)
    values.learn(rollouts, 0)
    assert len(set(losses)) == 3


def test_predictions_are_of_the_states_that_words_were_sampled_in(device: torch.device) -> None:
    model, batch = make_game(device)
    game = Game(model, batch)
    method, values = playing(model, state_config({}))
    v = game.state_values()
    teach(values.critic, game, v)
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 50)
    contexts = rollouts.scored.mixture.features.argmax(1).tolist()
    places = torch.tensor([game.states.index(game.seen_as[seen]) for seen in contexts], device=device)
    torch.testing.assert_close(values.predicted(rollouts), v[places])
