from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from critic_game import critic_config, scramble
from tiny import on, random_mixture, row_of

from rlseq2seq.models.critic import ActionCritic, StateCritic, expectation
from rlseq2seq.ops import Mixture, mixture_log_probs
from rlseq2seq.token_ids import PAD, UNKNOWN

V, X = 7, 10  # the words of `random_mixture`, and with those that a source may have besides
TYPES = [torch.float64, torch.float32]


def make_critic(
    device: torch.device, *, layers: Sequence[int] = (5,), dueling: bool = True, dtype: torch.dtype = torch.float64
) -> ActionCritic:
    config = replace(critic_config().critic, layers=tuple(layers), dueling=dueling)
    critic = ActionCritic(4, V, config)
    scramble(critic, 1.0)
    return critic.to(device, dtype)


def mixture_of(device: torch.device, dtype: torch.dtype = torch.float64, seed: int = 0) -> Mixture:
    return on(random_mixture(seed, rows=5, dtype=dtype), device)


def linear(inputs: list[float], layer: torch.nn.Linear) -> list[float]:
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(x * w for x, w in zip(inputs, weights, strict=True)) + bias for weights, bias in rows]


def normal(features: list[float], norm: torch.nn.LayerNorm) -> list[float]:
    mean = sum(features) / len(features)
    spread = (sum((x - mean) ** 2 for x in features) / len(features) + norm.eps) ** 0.5
    pairs = zip(features, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(x - mean) / spread * weight + bias for x, weight, bias in pairs]


@pytest.mark.parametrize("dueling", [True, False])
@pytest.mark.parametrize("layers", [(), (5,), (6, 3)])
@pytest.mark.parametrize("dtype", TYPES)
def test_action_values_by_hand(
    device: torch.device, dtype: torch.dtype, layers: tuple[int, ...], dueling: bool
) -> None:
    critic, mixture = make_critic(device, layers=layers, dueling=dueling, dtype=dtype), mixture_of(device, dtype)
    found = critic(mixture, X)
    assert found.dtype == dtype and found.shape == (5, X)
    for row, features in enumerate(mixture.features.tolist()):
        hidden = normal(features, critic.hidden[0])
        for layer in list(critic.hidden)[1::2]:
            hidden = [max(0.0, x) for x in linear(hidden, layer)]
        of_words = linear(hidden, critic.actions)
        if critic.value is not None:
            mean = sum(of_words) / V
            of_words = [linear(hidden, critic.value)[0] + advantage - mean for advantage in of_words]
        more = linear(hidden, critic.copies)[0]
        for word in range(X):
            places = zip(mixture.source_ids[row].tolist(), mixture.attention[row].tolist(), strict=True)
            attended = sum(share for token, share in places if token == word)
            expected = of_words[word] if word < V else of_words[UNKNOWN] + more * attended
            assert found[row, word].item() == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-9)


def test_the_value_of_a_dueling_critic_is_the_mean_over_the_words(device: torch.device) -> None:
    critic, mixture = make_critic(device), mixture_of(device)
    assert critic.value is not None
    q = critic(mixture, X)
    torch.testing.assert_close(q[:, :V].mean(1), critic.value(critic.hidden(mixture.features))[:, 0])
    with torch.no_grad():
        critic.actions.bias.add_(3)
    # What all advantages have in common is no value.
    torch.testing.assert_close(critic(mixture, X), q)


@pytest.mark.parametrize("dueling", [True, False])
def test_values_of_any_size_and_sign_are_learned(device: torch.device, dueling: bool) -> None:
    critic, mixture = make_critic(device, layers=(), dueling=dueling), mixture_of(device)
    wanted = torch.linspace(-20, 30, V, dtype=torch.float64, device=device)
    for _ in range(3):
        q = critic(mixture, V)[0]
        slopes = torch.autograd.grad((q - wanted).square().sum(), list(critic.parameters()), allow_unused=True)
        # A linear head: its gradient does not fade however far off it is.
        actions = slopes[[name for name, _ in critic.named_parameters()].index("actions.bias")]
        off = q - wanted
        torch.testing.assert_close(actions, 2 * (off - off.mean() if dueling else off))
        with torch.no_grad():
            critic.actions.bias.sub_(0.5 * actions)
            if critic.value is not None:
                critic.value.bias.sub_(off.mean())
    torch.testing.assert_close(critic(mixture, V)[0], wanted)


