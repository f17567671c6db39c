"""The entropy that weighted_pointer_loss gives when asked: what it is, its gradients, its limits, what it costs.

Tolerances: float64 1e-9 of the reference in float64; float32 2e-5 of the largest entry of the same (entropies alone
5e-6 relative and absolute); bfloat16 0.05 of the largest entry.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops_pointer_loss import slow_mixture
from test_ops_pointer_loss_kernel import NAMES, SIZES, assert_close, case, cast, reachable
from tiny import on, random_mixture
from torch import Tensor

from rlseq2seq.ops import Mixture, WeightedLoss, reference, weighted_pointer_loss

CPU = torch.device("cpu")


def leaves_of(mixture: Mixture) -> dict[str, Tensor]:
    copies = mixture.gate_logits is not None
    return {name: getattr(mixture, name).detach().clone().requires_grad_() for name in (NAMES if copies else NAMES[:3])}


def results(
    loss: object, mixture: Mixture, targets: Tensor, weights: Tensor, entropy_weights: Tensor
) -> dict[str, Tensor]:
    """Log-probabilities, entropies and the gradients of the total, in float64 on the CPU."""
    leaves = leaves_of(mixture)
    real = torch.promote_types(mixture.features.dtype, torch.float32)
    weighing = [x.to(mixture.features.device, real) for x in (weights, entropy_weights)]
    found: WeightedLoss = loss(mixture._replace(**leaves), targets, *weighing)  # type: ignore[operator]
    gradients = torch.autograd.grad(found.total, list(leaves.values()))
    assert found.entropy is not None
    named = {"log_probs": found.log_probs, "entropy": found.entropy, **dict(zip(leaves, gradients, strict=True))}
    return {name: x.cpu().double() for name, x in named.items()}


def entropy_weights_for(weights: Tensor) -> Tensor:
    return weights.flip(0) + 0.5


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


def _nothing_and_one(rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.zeros(rows, dtype=torch.float64, device=device), torch.ones(rows, dtype=torch.float64, device=device)


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
    zero, one = (x.float() for x in _nothing_and_one(1, device))
    found = weighted_pointer_loss(on(mixture, device), torch.tensor([4], device=device), zero, one)
    probabilities = [1 / 16] * 7 + [1 / 16 + 3 / 8, 1 / 8]
    assert found.total.item() == pytest.approx(-sum(p * math.log(p) for p in probabilities))


@given(
    seed=st.integers(0, 10_000),
    sources=st.sampled_from([0, 1, 3, 65]),
    shared=st.integers(1, 3),
    vocabulary=st.sampled_from([2, 3, 63, 64, 65, 129, 513]),
    time=st.sampled_from(SIZES),
    features=st.sampled_from([1, 5, 64]),
    copy=st.booleans(),
)
@settings(max_examples=60)
def test_equals_the_reference(
    device: torch.device, seed: int, sources: int, shared: int, vocabulary: int, time: int, features: int, copy: bool
) -> None:
    mixture, targets, weights = case(seed, sources, shared, vocabulary, time, features, copy)
    weighing = weights, entropy_weights_for(weights)
    expected = results(reference.weighted_pointer_loss, mixture, targets, *weighing)
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), *weighing)
    assert_close(found, expected, 1e-9)
    targets = reachable(mixture, targets)
    expected = results(reference.weighted_pointer_loss, mixture, targets, *weighing)
    single = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), *weighing)
    assert_close(single, expected, 2e-5)
    torch.testing.assert_close(single["entropy"], expected["entropy"], rtol=5e-6, atol=5e-6)


def test_many_blocks_of_rows_of_a_source_with_thousands_of_tokens(device: torch.device) -> None:
    # 1,500 rows of 20 kB are three blocks of logits on the CPU; rows of a source lie in two of them.
    mixture, targets, weights = case(2, 15, 100, vocabulary=5003, time=2049, features=16)
    mixture, targets = mixture._replace(weight=mixture.weight / 4), reachable(mixture, targets)
    weighing = weights, entropy_weights_for(weights)
    expected = results(reference.weighted_pointer_loss, mixture, targets, *weighing)
    found = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), *weighing)
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("copy", [True, False])
def test_gradients_are_right_by_differences(device: torch.device, copy: bool) -> None:
    mixture, targets, weights = case(3, 2, 2, vocabulary=7, time=5, features=3, copy=copy)
    # Attention of exactly 0 cannot go below; where nothing is copied its gradient has a step.
    mixture = on(mixture._replace(attention=mixture.attention + 0.01), device)
    mixture.source_ids[0, :4] = torch.tensor([5, 8, 5, 8], device=device)
    if copy:
        mixture = mixture._replace(gate_logits=torch.tensor([0.3, -1.0, 2.0, -0.2]).to(mixture.attention))
    weighing = [x.to(device) for x in (weights, entropy_weights_for(weights))]
    leaves = leaves_of(mixture)

    def total(*tensors: Tensor) -> Tensor:
        named = dict(zip(leaves, tensors[2:], strict=True))
        return weighted_pointer_loss(mixture._replace(**named), targets.to(device), *tensors[:2]).total

    assert torch.autograd.gradcheck(total, [*(x.requires_grad_() for x in weighing), *leaves.values()])


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
    targets, zero, one = torch.tensor([4, 4], device=device), *_nothing_and_one(2, device)
    found = results(weighted_pointer_loss, cast(mixture, dtype, device), targets, zero, one)
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
        found = results(
            weighted_pointer_loss, mixture, torch.ones(rows).long().to(device), *_nothing_and_one(rows, CPU)
        )
        torch.testing.assert_close(
            found["entropy"], torch.full((rows,), expected, dtype=torch.float64), atol=1e-12, rtol=1e-12
        )
        # Both are extremes: nothing is to be gained by any change of the logits.
        torch.testing.assert_close(found["features"], torch.zeros_like(logits), atol=1e-12, rtol=0)


def test_where_a_source_holds_a_token_does_not_matter(device: torch.device) -> None:
    mixture, targets, weights = case(4, 4, 2, vocabulary=33, time=65)
    order = torch.randperm(65, generator=torch.Generator().manual_seed(0))
    turned = mixture._replace(attention=mixture.attention[:, order], source_ids=mixture.source_ids[:, order])
    weighing = weights, entropy_weights_for(weights)
    first, second = (
        results(weighted_pointer_loss, on(m, device), targets.to(device), *weighing) for m in (mixture, turned)
    )
    first["attention"] = first["attention"][:, order]
    assert_close(second, first, 1e-12)


def test_one_total_is_the_sum_of_two(device: torch.device) -> None:
    """The entropy does not disturb the log-probabilities, nor they the entropy."""
    mixture, targets, weights = case(5, 4, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    nothing, more = torch.zeros_like(weights), entropy_weights_for(weights)
    both, first, second = (
        results(weighted_pointer_loss, mixture, targets, *weighing)
        for weighing in ((weights, more), (weights, nothing), (nothing, more))
    )
    for name in NAMES:
        torch.testing.assert_close(both[name], first[name] + second[name])
    leaves = leaves_of(mixture)
    plain = weighted_pointer_loss(mixture._replace(**leaves), targets, weights.to(device))
    assert plain.entropy is None
    for name, gradient in zip(leaves, torch.autograd.grad(plain.total, list(leaves.values())), strict=True):
        torch.testing.assert_close(gradient.cpu(), first[name])


def test_weights_get_gradients_and_results_have_none(device: torch.device) -> None:
    mixture, targets, weights = case(6, 4, 2)
    weighing = [x.to(device).requires_grad_() for x in (weights, entropy_weights_for(weights))]
    found = weighted_pointer_loss(on(mixture, device), targets.to(device), *weighing)
    assert found.entropy is not None and not found.entropy.requires_grad and not found.log_probs.requires_grad
    gradients = torch.autograd.grad(3 * found.total, weighing)
    torch.testing.assert_close(gradients, (3 * found.log_probs, 3 * found.entropy))


def test_without_gradients_it_is_the_same(device: torch.device) -> None:
    mixture, targets, weights = case(7, 4, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    weighing = [x.to(device) for x in (weights, entropy_weights_for(weights))]
    leaves = leaves_of(mixture)
    expected = weighted_pointer_loss(mixture._replace(**leaves), targets, *weighing)
    found = weighted_pointer_loss(mixture, targets, *weighing)
    assert not found.total.requires_grad
    torch.testing.assert_close(tuple(found), (expected.total.detach(), expected.log_probs, expected.entropy))


def test_a_retained_graph_gives_the_same_again(device: torch.device) -> None:
    mixture, targets, weights = case(8, 4, 2)
    leaves = leaves_of(on(mixture, device))
    weighing = [x.to(device) for x in (weights, entropy_weights_for(weights))]
    total = weighted_pointer_loss(on(mixture, device)._replace(**leaves), targets.to(device), *weighing).total
    first = torch.autograd.grad(total, list(leaves.values()), retain_graph=True)
    kept = [x.clone() for x in first]
    for x in first:
        x.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, list(leaves.values()))), kept)


def test_its_gradient_has_no_gradient(device: torch.device) -> None:
    mixture, targets, weights = case(9, 2)
    leaves = leaves_of(on(mixture, device))
    weighing = [x.to(device) for x in (weights, entropy_weights_for(weights))]
    total = weighted_pointer_loss(on(mixture, device)._replace(**leaves), targets.to(device), *weighing).total
    (gradient,) = torch.autograd.grad(total, leaves["features"], create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    mixture, targets, weights = case(10, 3, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    weighing = [x.to(device) for x in (weights, entropy_weights_for(weights))]
    compiled = torch.compile(
        lambda m, *rest: weighted_pointer_loss(m._replace(features=1 * m.features), *rest),
        backend="aot_eager",
        fullgraph=True,
    )
    first, second = (results(loss, mixture, targets, *weighing) for loss in (compiled, weighted_pointer_loss))
    assert_close(first, second, 1e-12)


@pytest.mark.parametrize("gradients", [True, False])
def test_wrong_arguments_raise_one_sentence(device: torch.device, gradients: bool) -> None:
    mixture, targets, weights = case(11, 4, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    mixture.features.requires_grad_(gradients)
    for wrong in (weights[1:], weights.float(), weights[:, None], weights.to("cpu" if weights.is_cuda else "meta")):
        with pytest.raises(ValueError, match=r"^pointer_loss: entropy_weights (must be .*\[8\]|is) on .*\.$"):
            weighted_pointer_loss(mixture, targets, weights, wrong)
    mixture.source_ids[2, 5] = -3
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"^pointer_loss: source_ids\[2, 5\] is -3, below 0\.$"):
            weighted_pointer_loss(mixture, targets, weights, weights)
    else:  # to look at them would wait for the device: a token that can only be copied
        found = weighted_pointer_loss(mixture, targets, weights, weights)
        mixture.source_ids[2, 5] = 10_000
        torch.testing.assert_close(tuple(found), tuple(weighted_pointer_loss(mixture, targets, weights, weights)))


def test_a_row_of_nan_spoils_no_other(device: torch.device) -> None:
    mixture, targets, weights = case(12, 6)
    weighing = weights, entropy_weights_for(weights)
    expected = results(weighted_pointer_loss, on(mixture, device), targets.to(device), *weighing)
    mixture.features[3] = math.nan
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), *weighing)
    others = [0, 1, 2, 4, 5]
    assert found["entropy"][3].isnan()
    for name in ("entropy", "log_probs", "features", "gate_logits", "attention"):
        torch.testing.assert_close(found[name][others], expected[name][others])


def test_bfloat16_gives_float32(device: torch.device) -> None:
    mixture, targets, weights = case(14, 129, 2, vocabulary=513, features=64)
    weighing = weights, entropy_weights_for(weights)
    if device.type == "cuda":
        targets = reachable(mixture, targets)
        mixture = cast(mixture._replace(weight=mixture.weight / 8), torch.bfloat16, device)
        expected = results(reference.weighted_pointer_loss, cast(mixture, torch.float64, CPU), targets, *weighing)
        assert_close(results(weighted_pointer_loss, mixture, targets.to(device), *weighing), expected, 0.05)
    else:  # the CPU has no kernel for it, and says so
        with pytest.raises(ValueError, match="features must be float32 or float64"):
            results(weighted_pointer_loss, cast(mixture, torch.bfloat16, device), targets, *weighing)
