"""The terms of weighted_pointer_loss besides log-probabilities, alone and together, against the reference.

Tolerances: float64 1e-9 of the reference in float64; float32 2e-5 of the largest entry of the same (entropies alone
5e-6 relative and absolute); bfloat16 0.05 of the largest entry.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pointer_cases import (
    CPU,
    ODD_SIZES,
    RENAMINGS,
    Weighing,
    assert_close,
    case,
    cast,
    leaves_of,
    reachable,
    renamed,
    results,
    weighing_for,
)
from tiny import on
from torch import Tensor

from rlseq2seq.ops import reference, weighted_pointer_loss

TERMS = [("entropy",), ("smoothing",), ("entropy", "smoothing")]


@given(sizes=st.fixed_dictionaries(ODD_SIZES), terms=st.sampled_from(TERMS))
@settings(max_examples=120)
def test_equals_the_reference(device: torch.device, sizes: dict[str, Any], terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(**sizes)
    weighing = weighing_for(weights, *terms)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    assert_close(found, expected, 1e-9)
    targets = reachable(mixture, targets)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    single = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weighing)
    assert_close(single, expected, 2e-5)
    if "entropy" in terms:
        torch.testing.assert_close(single["entropy"], expected["entropy"], rtol=5e-6, atol=5e-6)


@given(
    sizes=st.fixed_dictionaries(ODD_SIZES),
    terms=st.sampled_from([(), *TERMS]),
    renaming=st.sampled_from(list(RENAMINGS)),
)
@settings(max_examples=40)
def test_ids_outside_the_vocabulary_are_nothing_but_names(
    device: torch.device, sizes: dict[str, Any], terms: tuple[str, ...], renaming: str
) -> None:
    mixture, targets, weights = case(**sizes)
    weighing = weighing_for(weights, *terms)
    for dtype in (torch.float32, torch.float64):
        mixture, targets = cast(mixture, dtype, device), targets.to(device)
        expected = results(weighted_pointer_loss, mixture, targets, weighing)
        found = results(weighted_pointer_loss, *renamed(mixture, targets, renaming), weighing)
        assert_close(found, expected, 0)


def test_non_contiguous_weights(device: torch.device) -> None:
    mixture, targets, weights = case(5, 4, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    strange = Weighing(weights.repeat_interleave(2)[::2], weights[0].expand(8), torch.stack([weights] * 3, 1)[:, 1])
    assert not any(x.is_contiguous() for x in strange)
    found = results(weighted_pointer_loss, mixture, targets, strange)
    plain = Weighing(*(x.contiguous() for x in strange))
    assert_close(found, results(weighted_pointer_loss, mixture, targets, plain), 1e-12)


@pytest.mark.parametrize("terms", TERMS)
def test_many_blocks_of_rows_chunks_of_the_vocabulary_and_thousands_of_tokens_a_source(
    device: torch.device, terms: tuple[str, ...]
) -> None:
    # 1,500 rows of 20 kB are three blocks of logits on the CPU; rows of a source lie in two of them. 5,003 tokens are
    # three chunks of a sum.
    mixture, targets, weights = case(2, 15, 100, vocabulary=5003, time=2049, features=16)
    mixture, targets = mixture._replace(weight=mixture.weight / 4), reachable(mixture, targets)
    weighing = weighing_for(weights, *terms)
    expected = results(reference.weighted_pointer_loss, mixture, targets, weighing)
    found = results(weighted_pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weighing)
    # The total is of terms of either sign, and small beside them: they are its measure.
    largest = (weights * expected["log_probs"]).abs().sum()
    torch.testing.assert_close(found.pop("total") / largest, expected.pop("total") / largest, rtol=0, atol=2e-6)
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("copy", [True, False])
def test_gradients_are_right_by_differences(device: torch.device, copy: bool, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(3, 2, 2, vocabulary=7, time=5, features=3, copy=copy)
    # Attention of exactly 0 cannot go below; where nothing is copied its gradient has a step.
    mixture = on(mixture._replace(attention=mixture.attention + 0.01), device)
    mixture.source_ids[0, :4] = torch.tensor([5, 8, 5, 8], device=device)
    if copy:
        mixture = mixture._replace(gate_logits=torch.tensor([0.3, -1.0, 2.0, -0.2]).to(mixture.attention))
    weighing = [x if x is None else x.to(device).requires_grad_() for x in weighing_for(weights, *terms)]
    leaves = leaves_of(mixture)

    def total(*tensors: Tensor) -> Tensor:
        named = dict(zip(leaves, tensors[3:], strict=True))
        return weighted_pointer_loss(mixture._replace(**named), targets.to(device), *tensors[:3]).total

    assert torch.autograd.gradcheck(total, [*weighing, *leaves.values()])


def test_results_have_no_gradients(device: torch.device) -> None:
    mixture, targets, weights = case(6, 4, 2)
    mixture = mixture._replace(**leaves_of(on(mixture, device)), source_ids=mixture.source_ids.to(device))
    weighing = weighing_for(weights.to(device), "entropy", "smoothing")
    found = weighted_pointer_loss(mixture, targets.to(device), *weighing)
    assert found.total.requires_grad and not found.log_probs.requires_grad
    assert found.entropy is not None and not found.entropy.requires_grad


@pytest.mark.parametrize("terms", TERMS)
def test_without_gradients_it_is_the_same(device: torch.device, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(7, 4, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    weighing = weighing_for(weights.to(device), *terms)
    expected = weighted_pointer_loss(mixture._replace(**leaves_of(mixture)), targets, *weighing)
    found = weighted_pointer_loss(mixture, targets, *weighing)
    assert not found.total.requires_grad
    torch.testing.assert_close(tuple(found), (expected.total.detach(), expected.log_probs, expected.entropy))


@pytest.mark.parametrize("terms", TERMS)
def test_a_retained_graph_gives_the_same_again(device: torch.device, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(8, 4, 2)
    leaves = leaves_of(on(mixture, device))
    weighing = weighing_for(weights.to(device), *terms)
    total = weighted_pointer_loss(on(mixture, device)._replace(**leaves), targets.to(device), *weighing).total
    first = torch.autograd.grad(total, list(leaves.values()), retain_graph=True)
    kept = [x.clone() for x in first]
    for x in first:
        x.zero_()
    torch.testing.assert_close(list(torch.autograd.grad(total, list(leaves.values()))), kept)


def test_their_gradient_has_no_gradient(device: torch.device) -> None:
    mixture, targets, weights = case(9, 2)
    leaves = leaves_of(on(mixture, device))
    weighing = weighing_for(weights.to(device), "entropy", "smoothing")
    total = weighted_pointer_loss(on(mixture, device)._replace(**leaves), targets.to(device), *weighing).total
    (gradient,) = torch.autograd.grad(total, leaves["features"], create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


@pytest.mark.parametrize("terms", TERMS)
def test_compiles_without_a_graph_break(device: torch.device, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(10, 3, 2)
    mixture, targets = on(mixture, device), targets.to(device)
    compiled = torch.compile(weighted_pointer_loss, backend="aot_eager", fullgraph=True)
    weighing = weighing_for(weights, *terms)
    first, second = (results(loss, mixture, targets, weighing) for loss in (compiled, weighted_pointer_loss))
    assert_close(first, second, 1e-12)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("term", ["entropy", "smoothing"])
def test_wrong_weights_raise_one_sentence(device: torch.device, term: str, gradients: bool) -> None:
    mixture, targets, weights = case(11, 4, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    mixture.features.requires_grad_(gradients)
    for wrong in (weights[1:], weights.float(), weights[:, None], weights.to("cpu" if weights.is_cuda else "meta")):
        with pytest.raises(ValueError, match=rf"^pointer_loss: {term}_weights (must be .*\[8\]|is) on .*\.$"):
            weighted_pointer_loss(mixture, targets, weights, **{f"{term}_weights": wrong})


@pytest.mark.parametrize("terms", TERMS)
def test_a_row_of_nan_spoils_no_other(device: torch.device, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(12, 6)
    weighing = weighing_for(weights, *terms)
    expected = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    mixture.features[3] = math.nan
    found = results(weighted_pointer_loss, on(mixture, device), targets.to(device), weighing)
    others = [0, 1, 2, 4, 5]
    for name in ("log_probs", *(f"{term}_weights" for term in terms)):
        assert found[name][3].isnan()
        torch.testing.assert_close(found[name][others], expected[name][others])
    for name in ("features", "gate_logits", "attention"):
        torch.testing.assert_close(found[name][others], expected[name][others])


@pytest.mark.parametrize("terms", TERMS)
def test_bfloat16_is_for_cuda_and_gives_float32(device: torch.device, terms: tuple[str, ...]) -> None:
    mixture, targets, weights = case(14, 129, 2, vocabulary=513, features=64)
    weighing = weighing_for(weights, *terms)
    if device.type == "cuda":
        targets = reachable(mixture, targets)
        mixture = cast(mixture._replace(weight=mixture.weight / 8), torch.bfloat16, device)
        expected = results(reference.weighted_pointer_loss, cast(mixture, torch.float64, CPU), targets, weighing)
        assert_close(results(weighted_pointer_loss, mixture, targets.to(device), weighing), expected, 0.05)
    else:  # the CPU has no kernel for it, and says so
        with pytest.raises(ValueError, match="features must be float32 or float64"):
            results(weighted_pointer_loss, cast(mixture, torch.bfloat16, device), targets, weighing)
