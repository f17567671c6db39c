from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from critic_game import Game, acting, critic_config, make_game, read, scramble, teach
from objective_cases import (
    EXTENDED,
    MAX_TOKENS,
    SIZE,
    Recorder,
    expected_rewards,
    finetune_config,
    gradient,
    make_setting,
    odd_rewards,
    run,
    tuned,
)
from tiny import MODELS, VARIANTS, every_sequence, move, random_batch, select
from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import pad_rows
from rlseq2seq.decoding.single_path import sample
from rlseq2seq.objectives.actor_critic import ActorCritic
from rlseq2seq.objectives.critic_targets import explained_variance
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.rollouts import Rollouts
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.token_ids import END

ACTORS: list[dict[str, Any]] = [
    {"critic__actor": "advantage", "critic__gae_lambda": 0.0},
    {"critic__actor": "all_actions"},
    {"critic__kind": "state_value"},
]


def name(changes: dict[str, Any]) -> str:
    return "-".join(map(str, changes.values()))


actors = pytest.mark.parametrize("actor", ACTORS, ids=name)


def played(
    method: ActorCritic, model: Any, batch: Any, config: FinetuneConfig, seed: int = 0
) -> tuple[Loss, Rollouts, dict[str, Tensor]]:
    """The loss, and the rollouts that it is of with what is told of them."""
    torch.manual_seed(seed)
    loss = method(read(model, batch), batch, 0)
    torch.manual_seed(seed)
    return loss, *method.roll_out(read(model, batch), batch, config.samples)


def places_of(rollouts: Rollouts, game: Game) -> Tensor:
    """Where the states of ``rollouts`` are among all, [M]."""
    seen = rollouts.scored.mixture.features.argmax(1)
    return torch.tensor([game.states.index(game.seen_as[one]) for one in seen.tolist()], device=seen.device)


# --- the gradient

UNBIASED = [
    ({"critic__actor": "advantage", "critic__gae_lambda": 0.0}, "exact"),
    ({"critic__actor": "advantage", "critic__gae_lambda": 0.0, "critic__dueling": True}, "exact"),
    ({"critic__actor": "all_actions", "critic__gae_lambda": 0.0}, "exact"),
    ({"critic__kind": "state_value", "critic__gae_lambda": 0.0}, "exact"),
    # Returns need no critic, and make up for one that is wrong.
    ({"critic__actor": "advantage", "critic__gae_lambda": 1.0}, "wrong"),
    ({"critic__actor": "all_actions", "critic__gae_lambda": 1.0}, "wrong"),
    ({"critic__kind": "state_value", "critic__gae_lambda": 1.0}, "wrong"),
]


@pytest.mark.parametrize(("changes", "critic"), UNBIASED, ids=[f"{name(case[0])}-{case[1]}" for case in UNBIASED])
def test_gradient_is_that_of_the_expected_reward(device: torch.device, changes: dict[str, Any], critic: str) -> None:
    model, batch = make_game(device, max_tokens=2, sharpness=1.0)
    exact = gradient(expected_rewards(model, batch, 2).mean(), model)
    config = critic_config(samples=20_000, average="sequence", **changes)
    method = acting(model, config, max_tokens=2)
    if critic == "exact":
        game = Game(model, batch, 2)
        teach(method.critic, game, game.action_values() if config.critic.kind == "q" else game.state_values())
    else:
        scramble(method.critic)
    torch.manual_seed(0)
    estimate = gradient(-method(read(model, batch), batch, 0).total, model)
    assert (estimate - exact).norm() / exact.norm() < 0.1
    assert (estimate @ exact / (exact @ exact)).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("average", ["token", "sequence"])
