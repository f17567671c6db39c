import pytest
import torch
from torch import Tensor

from rlseq2seq.objectives.sum_tree import SumTree


def filled(weights: Tensor, leaves: int | None = None) -> SumTree:
    tree = SumTree(leaves or len(weights))
    tree.set(torch.arange(len(weights)), weights)
    return tree


@pytest.mark.parametrize("leaves", [1, 2, 3, 64, 100, 1000])
def test_sums_are_those_of_the_leaves_after_any_changes(leaves: int) -> None:
    torch.manual_seed(0)
    tree, weights = SumTree(leaves), torch.zeros(leaves, dtype=torch.float64)
    for count in (1, 5, 40, 700, 3):
        changed = torch.randperm(leaves)[:count]
        # Of very different sizes, so that a sum that was only added to would be off.
        weights[changed] = 10 ** torch.empty(len(changed), dtype=torch.float64).uniform_(-8, 8)
        tree.set(changed, weights[changed])
        found = tree.weights.flatten()
        assert torch.equal(found[:leaves], weights)
        assert (found[leaves:] == 0).all()
        assert torch.equal(tree.sums, tree.weights.cumsum(1)[:, -1])
        torch.testing.assert_close(tree.sums.sum(), weights.sum(), rtol=1e-14, atol=0.0)


def test_of_a_leaf_that_is_set_twice_the_later_weight_counts() -> None:
    tree = filled(torch.ones(4, dtype=torch.float64))
    tree.set(torch.tensor([2, 0, 2]), torch.tensor([7.0, 3.0, 5.0], dtype=torch.float64))
    torch.testing.assert_close(tree.shares(torch.arange(4)) * 10, torch.tensor([3.0, 1, 5, 1], dtype=torch.float64))


@pytest.mark.parametrize("count", [1, 10, 100, 5000])
def test_a_draw_has_every_leaf_in_proportion_to_its_weight(count: int) -> None:
    """One draw from each of as many equal parts: a leaf that spans x of them has x, give or take less than two."""
    torch.manual_seed(0)
    weights = torch.rand(100, dtype=torch.float64) ** 4
    tree, expected = filled(weights), weights / weights.sum()
    total, draws = torch.zeros(100, dtype=torch.float64), 200
    for _ in range(draws):
        drawn = tree.draw(count)
        assert (drawn.diff() >= 0).all()
        counts = drawn.bincount(minlength=100)
        assert len(counts) == 100
        assert ((counts - count * expected).abs() < 2).all()
        total += counts
    # Independent draws would exceed this for a leaf in some 15,000; those of strata vary less.
    deviation = (draws * count * expected * (1 - expected)).sqrt()
    assert ((total - draws * count * expected).abs() < 4 * deviation + 2).all()
    # What hardly ever comes is not never.
    assert count < 5000 or (total > 0)[expected > 1e-4].all()


@pytest.mark.parametrize("count", [1, 3, 8, 1000])
def test_leaves_without_weight_are_never_drawn(count: int) -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.0, 0, 1, 0, 3, 0, 0, 2, 0], dtype=torch.float64)
    tree = filled(weights, leaves=13)
    drawn = torch.cat([tree.draw(count) for _ in range(300)])
    assert set(drawn.tolist()) == {2, 4, 7}


@pytest.mark.parametrize("among", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("count", [1, 4, 9, 64])
def test_the_very_end_of_the_sum_is_the_last_leaf(among: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # 1 minus the least there is, which rounding makes 1 where something is added to it.
    monkeypatch.setattr(torch, "rand", lambda n, dtype: torch.full((n,), 1 - 2**-53, dtype=dtype))
    tree = filled(torch.full((among,), 0.1, dtype=torch.float64), leaves=9)
    drawn = tree.draw(count)
    assert drawn[-1] == among - 1
    assert (drawn < among).all()


@pytest.mark.parametrize("count", [1, 4, 64])
def test_the_very_beginning_of_the_sum_is_the_first_leaf_of_any_weight(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda n, dtype: torch.zeros(n, dtype=dtype))
    weights = torch.tensor([0.0, 0, 0, 0, 0, 0.1, 0.1], dtype=torch.float64)
    assert filled(weights).draw(count)[0] == 5
