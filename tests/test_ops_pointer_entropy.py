"""The entropy that weighted_pointer_loss gives when asked: what it is, and its limits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pointer_cases import CPU, NAMES, Weighing, assert_close, case, cast, leaves_of, results, weighing_for
from test_ops_pointer_loss import slow_mixture
from tiny import on, random_mixture

from rlseq2seq.ops import Mixture, weighted_pointer_loss


@given(seed=st.integers(0, 10_000), copy=st.booleans(), sharpness=st.sampled_from([0.1, 1.0, 4.0]))
def test_it_is_the_entropy_of_the_mixture_written_out(
    device: torch.device, seed: int, copy: bool, sharpness: float
) -> None:
    mixture = random_mixture(seed, copy=copy, sharpness=sharpness)
    expected = torch.special.entr(slow_mixture(mixture, 10)).sum(-1)
    targets = torch.full((3,), 1, device=device)
    found = weighted_pointer_loss(on(mixture, device), targets, *_nothing_and_one(3, device))
    assert found.entropy is not None
    torch.testing.assert_close(found.entropy.cpu(), expected)
    torch.testing.assert_close(found.total, found.entropy.sum())


def _nothing_and_one(rows: int, device: torch.device) -> Weighing:
    one = torch.ones(rows, dtype=torch.float64, device=device)
    return Weighing(0 * one, one)


def test_worked_example(device: torch.device) -> None:
    # 8 tokens alike, gate 1/2, attention on 5 twice and on 9: p is 1/16 seven times, 1/16 + 3/8, and 1/8 of token 9.
    mixture = Mixture(
        features=torch.zeros(1, 2),
        weight=torch.zeros(8, 2),
        bias=torch.zeros(8),
        gate_logits=torch.zeros(1),
        attention=torch.tensor([[0.25, 0.25, 0.5]]),
        source_ids=torch.tensor([[5, 9, 5]]),
    )
    weighing = _nothing_and_one(1, device).to(device, torch.float32)
    found = weighted_pointer_loss(on(mixture, device), torch.tensor([4], device=device), *weighing)
    probabilities = [1 / 16] * 7 + [1 / 16 + 3 / 8, 1 / 8]
    assert found.total.item() == pytest.approx(-sum(p * math.log(p) for p in probabilities))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", [-500.0, -100.0, -30.0, 0.0, 30.0, 100.0, 500.0])
@pytest.mark.parametrize("attention", [0.0, 1e-45, 1e-38, 1e-30])
def test_underflow_and_saturated_gates_are_finite(
    device: torch.device, dtype: torch.dtype, gate: float, attention: float
) -> None:
    """A copy of next to nothing, in a source that also holds a token that no one generates and padding."""
    bias = torch.tensor([0.0, -math.inf, 1.0, -2000.0, 0.5, -80.0], dtype=torch.float64)
    mixture = Mixture(
        features=torch.zeros(2, 2, dtype=torch.float64),
        weight=torch.zeros(6, 2, dtype=torch.float64),
        bias=bias,
        gate_logits=torch.full((2,), gate, dtype=torch.float64),
        attention=torch.tensor([[attention, 0.75, 0.25, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.float64),
        source_ids=torch.tensor([[7, 1, 3, 0, 5], [7, 1, 3, 0, 5]]),
    )
    probabilities = slow_mixture(mixture._replace(bias=bias.masked_fill(bias.isneginf(), -1e300)), 8)
    targets = torch.tensor([4, 4], device=device)
    found = results(weighted_pointer_loss, cast(mixture, dtype, device), targets, _nothing_and_one(2, device))
    torch.testing.assert_close(found["entropy"], torch.special.entr(probabilities).sum(-1), rtol=1e-5, atol=1e-5)
    for name, x in found.items():
        assert x.isfinite().all(), name
    assert found["bias"][1] == 0


def test_a_certain_and_an_even_distribution(device: torch.device) -> None:
    rows, size = 5, 300
    certain = torch.full((rows, size), -1e4, dtype=torch.float64).index_fill_(1, torch.tensor([7]), 1e4)
    for logits, expected in ((certain, 0.0), (torch.zeros(rows, size, dtype=torch.float64), math.log(size))):
        empty = torch.zeros(rows, 0, dtype=torch.float64)
        mixture = on(Mixture(logits, torch.eye(size).double(), logits[0] * 0, None, empty, empty.long()), device)
        targets = torch.ones(rows).long().to(device)
        found = results(weighted_pointer_loss, mixture, targets, _nothing_and_one(rows, CPU))
        torch.testing.assert_close(
            found["entropy"], torch.full((rows,), expected, dtype=torch.float64), atol=1e-12, rtol=1e-12
        )
        # Both are extremes: nothing is to be gained by any change of the logits.
        torch.testing.assert_close(found["features"], torch.zeros_like(logits), atol=1e-12, rtol=0)


def test_where_a_source_holds_a_token_does_not_matter(device: torch.device) -> None:
    mixture, targets, weights = case(4, 4, 2, vocabulary=33, time=65)
    order = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    turned = mixture._replace(attention=mixture.attention[:, order], source_ids=mixture.source_ids[:, order])
    weighing = weighing_for(weights, "entropy")
    first, second = (
        results(weighted_pointer_loss, on(m, device), targets.to(device), weighing) for m in (mixture, turned)
    )
    first["attention"] = first["attention"][:, order]
    assert_close(second, first, 1e-12)


def test_one_total_is_the_sum_of_two(device: torch.device) -> None:
    """The entropy does not disturb the log-probabilities, nor they the entropy."""
    mixture, targets, weights = case(5, 4, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    nothing, more = torch.zeros_like(weights), weights.flip(0) + 0.5
    both, first, second = (
        results(weighted_pointer_loss, mixture, targets, Weighing(*each))
        for each in ((weights, more), (weights, nothing), (nothing, more))
    )
    for name in NAMES:
        torch.testing.assert_close(both[name], first[name] + second[name])
    leaves = leaves_of(mixture)
    plain = weighted_pointer_loss(mixture._replace(**leaves), targets, weights.to(device))
    assert plain.entropy is None
    for name, gradient in zip(leaves, torch.autograd.grad(plain.total, list(leaves.values())), strict=True):
        torch.testing.assert_close(gradient.cpu(), first[name])


def test_negative_source_ids(device: torch.device) -> None:
    mixture, targets, weights = case(11, 4, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    mixture.source_ids[2, 5] = -3
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"^pointer_loss: source_ids\[2, 5\] is -3, below 0\.$"):
            weighted_pointer_loss(mixture, targets, weights, weights)
    else:  # to look at them would wait for the device: a token that can only be copied
        found = weighted_pointer_loss(mixture, targets, weights, weights)
        mixture.source_ids[2, 5] = 10_000
        torch.testing.assert_close(tuple(found), tuple(weighted_pointer_loss(mixture, targets, weights, weights)))