@pytest.mark.parametrize("actor", ["advantage", "all_actions"])
def test_loss_is_advantage_times_probability_and_the_bonus_is_entropy(
    device: torch.device, actor: str, average: str
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    game = Game(model, batch)
    config = critic_config(samples=40, critic__actor=actor, entropy=0.3, average=average)
    method = acting(model, config)
    q = game.action_values()
    teach(method.critic, game, q)
    loss, rollouts, _ = played(method, model, batch, config)
    places, tokens = places_of(rollouts, game), rollouts.scored.tokens
    log_probs = mixture_log_probs(rollouts.scored.mixture, EXTENDED)
    probs = log_probs.exp()
    advantages = (q - game.state_values()[:, None])[places].nan_to_num()
    if actor == "advantage":
        gained = (advantages * log_probs.clamp_min(-1e9)).gather(1, tokens[:, None]).sum()
    else:
        gained = (advantages * probs).sum()
    entropy = -(probs * log_probs.clamp_min(-1e9)).sum()
    divisor = len(tokens) if average == "token" else 80
    expected = -(gained + 0.3 * entropy) / divisor
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(gradient(loss.total, model), gradient(expected, model))
    assert loss.facts["entropy"].item() == pytest.approx(entropy.item() / len(tokens))
    assert loss.tokens == len(tokens)


@actors
def test_facts_are_of_the_samples(device: torch.device, actor: dict[str, Any]) -> None:
    model, batch = make_game(device, sharpness=1.0)
    config, recorder = critic_config(samples=30, kl__weight=0.1, **actor), Recorder()
    held, _ = make_game(device, sharpness=1.0, seed=1)
    method = acting(model, config, reward=recorder, pretrained=held)
    loss, rollouts, facts = played(method, model, batch, config)
    lengths = rollouts.written.lengths
    assert loss.facts["reward"].item() == pytest.approx(recorder.rewards[0].mean().item())
    assert loss.facts["sample_tokens"].item() == pytest.approx(lengths.double().mean().item())
    assert loss.facts["kl"] == facts["kl"] > 0
    assert not any(fact.requires_grad for fact in (loss.facts | loss.after()).values())
    # Without a price, what is paid in all is the reward of the text.
    free, _ = acting(model, critic_config(**actor)).roll_out(read(model, batch), batch, 30)
    final = odd_rewards(free.written.tokens)[:, -1]
    torch.testing.assert_close(free.rewards.sum(1), final)
    torch.testing.assert_close(free.rewards[:, 0], odd_rewards(free.written.tokens)[:, 0])


@actors
def test_samples_are_free_running_and_the_gold_targets_are_for_the_reward_alone(
    device: torch.device, actor: dict[str, Any]
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    config, recorder = critic_config(samples=3, **actor), Recorder()
    method = acting(model, config, reward=recorder)
    scramble(method.critic)
    torch.manual_seed(5)
    loss = method(read(model, batch), batch, 0)
    torch.manual_seed(5)
    written = sample(model, read(model, batch), MAX_TOKENS, torch.rand(6, MAX_TOKENS, device=device)).tokens
    assert len(recorder.tokens) == 1 and torch.equal(recorder.tokens[0], written) and recorder.asked[0] is batch
    ids, lengths = pad_rows([[4, 4, 4, 4, END], [END]])
    torch.manual_seed(5)
    other = method(read(model, batch), move(replace(batch, targets=ids, target_lengths=lengths), device), 0)
    assert torch.equal(other.total, loss.total)


# --- who learns when, and from whom


@actors
def test_no_gradient_of_the_policy_reaches_the_critic_nor_the_other_way_round(
    device: torch.device, actor: dict[str, Any]
) -> None:
    model, batch = make_game(device)
    method = acting(model, critic_config(samples=20, entropy=0.1, critic__dueling=True, **actor))
    scramble(method.state.values.critic)
    before = [parameter.clone() for parameter in model.parameters()]
    torch.manual_seed(0)
    loss = method(read(model, batch), batch, 0)
    loss.total.backward()
    assert all(parameter.grad is None for parameter in method.state.parameters())
    assert all(parameter.grad.ne(0).any() for parameter in model.parameters())
    slopes = [parameter.grad.clone() for parameter in model.parameters()]
    critic = [parameter.clone() for parameter in method.critic.parameters()]
    loss.after()
    for parameter, old, slope in zip(model.parameters(), before, slopes, strict=True):
        assert torch.equal(parameter, old) and torch.equal(parameter.grad, slope)
    assert not all(torch.equal(new, old) for new, old in zip(method.critic.parameters(), critic, strict=True))


@actors
def test_the_policy_waits_while_the_critic_warms_up(device: torch.device, actor: dict[str, Any]) -> None:
    model, batch = make_game(device)
    config = critic_config(critic__warmup_updates=2, eta=fixed(0.5), **actor)
    fine_tuning = tuned(model, config)
    (optimizer,) = fine_tuning.optimizers
    torch.manual_seed(0)
    for step in range(4):
        loss = fine_tuning(batch, step)
        # Maximum likelihood waits too.
        assert loss.total.requires_grad == (step >= 2) == ("nll" in loss.facts)
        # A critic that learned before the update would have to learn again where a step is made again.
        assert all(int(state["step"]) == step for state in optimizer.state.values())
        assert loss.after()["critic_loss"] > 0
        assert all(int(state["step"]) == step + 1 for state in optimizer.state.values())


@actors
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_eta_mixes_in_maximum_likelihood(device: torch.device, actor: dict[str, Any], eta: float) -> None:
    model = VARIANTS[0].model(SIZE, coverage=True).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    rl, _ = run(model, batch, critic_config(entropy=0.1, **actor))
    mle = maximum_likelihood(model, read(model, batch), batch, 0.25)
    loss, _ = run(model, batch, critic_config(entropy=0.1, eta=fixed(eta), coverage__weight=0.25, **actor))
    torch.testing.assert_close(loss.total, eta * rl.total + (1 - eta) * mle.total)
    assert rl.total.abs() > 1e-3


def fixed(value: float) -> dict[str, Any]:
    return {"schedule": "constant", "start": value, "end": value, "steps": 1}


@pytest.mark.parametrize(("target", "factor"), [(1e9, 0.98), (1e-9, 1.02), (None, 1.0)])
def test_weight_of_the_divergence_goes_after_its_target_once_the_update_is_made(
    device: torch.device, target: float | None, factor: float
) -> None:
    model, batch = make_game(device, sharpness=1.0)
    config = critic_config(kl__weight=0.5, kl__target=target, samples=100)
    method = acting(model, config, pretrained=make_game(device, sharpness=1.0, seed=1)[0])
    torch.manual_seed(0)
    loss = method(read(model, batch), batch, 0)
    assert method.state.kl_weight.item() == 0.5
    loss.after()
    assert method.state.kl_weight.item() == pytest.approx(0.5 * factor)


@actors
def test_held_out_explains_the_returns_of_a_sample_of_each_source(device: torch.device, actor: dict[str, Any]) -> None:
    model, batch = make_game(device, sharpness=1.0)
    game = Game(model, batch)
    method = acting(model, critic_config(samples=7, **actor))
    is_q = "critic__kind" not in actor
    exact = game.action_values() if is_q else game.state_values()
    teach(method.critic, game, exact)
    batches = [select(batch, [0, 1] * 50), select(batch, [1, 0, 0])]
    torch.manual_seed(0)
    found = method.held_out(batches)
    torch.manual_seed(0)
    returns, predicted = [], []
    for part in batches:
        rollouts, _ = method.roll_out(read(model, part), part, 1)
        places = places_of(rollouts, game)
        predicted.append(exact[places, rollouts.scored.tokens] if is_q else exact[places])
        returns.append(rollouts.returns[rollouts.scored.row, rollouts.scored.step])
    expected = explained_variance(torch.cat(returns), torch.cat(predicted)).item()
    assert found == {"critic_explained_variance": pytest.approx(expected)}
    assert 0.1 < expected < 0.99
    assert expected > 0.5 or not is_q


def test_a_critic_on_a_device_of_its_own_tells_the_same(device: torch.device) -> None:
    model, batch = make_game(device)
    config = critic_config(samples=10, critic__layers=[8], critic__actor="all_actions", critic__batch_size=50)
    own = replace(make_setting(model), critic_device=torch.device("cpu"))
    told = []
    for setting in (make_setting(model), own):
        method = ActorCritic(setting, config)
        assert {parameter.device for parameter in method.critic.parameters()} == {setting.critic_device}
        scramble(method.critic)
        torch.manual_seed(0)
        loss = method(read(model, batch), batch, 0)
        told.append([gradient(loss.total, model), loss.after()["critic_loss"].to(device)])
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=1e-7)


# --- with every model


@pytest.mark.parametrize("variant", MODELS)
def test_gradient_reaches_what_policy_gradient_reaches(device: torch.device, variant: Any) -> None:
    model = variant.model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1, size=8, empty=True), device)
    reached = dict(_slopes(model, run(model, batch, finetune_config("rloo", samples=2))[0])).keys()
    for actor in ACTORS[:2]:
        method = acting(model, critic_config(samples=2, critic__layers=[4], **actor))
        scramble(method.critic, 1.0)
        torch.manual_seed(0)
        loss = method(read(model, batch), batch, 0)
        slopes = dict(_slopes(model, loss))
        assert reached <= slopes.keys() and all(slope.isfinite().all() for slope in slopes.values())
        assert loss.after()["critic_loss"].isfinite()


