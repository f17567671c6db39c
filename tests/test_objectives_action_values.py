import math
from typing import Any

import pytest
import torch
from critic_game import Game, acting, critic_config, is_over, make_game, read, scramble, teach
from objective_cases import EXTENDED, MAX_TOKENS, SIZE
from tiny import TableModel
from torch import Tensor, nn

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.objectives import action_values
from rlseq2seq.objectives.action_values import ActionValues
from rlseq2seq.objectives.actor_critic import ActorCritic
from rlseq2seq.objectives.replay import Replayed, Transitions
from rlseq2seq.ops import Mixture, mixture_log_probs


def fixed(value: float) -> dict[str, Any]:
    return {"schedule": "constant", "start": value, "end": value, "steps": 1}


def from_step_3(before: float, after: float) -> dict[str, Any]:
    return {"schedule": "step", "start": before, "end": after, "steps": 3}


def game_config(critic: dict[str, Any], **others: Any) -> FinetuneConfig:
    return critic_config(**{f"critic__{name}": value for name, value in critic.items()}, **others)


def playing(model: TableModel, config: FinetuneConfig, **others: Any) -> tuple[ActorCritic, ActionValues]:
    method = acting(model, config, **others)
    assert isinstance(method.state.values, ActionValues)
    return method, method.state.values


@torch.no_grad()
def largest_error(critic: nn.Module, game: Game, exact: Tensor) -> float:
    possible = ~exact.isnan()
    assert possible.sum() > exact.numel() * 0.9 and possible[:, EXTENDED - 1].any()
    return (critic(game.mixture, EXTENDED) - exact)[possible].abs().max().item()


# --- what it converges to

PRIORITIZED = {"replay__sampling": "prioritized", "replay__priority_exponent": 0.9, "batch_size": 1024}
LEARNED = [
    ({"target": "expected", "target_network__update": "polyak"}, 1.0, 2),
    ({"target": "expected", "target_network__update": "hard", "dueling": True}, 0.7, 2),
    ({"target": "double", "target_network__update": "polyak"}, 0.7, 2),
    ({"target": "double", "target_network__update": "hard", "dueling": True}, 1.0, 2),
    ({"target": "expected", "target_network__update": "hard", "dueling": True} | PRIORITIZED, 0.9, 3),
    ({"target": "double", "target_network__update": "polyak"} | PRIORITIZED, 0.9, 2),
]


def warm_up(method: ActorCritic, model: TableModel, batch: Batch, rates: list[float]) -> None:
    torch.manual_seed(0)
    for step, rate in enumerate(rates):
        method.optimizer.param_groups[0]["lr"] = rate
        loss = method(read(model, batch), batch, step)
        assert not loss.total.requires_grad
        loss.after()


@pytest.mark.parametrize(
    ("changes", "gamma", "max_tokens"),
    LEARNED,
    ids=lambda case: str(case["target"]) if isinstance(case, dict) else None,
)
def test_the_critic_learns_what_every_word_is_worth(
    device: torch.device, changes: dict[str, Any], gamma: float, max_tokens: int
) -> None:
    """By the policy as it is, or by the best one: both are known, of every word in every state."""
    model, batch = make_game(device, max_tokens)
    game, is_double = Game(model, batch, max_tokens), changes["target"] == "double"
    learning = {"warmup_updates": 10**9, "updates": 50, "batch_size": 512, "replay__capacity": 60_000}
    learning |= {"target_network__tau": 0.1, "target_network__every": 20} | changes
    samples, rate = (1000, 0.05) if max_tokens == 2 else (5000, 0.02)
    method, _ = playing(model, game_config(learning, gamma=gamma, samples=samples), max_tokens=max_tokens)
    exact, other = (game.action_values(gamma, optimal=optimal) for optimal in (is_double, not is_double))
    assert largest_error(method.critic, game, exact) > 0.5
    warm_up(method, model, batch, [rate] * 5 + [rate / 5])
    assert largest_error(method.critic, game, exact) < 0.02 < largest_error(method.critic, game, other)


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_from_true_returns_alone_it_learns_their_means(device: torch.device, gamma: float) -> None:
    model, batch = make_game(device, max_tokens=2)
    game = Game(model, batch, 2)
    changes = {"true_q": fixed(1.0), "updates": 60, "batch_size": 4096, "replay__capacity": 100_000}
    changes |= {"target_network__every": 10**9, "target_network__update": "hard"}
    method, values = playing(model, game_config(changes, gamma=gamma), max_tokens=2)
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 20_000)
    for rate in (0.05, 0.01, 0.002):
        method.optimizer.param_groups[0]["lr"] = rate
        values.learn(rollouts, 0)
    assert largest_error(method.critic, game, game.action_values(gamma)) < 0.02


