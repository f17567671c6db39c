"""The term of label smoothing in weighted_pointer_loss: what it is, its limits, what leaves it alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pointer_cases import assert_close, case, cast, leaves_of, reachable, results, weighing_for
from tiny import on, random_mixture
from torch.nn.functional import cross_entropy

from rlseq2seq.ops import Mixture, weighted_pointer_loss


@given(seed=st.integers(0, 10_000), smoothing=st.sampled_from([0.1, 0.5, 0.9]), sharpness=st.sampled_from([0.1, 1, 4]))
def test_without_copying_it_is_the_label_smoothing_of_pytorch(
    device: torch.device, seed: int, smoothing: float, sharpness: float
) -> None:
    mixture = on(random_mixture(seed, rows=5, copy=False, sharpness=sharpness), device)
    targets = torch.randint(0, 7, (5,), generator=torch.Generator().manual_seed(seed)).to(device)
    leaves = leaves_of(mixture)
    logits = torch.addmm(leaves["bias"], leaves["features"], leaves["weight"].T)
    expected = cross_entropy(logits, targets, label_smoothing=smoothing)
    each = torch.full_like(logits[:, 0], -1 / 5)
    found = weighted_pointer_loss(mixture._replace(**leaves), targets, (1 - smoothing) * each, None, smoothing * each)
    torch.testing.assert_close(found.total, expected)
    gradients = [torch.autograd.grad(total, list(leaves.values())) for total in (found.total, expected)]
    torch.testing.assert_close(*gradients)


def test_worked_example(device: torch.device) -> None:
    # The softmax of 0, 0, 0, ln 5 is 1/8, 1/8, 1/8, 5/8; what may be copied does not matter.
    mixture = Mixture(
        features=torch.zeros(1, 2),
        weight=torch.zeros(4, 2),
        bias=torch.tensor([0, 0, 0, math.log(5)]),
        gate_logits=torch.tensor([-3.0]),
        attention=torch.tensor([[0.25, 0.75]]),
        source_ids=torch.tensor([[3, 9]]),
    )
    zero, two = (torch.full((1,), x, device=device) for x in (0.0, 2.0))
    bias = mixture.bias.to(device).requires_grad_()
    mixture = on(mixture, device)._replace(bias=bias)
    total = weighted_pointer_loss(mixture, torch.tensor([9], device=device), zero, None, two).total
    assert total.item() == pytest.approx(2 * (3 * math.log(1 / 8) + math.log(5 / 8)) / 4)
    (gradient,) = torch.autograd.grad(total, bias)
    assert gradient.tolist() == pytest.approx([2 * (1 / 4 - p) for p in (1 / 8, 1 / 8, 1 / 8, 5 / 8)])


@pytest.mark.parametrize("others", [(), ("entropy",)])
def test_a_weight_of_0_changes_no_bit(device: torch.device, others: tuple[str, ...]) -> None:
    mixture, targets, weights = case(4, 40, 3, vocabulary=513, time=65)
    mixture, targets = cast(mixture, torch.float32, device), reachable(mixture, targets).to(device)
    without = weighing_for(weights, *others).to(device, torch.float32)
    totals, gradients = [], []
    for weighing in (without, without._replace(smoothing=torch.zeros(120, device=device))):
        leaves = leaves_of(mixture)
        totals.append(weighted_pointer_loss(mixture._replace(**leaves), targets, *weighing).total)
        gradients.append(torch.autograd.grad(totals[-1], list(leaves.values())))
    assert torch.equal(*totals)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_logits_far_from_0_keep_their_differences(device: torch.device) -> None:
    mixture, targets, weights = case(5, 6, vocabulary=300)
    weighing = weighing_for(weights, "entropy", "smoothing")
    expected = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    shifted = mixture._replace(bias=mixture.bias + 1e4)
    found = results(weighted_pointer_loss, on(shifted, device), targets.to(device), weighing)
    assert_close(found, expected, 1e-9)


def test_a_copy_that_underflows_and_a_certain_word_have_finite_losses(device: torch.device) -> None:
    mixture, targets, weights = case(6, 4, vocabulary=65)
    mixture.attention.zero_()
    targets[:2] = 66  # in no vocabulary, and of no attention: the smallest number there is
    mixture.features[2] *= 1e3
    for dtype in (torch.float32, torch.float64):
        weighing = weighing_for(weights, "smoothing")
        found = results(weighted_pointer_loss, cast(mixture, dtype, device), targets.to(device), weighing)
        for name, x in found.items():
            assert x.isfinite().all(), name
