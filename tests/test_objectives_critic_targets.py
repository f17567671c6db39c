import math

import pytest
import torch
from torch import Tensor

from rlseq2seq.models.critic import expectation
from rlseq2seq.objectives.critic_targets import (
    corrections,
    double_value,
    explained_variance,
    generalized_advantages,
    temporal_difference,
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_double_target_is_the_value_by_the_one_network_of_what_the_other_likes_best() -> None:
    q, target_q = tensor(1, 4, 2)[None], tensor(7, 5, 9)[None]
    log_probs = tensor(0.5, 0.25, 0.25).log()[None]
    assert double_value(q, target_q, log_probs).tolist() == [5]
    # The other ways round: what the target network likes best, or both by the same network.
    assert 5 not in (target_q.max().item(), q.max().item(), q[0, target_q.argmax()].item())


def test_an_expected_target_is_what_the_policy_gets() -> None:
    found = expectation(tensor(7, 5, 9)[None], tensor(0.5, 0.25, 0.25).log()[None])
    assert found.tolist() == [7 / 2 + 5 / 4 + 9 / 4]


def test_impossible_words_are_neither_chosen_nor_expected() -> None:
    q, target_q = tensor(1, 9, 2)[None], tensor(7, 50, 3)[None]
    log_probs = tensor(0.75, 0, 0.25).log()[None]
    assert double_value(q, target_q, log_probs).tolist() == [3]
    assert expectation(target_q, log_probs).tolist() == [0.75 * 7 + 0.25 * 3]


def test_each_state_has_a_best_word_of_its_own() -> None:
    q, target_q = torch.eye(3, dtype=torch.float64), torch.arange(9, dtype=torch.float64).view(3, 3)
    assert double_value(q, target_q, torch.zeros(3, 3)).tolist() == [0, 4, 8]


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_nothing_follows_the_last_word(gamma: float) -> None:
    last = torch.tensor([False, True, True])
    found = temporal_difference(tensor(0.25, 0.5, -1), last, gamma, tensor(4, 8, math.inf))
    assert found.tolist() == [0.25 + gamma * 4, 0.5, -1]


@pytest.mark.parametrize("smoothing", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_generalized_advantages_are_the_sum_of_their_definition(gamma: float, smoothing: float) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([6, 1, 4, 3, 2, 5])
    # What lies after the end is of no account.
    rewards, values = torch.randn(2, 6, 6, dtype=torch.float64).unbind()
    found = generalized_advantages(rewards, values, lengths, gamma, smoothing)
    for row, length in enumerate(lengths.tolist()):
        v = [*values[row, :length].tolist(), 0.0]
        for t in range(length):
            expected = 0.0
            for u in range(t, length):
                delta = rewards[row, u].item() + gamma * v[u + 1] - v[u]
                expected += (gamma * smoothing) ** (u - t) * delta
            assert found[row, t].item() == pytest.approx(expected)


def test_generalized_advantages_by_hand() -> None:
    rewards, values, lengths = tensor(1, 2, 4)[None], tensor(10, 20, 40)[None], torch.tensor([3])
    # One step: 1 + 20 - 10, 2 + 40 - 20, 4 - 40; whole returns: 7 - 10, 6 - 20, 4 - 40.
    assert generalized_advantages(rewards, values, lengths, 1.0, 0.0).tolist() == [[11, 22, -36]]
    assert generalized_advantages(rewards, values, lengths, 1.0, 1.0).tolist() == [[-3, -14, -36]]
    # A text of two words: 2 - 20, and 11 - 18 / 2.
    assert generalized_advantages(rewards, values, torch.tensor([2]), 1.0, 0.5)[0, :2].tolist() == [2, -18]


@pytest.mark.parametrize("smoothing", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_corrections_are_the_sum_of_their_definition(gamma: float, smoothing: float) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([6, 1, 4, 3, 2, 5])
    rewards, q, values = torch.randn(3, 6, 6, dtype=torch.float64).unbind()
    found = corrections(rewards, q, values, lengths, gamma, smoothing)
    for row, length in enumerate(lengths.tolist()):
        v = [*values[row, :length].tolist(), 0.0]
        for t in range(length):
            expected = 0.0
            for u in range(t, length):
                error = rewards[row, u].item() + gamma * v[u + 1] - q[row, u].item()
                expected += smoothing * (gamma * smoothing) ** (u - t) * error
            assert found[row, t].item() == pytest.approx(expected)


def test_corrections_by_hand() -> None:
    rewards, q, values = tensor(1, 2, 4)[None], tensor(9, 30, 5)[None], tensor(10, 20, 40)[None]
    # Errors are 1 + 20 - 9 = 12, 2 + 40 - 30 = 12, 4 - 5 = -1.
    assert corrections(rewards, q, values, torch.tensor([3]), 1.0, 0.0).tolist() == [[0, 0, 0]]
    assert corrections(rewards, q, values, torch.tensor([3]), 1.0, 1.0).tolist() == [[23, 11, -1]]
    # With it, what a word is worth is its return 7, less what the later words were better than their states.
    assert 9 + 23 == 7 - (30 - 20) - (5 - 40)
    # A text of two words: 2 - 30, and 12 - 28 / 2, half of each.
    assert corrections(rewards, q, values, torch.tensor([2]), 1.0, 0.5)[0, :2].tolist() == [-1, -14]


def test_explained_variance_is_1_for_who_knows_and_0_for_who_says_the_same_of_all() -> None:
    returns = tensor(1, 2, 3, 6)
    assert explained_variance(returns, returns).item() == 1
    assert explained_variance(returns, tensor(5, 5, 5, 5)).item() == 0
    # Wrong by as much everywhere is no variance: 1, 1, 1, 1.
    assert explained_variance(returns, returns - 1).item() == 1
    # Returns 1, 2, 3, 6 vary by 14 / 4; what is left is 0, 0, 0, 2: 3 / 4.
    assert explained_variance(returns, tensor(1, 2, 3, 4)).item() == pytest.approx(1 - 3 / 14)
    assert explained_variance(returns, -returns).item() == pytest.approx(-3)