def _slopes(model: Any, loss: Loss) -> Iterator[tuple[str, Tensor]]:
    """The gradients that are not 0."""
    model.zero_grad()
    loss.total.backward()
    for parameter, value in model.named_parameters():
        if value.grad is not None and value.grad.ne(0).any():
            yield parameter, value.grad


# --- learning


@actors
def test_the_actor_finds_the_best_texts_from_a_bad_start(device: torch.device, actor: dict[str, Any]) -> None:
    model, batch = make_game(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(6):
        optimizer.zero_grad()
        expected_rewards(model, batch).sum().backward()
        optimizer.step()
    tokens, _ = every_sequence(EXTENDED, MAX_TOKENS)
    best = odd_rewards(tokens[(tokens < SIZE).all(1)])[:, -1].max().item()
    assert expected_rewards(model, batch).max() < 0.2 * best
    learning = {
        "warmup_updates": 10,
        "updates": 4,
        "batch_size": 256,
        "learning_rate": 0.02,
        "target_network__tau": 0.1,
    }
    config = critic_config(
        samples=32, entropy=0.02, **{f"critic__{key}": value for key, value in learning.items()}, **actor
    )
    fine_tuning = tuned(model, config)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for step in range(120):
        optimizer.zero_grad()
        loss = fine_tuning(batch, step)
        if loss.total.requires_grad:
            loss.total.backward()
        optimizer.step()
        loss.after()
    assert expected_rewards(model, batch).min() > 0.9 * best
