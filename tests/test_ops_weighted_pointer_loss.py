"""weighted_pointer_loss: the sum of weighted log-probabilities whose gradients are made in the forward pass."""

import pytest
import torch
from pointer_cases import NAMES, case
from tiny import on
from torch import Tensor

from rlseq2seq.ops import Mixture, pointer_loss, reference, weighted_pointer_loss


def leaves_of(seed: int, device: torch.device) -> tuple[Mixture, Tensor, Tensor]:
    """A mixture whose tensors, and weights that, ask for gradients."""
    mixture, targets, weights = case(seed, 4, 2)
    mixture = on(mixture, device)
    for x in mixture[:5]:
        x.requires_grad_()
    return mixture, targets.to(device), weights.to(device).requires_grad_()


def expected_gradients(mixture: Mixture, targets: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        reference.weighted_pointer_loss(mixture, targets, weights).total, (*mixture[:5], weights)
    )


def test_total_and_gradients_are_those_of_the_reference(device: torch.device) -> None:
    mixture, targets, weights = leaves_of(1, device)
    found, expected = (f(mixture, targets, weights) for f in (weighted_pointer_loss, reference.weighted_pointer_loss))
    torch.testing.assert_close(tuple(found), tuple(expected))
    assert found.total.requires_grad and not found.log_probs.requires_grad
    assert torch.equal(found.log_probs, pointer_loss(mixture, targets))
    gradients = torch.autograd.grad(found.total, (*mixture[:5], weights))
    torch.testing.assert_close(gradients, expected_gradients(mixture, targets, weights))


def test_gradients_are_right_by_differences(device: torch.device) -> None:
    mixture, targets, weights = case(2, 2, 2, vocabulary=7, time=5, features=3)
    # Attention of exactly 0 cannot go below; where nothing is copied its gradient has a step.
    mixture = on(mixture._replace(attention=mixture.attention + 0.01), device)

    def total(*tensors: Tensor) -> Tensor:
        return weighted_pointer_loss(Mixture(*tensors[:5], mixture.source_ids), targets.to(device), tensors[5]).total

    leaves = [x.detach().clone().requires_grad_() for x in (*mixture[:5], weights.to(device))]
    assert torch.autograd.gradcheck(total, leaves)


def test_a_total_used_twice_and_scaled(device: torch.device) -> None:
    mixture, targets, weights = leaves_of(3, device)
    total = weighted_pointer_loss(mixture, targets, weights).total
    gradients = torch.autograd.grad(3 * total + total.square(), (*mixture[:5], weights))
    factor = 3 + 2 * total.detach()
    for found, expected in zip(gradients, expected_gradients(mixture, targets, weights), strict=True):
        torch.testing.assert_close(found, factor * expected)


def test_a_retained_graph_gives_the_same_again_whatever_became_of_the_first_gradients(device: torch.device) -> None:
    mixture, targets, weights = leaves_of(4, device)
    total = weighted_pointer_loss(mixture, targets, weights).total
    first = torch.autograd.grad(total, (*mixture[:5], weights), retain_graph=True)
    kept = [x.clone() for x in first]
    for x in first:
        x.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, (*mixture[:5], weights))), kept)


def test_gradients_add_up_in_leaves(device: torch.device) -> None:
    mixture, targets, weights = leaves_of(5, device)
    for _ in range(2):
        weighted_pointer_loss(mixture, targets, weights).total.backward()
    for leaf, expected in zip((*mixture[:5], weights), expected_gradients(mixture, targets, weights), strict=True):
        torch.testing.assert_close(leaf.grad, 2 * expected)


def test_a_weight_that_the_features_come_from_gets_both_gradients(device: torch.device) -> None:
    # Tied embeddings: the output weight is also what made the features.
    mixture, targets, weights = leaves_of(6, device)
    inputs = torch.arange(8, device=device)
    found, expected = (
        torch.autograd.grad(
            loss(mixture._replace(features=mixture.weight[inputs].tanh()), targets, weights).total, mixture.weight
        )[0]
        for loss in (weighted_pointer_loss, reference.weighted_pointer_loss)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("frozen", range(5))
def test_a_frozen_input_gets_no_gradient_and_the_others_do(device: torch.device, frozen: int) -> None:
    mixture, targets, weights = leaves_of(7, device)
    expected = expected_gradients(mixture, targets, weights)
    leaves = [x.detach().requires_grad_(i != frozen) for i, x in enumerate(mixture[:5])]
    weighted_pointer_loss(Mixture(*leaves, mixture.source_ids), targets, weights.detach()).total.backward()
    for i, name in enumerate(NAMES):
        if i == frozen:
            assert leaves[i].grad is None
        else:
            torch.testing.assert_close(leaves[i].grad, expected[i], msg=lambda text, n=name: f"{n}: {text}")


def test_without_gradients_it_is_the_plain_forward_pass(device: torch.device) -> None:
    mixture, targets, weights = leaves_of(8, device)
    expected = weighted_pointer_loss(mixture, targets, weights)
    detached = Mixture(*(x.detach() for x in mixture))
    with torch.no_grad():
        inside = weighted_pointer_loss(mixture, targets, weights)
    for found in (inside, weighted_pointer_loss(detached, targets, weights.detach())):
        assert not found.total.requires_grad
        torch.testing.assert_close(tuple(found), (expected.total.detach(), expected.log_probs, None))


@pytest.mark.parametrize("gradients", [True, False])
def test_wrong_weights_raise_one_sentence(device: torch.device, gradients: bool) -> None:
    mixture, targets, weights = leaves_of(9, device)
    with torch.set_grad_enabled(gradients):
        for wrong in (weights[1:], weights.float(), weights[:, None], weights.to("cpu" if weights.is_cuda else "meta")):
            with pytest.raises(ValueError, match=r"^pointer_loss: weights (must be .*\[8\]|is) on .*\.$"):
                weighted_pointer_loss(mixture, targets, wrong)
