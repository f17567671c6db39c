import pytest
import torch
from torch import Tensor

from rlseq2seq.decoding.hypotheses import token_lengths
from rlseq2seq.objectives.returns import (
    group_normalized,
    hold_last,
    leave_one_out,
    penalties,
    self_critical,
    sequence_returns,
    shaped_returns,
)

LENGTHS = torch.tensor([3, 1])


def tensor(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_every_token_of_a_sequence_is_credited_with_its_reward() -> None:
    torch.testing.assert_close(sequence_returns(tensor([8, 3])[0], LENGTHS, 3), tensor([8, 8, 8], [3, 3, 3]))


def test_a_discounted_reward_is_worth_less_the_further_its_end_is() -> None:
    found = sequence_returns(tensor([8, 3])[0], LENGTHS, 3, gamma=0.5)
    torch.testing.assert_close(found, tensor([2, 4, 8], [3, 3, 3]))


def test_a_shaped_return_is_what_is_still_to_come() -> None:
    prefixes = tensor([0.25, 0.0, 1.0], [0.5, 0.5, 0.5])
    torch.testing.assert_close(shaped_returns(prefixes, LENGTHS, 1.0), tensor([1, 0.75, 1], [0.5, 0.5, 0.5]))
    # 0.25 + 0.5 * -0.25 + 0.25 * 1; -0.25 + 0.5 * 1; 1
    torch.testing.assert_close(shaped_returns(prefixes, LENGTHS, 0.5), tensor([0.375, 0.25, 1], [0.5, 0.5, 0.5]))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_shaped_returns_are_the_sum_of_their_definition(gamma: float) -> None:
    torch.manual_seed(0)
    lengths = torch.randint(1, 9, (50,))
    prefixes = hold_last(torch.rand(50, 8, dtype=torch.float64), lengths)
    found = shaped_returns(prefixes, lengths, gamma)
    for row, (rewards, length) in enumerate(zip(prefixes.tolist(), lengths.tolist(), strict=True)):
        differences = [now - before for before, now in zip([0.0, *rewards], rewards, strict=False)]
        for t in range(length):
            expected = sum(gamma ** (u - t) * differences[u] for u in range(t, length))
            assert found[row, t].item() == pytest.approx(expected)


def test_a_shaped_return_of_the_first_token_is_the_reward() -> None:
    prefixes = torch.rand(5, 4, dtype=torch.float64)
    lengths = torch.tensor([4, 3, 2, 1, 4])
    last = prefixes.gather(1, lengths[:, None] - 1)[:, 0]
    torch.testing.assert_close(shaped_returns(prefixes, lengths, 1.0)[:, 0], last)


def test_penalties_are_of_the_tokens_to_come_or_of_all() -> None:
    costs = tensor([1, 2, 4], [3, 0, 0])
    torch.testing.assert_close(penalties(costs, LENGTHS, 1.0), tensor([7, 6, 4], [3, 3, 3]))
    torch.testing.assert_close(penalties(costs, LENGTHS, 0.5), tensor([3, 4, 4], [3, 3, 3]))
    torch.testing.assert_close(penalties(costs, LENGTHS, None), tensor([7, 7, 7], [3, 3, 3]))


def test_leave_one_out_compares_with_the_mean_of_the_others() -> None:
    returns = tensor([1.0], [0.0], [0.5], [2.0], [2.0], [2.0])
    torch.testing.assert_close(leave_one_out(returns, 3), tensor([0.75], [-0.75], [0.0], [0.0], [0.0], [0.0]))


def test_a_sample_better_than_greedy_has_a_positive_advantage() -> None:
    found = self_critical(tensor([0.9], [0.1], [0.2], [0.4]), tensor([0.5], [0.3]))
    torch.testing.assert_close(found, tensor([0.4], [-0.4], [-0.1], [0.1]))


def test_a_greedy_output_that_has_ended_keeps_its_last_return() -> None:
    found = self_critical(tensor([5, 6, 7], [8, 9, 10]), tensor([1, 2]))
    torch.testing.assert_close(found, tensor([4, 4, 5], [7, 7, 8]))


def test_normalised_returns_of_a_group_have_mean_0_and_deviation_1() -> None:
    torch.manual_seed(0)
    found = group_normalized(100 * torch.rand(12, 3, dtype=torch.float64), 4).view(3, 4, 3)
    torch.testing.assert_close(found.mean(1), torch.zeros(3, 3, dtype=torch.float64))
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(3, 3, dtype=torch.float64))
    assert (group_normalized(torch.full((4, 2), 0.7), 4) == 0).all()


def test_lengths_count_the_first_end_token() -> None:
    assert token_lengths(torch.tensor([[5, 3, 5, 3], [5, 5, 5, 5]])).tolist() == [2, 4]