# --- what it is trained towards


class Caught:
    """In the place of `CriticUpdate`: the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __call__(self, loss: Tensor) -> None:
        self.losses.append(loss.item())


def spied(
    values: ActionValues, monkeypatch: pytest.MonkeyPatch, wanted_importance: float
) -> tuple[Caught, list[Replayed]]:
    """The losses and the samples to come of ``values``, which from now on stays as it is."""
    caught, replayed, sample = Caught(), [], values.replay.sample

    def remembered(count: int, importance: float, device: torch.device) -> Replayed:
        assert importance == wanted_importance
        replayed.append(sample(count, importance, device))
        return replayed[-1]

    monkeypatch.setattr(values, "update", caught)
    monkeypatch.setattr(values, "_move_target", lambda: None)
    monkeypatch.setattr(values.replay, "sample", remembered)
    return caught, replayed


def row_of_states(states: Transitions, row: int, model: TableModel) -> Mixture:
    rows = slice(row, row + 1)
    features, gate_logits, attention = (part[rows].double() for part in states[:3])
    bias = model.logits.new_zeros(model.vocabulary_size)
    return Mixture(features, model.logits.T, bias, gate_logits, attention, states.source_ids[rows])


def target_by_hand(
    replayed: Replayed, row: int, values: ActionValues, model: TableModel, config: FinetuneConfig
) -> float:
    now, reward = replayed.now, replayed.now.rewards[row].item()
    if now.last[row]:
        return reward
    after = row_of_states(replayed.then, row, model)
    probs = mixture_log_probs(after, EXTENDED)[0].exp().tolist()
    online, held = (network(after, EXTENDED)[0].tolist() for network in (values.critic, values.target))
    if config.critic.target == "double":
        best = max((q, word) for word, q in enumerate(online) if probs[word] > 0)[1]
        return reward + config.gamma * held[best]
    return reward + config.gamma * sum(prob * q for prob, q in zip(probs, held, strict=True) if prob > 0)


@pytest.mark.parametrize(
    ("target", "gamma", "true", "sampling"),
    [
        ("expected", 0.9, 0.0, "uniform"),
        ("double", 0.9, 0.0, "uniform"),
        ("double", 1.0, 0.3, "prioritized"),
        ("expected", 0.5, 0.8, "prioritized"),
        ("double", 0.9, 1.0, "uniform"),
    ],
)
def test_targets_by_hand(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, target: str, gamma: float, true: float, sampling: str
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    changes: dict[str, Any] = {"target": target, "replay__sampling": sampling}
    changes |= {"true_q": from_step_3(1 - true, true), "replay__importance": from_step_3(0.1, 0.7)}
    changes |= {"dueling": True, "batch_size": 60, "updates": 2, "replay__capacity": 500}
    config = game_config(changes, gamma=gamma, samples=30)
    method, values = playing(model, config)
    scramble(values.critic, seed=1)
    scramble(values.target, seed=2)
    caught, samples = spied(values, monkeypatch, 0.7)
    torch.manual_seed(0)
    told = method(read(model, batch), batch, 3).after()["critic_loss"]
    for loss, replayed in zip(caught.losses, samples, strict=True):
        now, total = replayed.now, 0.0
        assert 5 < now.last.sum() < 55 and (now.tokens == EXTENDED - 1).any()
        for row, token in enumerate(now.tokens.tolist()):
            estimated = target_by_hand(replayed, row, values, model, config)
            wanted = true * now.returns[row].item() + (1 - true) * estimated
            q = values.critic(row_of_states(now, row, model), EXTENDED)[0, token].item()
            total += replayed.weights[row].item() * (wanted - q) ** 2
        assert loss == pytest.approx(total / 60, rel=1e-5)
    # The errors of the first sample set the priorities of the second.
    assert (samples[1].weights.min() < 0.99) == (sampling == "prioritized")
    assert told.item() == pytest.approx(sum(caught.losses) / 2)


def test_the_penalty_is_the_spread_of_the_values_of_words(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    method, values = playing(model, game_config({"variance_penalty": 0.3, "batch_size": 40}, samples=30))
    scramble(values.critic)
    caught, samples = spied(values, monkeypatch, 0.4)
    torch.manual_seed(0)
    told = method(read(model, batch), batch, 0).after()["critic_loss"].item()
    spread = 0.0
    for row in range(40):
        q = values.critic(row_of_states(samples[0].now, row, model), EXTENDED)[0, :SIZE].tolist()
        spread += sum((one - sum(q) / SIZE) ** 2 for one in q)
    assert caught.losses[0] == pytest.approx(told + 0.3 * spread / 40) and spread > 1


def test_what_is_remembered_is_what_happened(device: torch.device) -> None:
    """Whose word, what it added, whether it was the last, and what came then: the ring has gone round twice."""
    model, batch = make_game(device, sharpness=1.0)
    held, _ = make_game(device, sharpness=1.0, seed=1)
    game, of_held = Game(model, batch), Game(held, batch)
    config = game_config({"replay__capacity": 150, "batch_size": 20}, samples=20, gamma=0.9, kl__weight=0.3)
    method, values = playing(model, config, pretrained=held)
    torch.manual_seed(0)
    for step in range(4):
        method(read(model, batch), batch, step).after()
    _, now, then, _ = values.replay.sample(1000, 1.0, device)
    for row, (seen, token) in enumerate(zip(now.features.argmax(1).tolist(), now.tokens.tolist(), strict=True)):
        source, written = state = game.seen_as[seen]
        ratio = math.log(game.probs[state][token] / of_held.probs[state][token])
        reward = game.reward(written, token) - 0.3 * ratio
        assert now.rewards[row].item() == pytest.approx(reward, abs=1e-5)
        over = is_over((*written, token), MAX_TOKENS)
        assert now.last[row].item() == over
        if not over:
            assert game.seen_as[int(then.features[row].argmax())] == (source, (*written, token))
            reward += 0.9 * then.returns[row].item()
        assert now.returns[row].item() == pytest.approx(reward, abs=1e-5)
        place = game.states.index(state)
        torch.testing.assert_close(now.attention[row, :2], game.mixture.attention[place].float())
        assert now.source_ids[row, :2].tolist() == batch.sources[source].tolist()
    assert now.last.any() and not now.last.all() and (now.tokens == EXTENDED - 1).any()


def test_in_half_precision_states_are_nearly_what_they_were(device: torch.device) -> None:
    model, batch = make_game(device)
    method, values = playing(model, game_config({"replay__half_precision": True}, samples=20))
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 20)
    values.learn(rollouts, 0)
    now = values.replay.sample(200, 1.0, device).now
    attention = rollouts.scored.mixture.attention.float()
    distance = (now.attention[:, None, :2] - attention).abs().amax(2).amin(1)
    assert 0 < distance.max() < 1e-3


# --- how it moves


@pytest.mark.parametrize("update", ["polyak", "hard"])
def test_the_target_network_follows(device: torch.device, monkeypatch: pytest.MonkeyPatch, update: str) -> None:
    model, batch = make_game(device)
    changes = {"updates": 2, "learning_rate": 0.05, "batch_size": 30, "dueling": True}
    changes |= {"target_network": {"update": update, "tau": 0.25, "every": 4}}
    method, values = playing(model, game_config(changes, samples=10))
    scramble(values.critic, seed=1)
    scramble(values.target, seed=2)
    learn, followed = values.update, [held.clone() for held in values.target.parameters()]
    critics = [[new.clone() for new in values.critic.parameters()]]

    def learn_and_look(loss: Tensor) -> None:
        # Nothing but its own updates moves the critic, and the target is where it should be after the ones before.
        torch.testing.assert_close(list(values.critic.parameters()), critics[-1], rtol=0, atol=0)
        torch.testing.assert_close(list(values.target.parameters()), followed)
        learn(loss)
        critics.append([new.detach().clone() for new in values.critic.parameters()])
        for held, new in zip(followed, critics[-1], strict=True):
            if update == "polyak":
                held.data.copy_(held + 0.25 * (new - held))
            elif (len(critics) - 1) % 4 == 0:
                held.data.copy_(new)

    monkeypatch.setattr(values, "update", learn_and_look)
    torch.manual_seed(0)
    for step in range(5):
        method(read(model, batch), batch, step).after()
    assert len(critics) == 11 and int(values.updates) == 10
    torch.testing.assert_close(list(values.target.parameters()), followed)
    torch.testing.assert_close(list(values.critic.parameters()), critics[-1], rtol=0, atol=0)


@pytest.mark.parametrize("updates", [1, 3])
def test_it_learns_as_often_and_as_fast_as_its_parameters_say(device: torch.device, updates: int) -> None:
    model, batch = make_game(device)
    changes = {"updates": updates, "learning_rate": 0.03, "batch_size": 1000}
    method, values = playing(model, game_config(changes, samples=100, learning_rate=0.5))
    torch.manual_seed(0)
    for step in range(2):
        before = [parameter.clone() for parameter in values.critic.parameters()]
        method(read(model, batch), batch, step).after()
        if step == 0:
            moved = max(
                (new - old).abs().max().item() for new, old in zip(values.critic.parameters(), before, strict=True)
            )
            # A first step of Adam is as long as the rate, and no later one is much longer.
            assert moved == pytest.approx(0.03 * updates, rel=0.3 if updates > 1 else 1e-3)
    (steps,) = {int(state["step"]) for state in method.optimizer.state.values()}
    assert steps == 2 * updates == int(values.updates)


# --- what it tells


@pytest.mark.parametrize("dueling", [True, False])
def test_an_advantage_is_over_what_the_policy_expects(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, dueling: bool
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    game = Game(model, batch)
    method, values = playing(model, game_config({"dueling": dueling}))
    q, v = game.action_values(), game.state_values()
    teach(values.critic, game, q)
    torch.manual_seed(0)
    rollouts, _ = method.roll_out(read(model, batch), batch, 200)
    contexts = rollouts.scored.mixture.features.argmax(1).tolist()
    places = torch.tensor([game.states.index(game.seen_as[seen]) for seen in contexts], device=device)
    chosen = q[places, rollouts.scored.tokens]
    torch.testing.assert_close(values.predicted(rollouts), chosen)
    torch.testing.assert_close(values.advantages(rollouts), chosen - v[places])
    # However many states are looked at together.
    monkeypatch.setattr(action_values, "_VALUES_AT_ONCE", 90 * SIZE)
    assert len(chosen) % 90
    torch.testing.assert_close(values.predicted(rollouts), chosen)
    # Which is not the mean over the words.
    assert (q.nan_to_num()[:, :SIZE].mean(1) - v).abs().max() > 0.1
    judged = values.judge(rollouts.scored.mixture)
    torch.testing.assert_close(judged.of(rollouts.scored.tokens), (chosen, v[places]))
    possible = ~q[places].isnan()
    torch.testing.assert_close(judged.q[possible], q[places][possible])


def test_a_critic_of_a_model_that_cannot_copy(device: torch.device) -> None:
    _, batch = make_game(device, max_tokens=2)
    model = TableModel(SIZE, width=2, contexts=24, copy=False).to(device)
    method, values = playing(model, game_config({"target": "double", "batch_size": 20}, samples=20), max_tokens=2)
    scramble(values.critic)
    torch.manual_seed(0)
    loss = method(read(model, batch), batch, 0)
    assert loss.after()["critic_loss"].isfinite()
    rollouts, _ = method.roll_out(read(model, batch), batch, 20)
    judged, replayed = values.judge(rollouts.scored.mixture), values.replay.sample(20, 1.0, device)
    assert judged.q.shape[1] == SIZE and (replayed.now.tokens < SIZE).all()
    # What is remembered of it writes the same words.
    states = row_of_states(replayed.now, 0, model)
    log_probs = mixture_log_probs(states, EXTENDED)
    assert log_probs[0, SIZE] < -50
    torch.testing.assert_close(log_probs[:, :SIZE], mixture_log_probs(states._replace(gate_logits=None), SIZE))
