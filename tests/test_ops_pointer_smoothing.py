"""The term of label smoothing in weighted_pointer_loss: what it is, its gradients, its limits, what leaves it alone.

Tolerances: float64 1e-9 of the reference in float64; float32 2e-5 of the largest entry of the same; bfloat16 0.05.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops_pointer_entropy import entropy_weights_for, leaves_of
from test_ops_pointer_loss_kernel import SIZES, assert_close, case, cast, reachable
from tiny import on, random_mixture
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlseq2seq.ops import Mixture, WeightedLoss, reference, weighted_pointer_loss

CPU = torch.device("cpu")
Weighing = tuple[Tensor, Tensor | None, Tensor]


def weighing_for(weights: Tensor, entropy: bool) -> Weighing:
    return weights, entropy_weights_for(weights) if entropy else None, weights.roll(1) - 0.25


def results(loss: object, mixture: Mixture, targets: Tensor, weighing: Weighing) -> dict[str, Tensor]:
    """The total, log-probabilities and the gradients of the total, of the smoothing weights too, in float64 on the
    CPU."""
    leaves = leaves_of(mixture)
    real = torch.promote_types(mixture.features.dtype, torch.float32)
    weights, entropy, smoothing = (x if x is None else x.detach().to(mixture.features.device, real) for x in weighing)
    leaves_and_weights = {**leaves, "smoothing_weights": smoothing.requires_grad_()}
    found: WeightedLoss = loss(mixture._replace(**leaves), targets, weights, entropy, smoothing)  # type: ignore[operator]
    gradients = torch.autograd.grad(found.total, list(leaves_and_weights.values()))
    named = {"total": found.total, "log_probs": found.log_probs}
    named |= dict(zip(leaves_and_weights, gradients, strict=True))
    return {name: x.detach().cpu().double() for name, x in named.items()}


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


@given(
    seed=st.integers(0, 10_000),
    sources=st.sampled_from([0, 1, 3, 65]),
    shared=st.integers(1, 3),
    vocabulary=st.sampled_from([2, 3, 63, 64, 65, 129, 513]),
    time=st.sampled_from(SIZES),
    features=st.sampled_from([1, 5, 64]),
    copy=st.booleans(),
    entropy=st.booleans(),
)
@settings(max_examples=60)
def test_equals_the_reference(
    device: torch.device,
    seed: int,
    sources: int,
    shared: int,
    vocabulary: int,
    time: int,
    features: int,
    copy: bool,
    entropy: bool,
) -> None:
    mixture, targets, weights = case(seed, sources, shared, vocabulary, time, features, copy)
    weighing = weighing_for(weights, entropy)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    assert_close(found, expected, 1e-9)
    targets = reachable(mixture, targets)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    single = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weighing)
    assert_close(single, expected, 2e-5)


def test_many_blocks_of_rows_and_chunks_of_the_vocabulary(device: torch.device) -> None:
    # 1,500 rows of 20 kB are three blocks of logits on the CPU, 5,003 tokens three chunks of a sum.
    mixture, targets, weights = case(2, 1500, vocabulary=5003, time=9, features=16)
    mixture, targets = mixture._replace(weight=mixture.weight / 4), reachable(mixture, targets)
    weighing = weighing_for(weights / 1500, False)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    found = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weighing)
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("copy", [True, False])
def test_gradients_are_right_by_differences(device: torch.device, copy: bool, entropy: bool) -> None:
    mixture, targets, weights = case(3, 2, 2, vocabulary=7, time=5, features=3, copy=copy)
    # Attention of exactly 0 cannot go below; where nothing is copied its gradient has a step.
    mixture = on(mixture._replace(attention=mixture.attention + 0.01), device)
    if copy:
        mixture = mixture._replace(gate_logits=torch.tensor([0.3, -1.0, 2.0, -0.2]).to(mixture.attention))
    weighing = [x if x is None else x.to(device).requires_grad_() for x in weighing_for(weights, entropy)]
    leaves = leaves_of(mixture)

    def total(*tensors: Tensor) -> Tensor:
        named = dict(zip(leaves, tensors[3:], strict=True))
        return weighted_pointer_loss(mixture._replace(**named), targets.to(device), *tensors[:3]).total

    assert torch.autograd.gradcheck(total, [*weighing, *leaves.values()])


@pytest.mark.parametrize("entropy", [True, False])
def test_a_weight_of_0_changes_no_bit(device: torch.device, entropy: bool) -> None:
    mixture, targets, weights = case(4, 40, 3, vocabulary=513, time=65)
    mixture, targets = cast(mixture, torch.float32, device), reachable(mixture, targets).to(device)
    weights, of_entropy, nothing = (
        x if x is None else x.float().to(device) for x in (*weighing_for(weights, entropy)[:2], torch.zeros(120))
    )
    totals, gradients = [], []
    for smoothing in (None, nothing):
        leaves = leaves_of(mixture)
        totals.append(weighted_pointer_loss(mixture._replace(**leaves), targets, weights, of_entropy, smoothing).total)
        gradients.append(torch.autograd.grad(totals[-1], list(leaves.values())))
    assert torch.equal(*totals)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_logits_far_from_0_keep_their_differences(device: torch.device) -> None:
    mixture, targets, weights = case(5, 6, vocabulary=300)
    weighing = weighing_for(weights, True)
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
        found = results(
            weighted_pointer_loss, cast(mixture, dtype, device), targets.to(device), weighing_for(weights, False)
        )
        for name, x in found.items():
            assert x.isfinite().all(), name


def test_a_retained_graph_gives_the_same_again(device: torch.device) -> None:
    mixture, targets, weights = case(8, 4, 2)
    leaves = leaves_of(on(mixture, device))
    weighing = [x if x is None else x.to(device) for x in weighing_for(weights, False)]
    total = weighted_pointer_loss(on(mixture, device)._replace(**leaves), targets.to(device), *weighing).total
    first = torch.autograd.grad(total, list(leaves.values()), retain_graph=True)
    kept = [x.clone() for x in first]
    for x in first:
        x.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, list(leaves.values()))), kept)


@pytest.mark.parametrize("entropy", [True, False])
def test_without_gradients_it_is_the_same(device: torch.device, entropy: bool) -> None:
    mixture, targets, weights = case(7, 4, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    weighing = [x if x is None else x.to(device) for x in weighing_for(weights, entropy)]
    expected = weighted_pointer_loss(mixture._replace(**leaves_of(mixture)), targets, *weighing)
    found = weighted_pointer_loss(mixture, targets, *weighing)
    assert not found.total.requires_grad
    torch.testing.assert_close(tuple(found), (expected.total.detach(), expected.log_probs, expected.entropy))


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    mixture, targets, weights = case(10, 3, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    compiled = torch.compile(
        lambda m, *rest: weighted_pointer_loss(m._replace(features=1 * m.features), *rest),
        backend="aot_eager",
        fullgraph=True,
    )
    weighing = weighing_for(weights, False)
    first, second = (results(loss, mixture, targets, weighing) for loss in (compiled, weighted_pointer_loss))
    assert_close(first, second, 1e-12)


@pytest.mark.parametrize("gradients", [True, False])
def test_wrong_weights_raise_one_sentence(device: torch.device, gradients: bool) -> None:
    mixture, targets, weights = case(11, 4, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    mixture.features.requires_grad_(gradients)
    for wrong in (weights[1:], weights.float(), weights[:, None], weights.to("cpu" if weights.is_cuda else "meta")):
        with pytest.raises(ValueError, match=r"^pointer_loss: smoothing_weights (must be .*\[8\]|is) on .*\.$"):
            weighted_pointer_loss(mixture, targets, weights, None, wrong)


def test_a_row_of_nan_spoils_no_other(device: torch.device) -> None:
    mixture, targets, weights = case(12, 6)
    weighing = weighing_for(weights, False)
    expected = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    mixture.features[3] = math.nan
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    others = [0, 1, 2, 4, 5]
    assert found["smoothing_weights"][3].isnan()
    for name in ("smoothing_weights", "log_probs", "features", "gate_logits", "attention"):
        torch.testing.assert_close(found[name][others], expected[name][others])


def test_bfloat16_gives_float32(device: torch.device) -> None:
    mixture, targets, weights = case(14, 129, 2, vocabulary=513, features=64)
    weighing = weighing_for(weights, False)
    if device.type == "cuda":
        targets = reachable(mixture, targets)
        mixture = cast(mixture._replace(weight=mixture.weight / 8), torch.bfloat16, device)
        expected = results(reference.weighted_pointer_loss, cast(mixture, torch.float64, CPU), targets, weighing)
        assert_close(results(weighted_pointer_loss, mixture, targets.to(device), weighing), expected, 0.05)
    else:  # the CPU has no kernel for it, and says so
        with pytest.raises(ValueError, match="features must be float32 or float64"):
            results(weighted_pointer_loss, cast(mixture, torch.bfloat16, device), targets, weighing)