def test_it_starts_at_0_for_every_word(device: torch.device) -> None:
    critic = ActionCritic(4, V, replace(critic_config().critic, layers=(5,), dueling=True)).to(device).double()
    assert (critic(mixture_of(device), X) == 0).all()
    assert (StateCritic(4, critic_config().critic).to(device)(torch.randn(3, 4, device=device)) == 0).all()


def test_a_copy_is_worth_more_by_all_the_attention_to_it(device: torch.device) -> None:
    critic, mixture = make_critic(device), mixture_of(device)
    ids = torch.tensor([8, 4, 8, 7, PAD, PAD], device=device).expand(5, -1)
    shares = torch.tensor([0.2, 0.1, 0.3, 0.4, 0, 0], dtype=torch.float64, device=device).expand(5, -1)
    q = critic(mixture._replace(source_ids=ids, attention=shares), X)
    more = (q - q[:, UNKNOWN, None])[:, V:]
    assert more[:, 1].ne(0).all()
    torch.testing.assert_close(more[:, 0], more[:, 1] * 0.4 / 0.5)
    # No attention to it: a word of another source.
    assert (more[:, 2] == 0).all()
    # Where there is room for none, the words of the vocabulary are what they were.
    torch.testing.assert_close(critic(mixture, V), q[:, :V])


def test_a_source_may_be_shared_by_several_states(device: torch.device) -> None:
    critic, mixture = make_critic(device), on(random_mixture(0, rows=6), device)
    shared = mixture._replace(source_ids=mixture.source_ids[::3])
    apart = mixture._replace(source_ids=mixture.source_ids[::3].repeat_interleave(3, 0))
    torch.testing.assert_close(critic(shared, X), critic(apart, X))
    torch.testing.assert_close(critic(shared, X)[4:5], critic(row_of(apart, 4), X))


def test_no_gradient_flows_from_a_critic_into_the_policy(device: torch.device) -> None:
    mixture = mixture_of(device)
    of_policy = [t.requires_grad_() for t in mixture if t is not None and t.is_floating_point()]
    critic = make_critic(device)
    critic(mixture, X).square().sum().backward()
    assert all(tensor.grad is None for tensor in of_policy)
    assert all(parameter.grad.ne(0).any() for parameter in critic.parameters())
    states = StateCritic(4, replace(critic_config().critic, layers=(5,))).to(device).double()
    scramble(states, 1.0)
    states(mixture.features).square().sum().backward()
    assert all(tensor.grad is None for tensor in of_policy)
    assert all(parameter.grad.ne(0).any() for parameter in states.parameters())


def test_a_critic_reads_features_of_any_scale_in_its_own_type(device: torch.device) -> None:
    critic, mixture = make_critic(device, dtype=torch.float32), mixture_of(device)
    large, huge = (critic(mixture._replace(features=mixture.features * scale), X) for scale in (1e2, 1e6))
    assert large.dtype == torch.float32
    torch.testing.assert_close(large, huge, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", TYPES)
def test_state_values_by_hand(device: torch.device, dtype: torch.dtype) -> None:
    critic = StateCritic(4, replace(critic_config().critic, layers=(5,)))
    scramble(critic, 1.0)
    critic = critic.to(device, dtype)
    features = mixture_of(device, dtype).features
    found = critic(features)
    assert found.dtype == dtype and found.shape == (5,)
    for row, one in enumerate(features.tolist()):
        hidden = [max(0.0, x) for x in linear(normal(one, critic.hidden[0]), critic.hidden[1])]
        assert found[row].item() == pytest.approx(linear(hidden, critic.value)[0], rel=1e-4)


def test_an_expectation_is_over_copies_too_and_not_over_what_is_impossible(device: torch.device) -> None:
    critic, mixture = make_critic(device), mixture_of(device)
    log_probs, q = mixture_log_probs(mixture, X), critic(mixture, X)
    found = expectation(q, log_probs)
    copied = 0
    for row in range(5):
        possible = [word for word in range(X) if word < V or word in mixture.source_ids[row].tolist()]
        copied += sum(word >= V for word in possible)
        expected = sum(log_probs[row, word].exp().item() * q[row, word].item() for word in possible)
        assert found[row].item() == pytest.approx(expected)
    assert copied
