"""pointer_loss means what it says: each device against the mixture written out, and against numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import on, random_mixture
from torch import Tensor

from rlseq2seq.ops import Mixture, mixture_log_probs, pointer_loss
from rlseq2seq.token_ids import PAD, UNKNOWN

SEEDS = st.integers(0, 10_000)


def slow_mixture(mixture: Mixture, extended_size: int) -> Tensor:
    """The dense mixture [N, extended_size], as probabilities."""
    probs = torch.zeros(len(mixture.features), extended_size, dtype=torch.float64)
    for n in range(len(probs)):
        logits = (mixture.weight.double() @ mixture.features[n].double() + mixture.bias.double()).tolist()
        total = sum(math.exp(z - max(logits)) for z in logits)
        gate = 1.0 if mixture.gate_logits is None else 1 / (1 + math.exp(-mixture.gate_logits[n].item()))
        for y, z in enumerate(logits):
            probs[n, y] += gate * math.exp(z - max(logits)) / total
        for i, y in enumerate(mixture.source_ids[n].tolist()):
            if gate < 1:
                probs[n, y] += (1 - gate) * mixture.attention[n, i].item()
    return probs


def legal_targets(mixture: Mixture, row: int) -> list[int]:
    """Every id that the row's distribution can give: the vocabulary and the row's copies."""
    size = len(mixture.weight)
    return [*range(size), *sorted({i for i in mixture.source_ids[row].tolist() if i >= size})]


@given(SEEDS, st.booleans(), st.sampled_from([0.1, 1.0, 4.0]))
def test_pointer_loss_is_the_log_of_the_mixture(device: torch.device, seed: int, copy: bool, sharpness: float) -> None:
    mixture = random_mixture(seed, copy=copy, sharpness=sharpness)
    expected = slow_mixture(mixture, 10)
    for row in range(3):
        targets = legal_targets(mixture, row) if copy else list(range(7))
        one = Mixture(
            *(t if t is None or len(t) == 7 else t[row : row + 1].expand(len(targets), *t.shape[1:]) for t in mixture)
        )
        found = pointer_loss(on(one, device), torch.tensor(targets, device=device))
        torch.testing.assert_close(found.cpu(), expected[row, targets].log())
        assert found.exp().sum().item() == pytest.approx(1, abs=1e-12)


@given(SEEDS, st.booleans())
def test_mixture_log_probs_are_pointer_losses_and_nothing_where_a_row_has_no_copy(
    device: torch.device, seed: int, copy: bool
) -> None:
    mixture = on(random_mixture(seed, copy=copy, rows=4), device)
    log_probs = mixture_log_probs(mixture, 12)
    assert log_probs.shape == (4, 12)
    for row in range(4):
        legal = legal_targets(mixture, row) if copy else list(range(7))
        for target in range(12):
            if target in legal:
                expected = pointer_loss(mixture, torch.full((4,), target, device=device))[row]
                torch.testing.assert_close(log_probs[row, target], expected)
            else:
                assert log_probs[row, target] == -torch.inf
    torch.testing.assert_close(log_probs.logsumexp(1), torch.zeros_like(log_probs[:, 0]), atol=1e-12, rtol=0)


def test_every_copy_of_a_token_adds_to_what_is_generated(device: torch.device) -> None:
    # Logits all 0 over 8 tokens; gate 0: p(5) = 1/2 * 1/8 + 1/2 * (0.25 + 0.5), p(9) = 1/2 * 0.25, p(4) = 1/2 * 1/8
    mixture = Mixture(
        features=torch.zeros(3, 2),
        weight=torch.zeros(8, 2),
        bias=torch.zeros(8),
        gate_logits=torch.zeros(3),
        attention=torch.tensor([[0.25, 0.25, 0.5, 0.0]]).expand(3, 4),
        source_ids=torch.tensor([[5, 9, 5, PAD]]).expand(3, 4),
    )
    found = pointer_loss(on(mixture, device), torch.tensor([5, 9, 4], device=device))
    assert found.exp().tolist() == pytest.approx([0.4375, 0.125, 0.0625])
    dense = mixture_log_probs(on(mixture, device), 10).exp()
    assert dense[0, [5, 9, 4, PAD, 8]].tolist() == pytest.approx([0.4375, 0.125, 0.0625, 0.0625, 0])


def test_a_target_that_is_nowhere_is_the_unknown_token_with_a_finite_loss(device: torch.device) -> None:
    mixture = on(random_mixture(3, sharpness=3), device)
    found = pointer_loss(mixture, torch.full((3,), UNKNOWN, device=device))
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().cpu(), slow_mixture(on(mixture, torch.device("cpu")), 10)[:, UNKNOWN])


def test_an_extended_target_without_a_copy_in_the_source_has_a_finite_loss(device: torch.device) -> None:
    mixture = on(random_mixture(3, dtype=torch.float32), device)
    assert pointer_loss(mixture, torch.full((3,), 500, device=device)).isfinite().all()


def test_a_model_that_cannot_copy_scores_an_extended_target_as_the_unknown_token(device: torch.device) -> None:
    mixture = on(random_mixture(4, copy=False), device)
    found = pointer_loss(mixture, torch.tensor([8, 9, 7], device=device))
    assert torch.equal(found, pointer_loss(mixture, torch.full((3,), UNKNOWN, device=device)))
    assert not torch.isclose(found, pointer_loss(mixture, torch.full((3,), PAD, device=device))).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", [0.0, 1e-45, 1e-38, 1e-30])
@pytest.mark.parametrize("gate", [-100.0, 0.0, 100.0])
def test_a_copied_target_whose_attention_underflows_has_a_finite_loss_and_gradient(
    device: torch.device, dtype: torch.dtype, attention: float, gate: float
) -> None:
    leaves = [
        torch.zeros(1, 2, dtype=dtype, device=device),
        torch.zeros(6, 2, dtype=dtype, device=device),
        torch.zeros(6, dtype=dtype, device=device),
        torch.full((1,), gate, dtype=dtype, device=device),
        torch.tensor([[attention, 1.0]], dtype=dtype, device=device),
    ]
    for leaf in leaves:
        leaf.requires_grad_()
    log_prob = pointer_loss(Mixture(*leaves, torch.tensor([[7, 4]], device=device)), torch.tensor([7], device=device))
    assert -900 < log_prob.item() < -60
    log_prob.sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert mixture_log_probs(Mixture(*leaves, torch.tensor([[7, 4]], device=device)), 8)[0, 7] == log_prob


@pytest.mark.parametrize("gate", [-100.0, -30.0, 30.0, 100.0])
def test_a_saturated_gate_in_float32_is_as_exact_as_in_float64(device: torch.device, gate: float) -> None:
    double = on(random_mixture(5, rows=9), device)
    double = double._replace(gate_logits=torch.full_like(double.features[:, 0], gate))
    single = Mixture(*(t.float() if t.is_floating_point() else t for t in double))
    single.features.requires_grad_()
    only_generated = torch.tensor(UNKNOWN).expand(9).to(device)
    # The copy of a token that the source has, and one that only the vocabulary has.
    for targets in (double.source_ids[:, 0], only_generated):
        found = pointer_loss(single, targets)
        torch.testing.assert_close(found.double(), pointer_loss(double, targets), rtol=1e-5, atol=1e-5)
        gradient = torch.autograd.grad(found.sum(), single.features)[0]
        assert gradient.isfinite().all()


@given(SEEDS, st.booleans())
def test_float32_agrees_with_float64(device: torch.device, seed: int, copy: bool) -> None:
    double = on(random_mixture(seed, rows=4, vocabulary_size=50, copy=copy, sharpness=2), device)
    single = Mixture(*(t.float() if t is not None and t.is_floating_point() else t for t in double))
    targets = double.source_ids[:, 0].clamp_max(49)
    torch.testing.assert_close(
        pointer_loss(single, targets).double(), pointer_loss(double, targets), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("copy", [True, False])
def test_gradients_of_the_pointer_loss(device: torch.device, copy: bool) -> None:
    mixture = on(random_mixture(6, rows=4, copy=copy), device)
    # A copied word, a word both generated and copied, a word only generated, the unknown word.
    mixture.source_ids[0, 0], mixture.source_ids[1, 0] = 8, 5
    mixture.source_ids[2].clamp_(max=5)
    targets = torch.tensor([8 if copy else 4, 5, 6, UNKNOWN], device=device)
    leaves = [t.clone().requires_grad_() for t in mixture[:5] if t is not None]

    def function(*tensors: Tensor) -> Tensor:
        gate_logits, attention = (tensors[3], tensors[4]) if copy else (None, tensors[3])
        return pointer_loss(Mixture(*tensors[:3], gate_logits, attention, mixture.source_ids), targets)

    assert torch.autograd.gradcheck(function, leaves)


def test_gradients_of_the_dense_mixture_where_a_source_holds_a_token_twice(device: torch.device) -> None:
    mixture = random_mixture(7, rows=3)
    # All above 0, where it has no kink.
    attention = torch.rand(3, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64).softmax(-1)
    mixture = on(mixture._replace(attention=attention, source_ids=torch.tensor([[5, 5, 8, 8, 8, 6]] * 3)), device)
    leaves = [t.clone().requires_grad_() for t in mixture[:5] if t is not None]
    # On a GPU, gradients of the copies of a token are added up in any order.
    assert torch.autograd.gradcheck(
        lambda *tensors: mixture_log_probs(Mixture(*tensors, mixture.source_ids), 12).exp(), leaves, nondet_tol=1e-12
    )
