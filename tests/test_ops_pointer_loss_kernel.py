"""The kernels of pointer_loss on every device, against the reference: sizes, layouts, types, memory, errors, tracing.

Tolerances: float64 1e-9 of the reference in float64; float32 2e-5 of the largest entry of the same, log-probabilities
2e-6 relative and 1e-5 absolute; bfloat16 0.05 of the largest entry.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pointer_cases import CPU, NAMES, ODD_SIZES, RENAMINGS, assert_close, case, cast, reachable, renamed
from tiny import on
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from rlseq2seq.ops import Mixture, mixture_log_probs, pointer_loss, reference, weighted_pointer_loss

Loss = Callable[[Mixture, Tensor], Tensor]


def results(loss: Loss, mixture: Mixture, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Log-probabilities and the gradients of their weighted sum, in float64 on the CPU."""
    leaves = {
        name: x.clone().requires_grad_()
        for name, x in zip(NAMES, mixture, strict=False)
        if x is not None and (name != "attention" or mixture.gate_logits is not None)
    }
    log_probs = loss(mixture._replace(**leaves), targets)
    gradients = torch.autograd.grad((log_probs * weights.to(log_probs)).sum(), list(leaves.values()))
    named = {"log_probs": log_probs.detach(), **dict(zip(leaves, gradients, strict=True))}
    return {name: x.cpu().double() for name, x in named.items()}


@given(sizes=st.fixed_dictionaries(ODD_SIZES))
@settings(max_examples=80)
def test_equals_the_reference(device: torch.device, sizes: dict[str, Any]) -> None:
    mixture, targets, weights = case(**sizes)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    assert_close(results(pointer_loss, on(mixture, device), targets.to(device), weights), expected, 1e-9)
    targets = reachable(mixture, targets)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    single = results(pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weights)
    assert_close(single, expected, 2e-5)
    torch.testing.assert_close(single["log_probs"], expected["log_probs"], rtol=2e-6, atol=1e-5)


@given(sizes=st.fixed_dictionaries(ODD_SIZES), renaming=st.sampled_from(list(RENAMINGS)))
@settings(max_examples=30)
def test_ids_outside_the_vocabulary_are_nothing_but_names(
    device: torch.device, sizes: dict[str, Any], renaming: str
) -> None:
    mixture, targets, weights = case(**sizes)
    for dtype in (torch.float32, torch.float64):
        mixture, targets = cast(mixture, dtype, device), targets.to(device)
        expected = results(pointer_loss, mixture, targets, weights)
        assert_close(results(pointer_loss, *renamed(mixture, targets, renaming), weights), expected, 0)


@pytest.mark.parametrize("time", [2049, 5000])
def test_sources_of_thousands_of_tokens(device: torch.device, time: int) -> None:
    mixture, targets, weights = case(1, 3, 2, time=time)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    assert_close(results(pointer_loss, on(mixture, device), targets.to(device), weights), expected, 1e-9)


def test_many_blocks_of_rows_and_tiles_of_the_vocabulary(device: torch.device) -> None:
    # 1,501 rows of 20 kB are three blocks of logits on the CPU, 10 MB of weight are three tiles.
    mixture, targets, weights = case(2, 1501, vocabulary=5003, time=9, features=512)
    mixture, targets = mixture._replace(weight=mixture.weight / 6), reachable(mixture, targets)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    found = results(pointer_loss, cast(mixture, torch.float32, device), targets.to(device), weights)
    assert_close(found, expected, 2e-5)


def test_never_holds_the_logits_of_all_rows() -> None:
    # On the CPU; 150 MB of logits in all. Results and gradients take 0.2 MB, the scratch 12 MiB.
    mixture, targets, weights = case(3, 7000, vocabulary=5003, time=1, features=1)
    mixture, weights = cast(mixture, torch.float32, CPU), weights.float()
    leaves = [x.requires_grad_() for x in mixture[:5]]
    ways: list[Callable[[], Tensor]] = [
        lambda: torch.dot(weights, pointer_loss(mixture, targets)),
        lambda: weighted_pointer_loss(mixture, targets, weights).total,
        lambda: weighted_pointer_loss(mixture, targets, weights, weights).total,
        lambda: weighted_pointer_loss(mixture, targets, weights, None, weights).total,
    ]
    for way in ways:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            torch.autograd.grad(way(), leaves)
        held = peak = 0
        for event in profiled.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
        assert 11 * 2**20 < peak < 13 * 2**20


def test_rows_share_sources_in_order(device: torch.device) -> None:
    mixture, targets, weights = case(4, 5, 3)
    mixture, targets = on(mixture, device), targets.to(device)
    repeated = mixture._replace(source_ids=mixture.source_ids.repeat_interleave(3, 0))
    for loss in (pointer_loss, reference.pointer_loss):
        assert_close(results(loss, mixture, targets, weights), results(loss, repeated, targets, weights), 0)
    dense = mixture_log_probs(mixture, 69)
    # On a GPU, copies of a token are added up in any order.
    near = {"rtol": 0, "atol": 0.0 if device.type == "cpu" else 1e-12}
    torch.testing.assert_close(mixture_log_probs(repeated, 69), dense, **near)


def test_non_contiguous_inputs(device: torch.device) -> None:
    mixture, targets, weights = case(5, 6, vocabulary=129)
    expected = results(pointer_loss, on(mixture, device), targets.to(device), weights)
    features, weight, bias, gate_logits, attention, source_ids = on(mixture, device)
    strange = Mixture(
        torch.stack([features, features + 1], -1)[..., 0],
        weight.T.contiguous().T,
        torch.cat([bias[:1], bias])[1:],  # contiguous, and not where wide loads want it
        gate_logits.repeat_interleave(2)[::2],
        attention.T.contiguous().T,
        torch.stack([source_ids, source_ids + 1], -1)[..., 0],
    )
    found = pointer_loss(strange, torch.stack([targets, targets], -1).to(device)[:, 1])
    torch.testing.assert_close(found.cpu(), expected["log_probs"], rtol=1e-12, atol=1e-12)
    leaves = [x.detach().requires_grad_() for x in strange[:5]]
    # An expanded gradient too.
    pointer_loss(Mixture(*leaves, strange.source_ids), targets.to(device)).sum().backward()
    ones = results(pointer_loss, on(mixture, device), targets.to(device), torch.ones(6))
    for name, leaf in zip(NAMES, leaves, strict=True):
        torch.testing.assert_close(leaf.grad.cpu(), ones[name], rtol=1e-12, atol=1e-12)


def test_each_row_is_as_if_it_were_alone_and_every_call_gives_the_same_bits(device: torch.device) -> None:
    mixture, targets, weights = case(6, 129, vocabulary=513)
    mixture, targets = cast(mixture, torch.float32, device), targets.to(device)
    first = results(pointer_loss, mixture, targets, weights)
    for _ in range(3):
        assert_close(results(pointer_loss, mixture, targets, weights), first, 0)
    row = Mixture(*(x if len(x) == 513 else x[77:78] for x in mixture))
    found = pointer_loss(row, targets[77:78]).cpu()  # of one row, a library may make the logits by another kernel
    torch.testing.assert_close(found, first["log_probs"][77:78].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_impossible_tokens_have_no_share_and_a_row_of_nan_spoils_no_other(
    device: torch.device, dtype: torch.dtype
) -> None:
    mixture, targets, weights = case(7, 5, vocabulary=70)
    targets[:] = 4
    mixture.bias[10:68] = -math.inf
    expected = results(reference.pointer_loss, mixture, targets, weights)
    mixture = cast(mixture, dtype, device)
    found = results(pointer_loss, mixture, targets.to(device), weights)
    assert_close(found, expected, 2e-5)
    assert found["bias"][10:68].eq(0).all() and found["weight"][10:68].eq(0).all()
    mixture.features[3] = math.nan
    log_probs = pointer_loss(mixture, targets.to(device)).cpu().double()
    assert log_probs[3].isnan()
    torch.testing.assert_close(log_probs[[0, 1, 2, 4]], found["log_probs"][[0, 1, 2, 4]])


def test_large_logits(device: torch.device) -> None:
    mixture, targets, weights = case(8, 9, vocabulary=300)
    mixture = mixture._replace(features=mixture.features * 1000, gate_logits=mixture.gate_logits * 50)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    assert_close(results(pointer_loss, on(mixture, device), targets.to(device), weights), expected, 1e-9)


def test_bfloat16_is_for_cuda_and_gives_float32(device: torch.device) -> None:
    mixture, targets, weights = case(9, 129, 2, vocabulary=513, features=64)
    targets = reachable(mixture, targets)
    mixture = cast(mixture._replace(weight=mixture.weight / 8), torch.bfloat16, device)
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"features must be float32 or float64 .* not BFloat16 \[258, 64\] on cpu"):
            pointer_loss(mixture, targets)
        return
    double = cast(mixture, torch.float64, CPU)
    expected = results(reference.pointer_loss, double, targets, weights)
    assert pointer_loss(mixture, targets.to(device)).dtype == torch.float32
    assert_close(results(pointer_loss, mixture, targets.to(device), weights), expected, 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_one_input_alone(device: torch.device, name: str) -> None:
    mixture, targets, weights = case(10, 4, 2)
    expected = results(reference.pointer_loss, mixture, targets, weights)[name]
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    leaf = getattr(mixture, name).clone().requires_grad_()
    alone = mixture._replace(**{name: leaf})
    for total in (
        (pointer_loss(alone, targets) * weights).sum(),
        weighted_pointer_loss(alone, targets, weights).total,
    ):
        torch.testing.assert_close(torch.autograd.grad(total, leaf)[0].cpu(), expected, rtol=1e-9, atol=1e-12)


def test_attention_of_a_model_that_cannot_copy_gets_no_gradient(device: torch.device) -> None:
    mixture, targets, weights = case(11, 4, copy=False)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    mixture.attention.requires_grad_()
    mixture.weight.requires_grad_()
    for total in (pointer_loss(mixture, targets).sum(), weighted_pointer_loss(mixture, targets, weights).total):
        total.backward()
        assert mixture.attention.grad is None and mixture.weight.grad is not None


def test_negative_targets(device: torch.device) -> None:
    mixture, targets, _ = case(12, 4)
    mixture, targets = on(mixture, device), targets.to(device)
    targets[2] = -1
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"^pointer_loss: targets\[2\] is -1, below 0\.$"):
            pointer_loss(mixture, targets)
    else:  # to look at them would wait for the device: a token that is nowhere
        nowhere = pointer_loss(mixture, targets.masked_fill(targets < 0, 10_000))
        assert torch.equal(pointer_loss(mixture, targets), nowhere)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("features", lambda x: x.half(), r"features must be float32 or float64 \[\*, \*\]"),
        ("features", lambda x: x[0], r"features must be float32 or float64 \[\*, \*\]"),
        ("weight", lambda x: x.float(), r"weight must be Double \[\*, 5\] on \w+(:0)?, not Float \[65, 5\]"),
        ("weight", lambda x: x[:, 1:], r"weight must be Double \[\*, 5\]"),
        ("weight", lambda x: x[:1], r"weight must have a row for the unknown token, 1, but has 1 rows"),
        ("bias", lambda x: x[1:], r"bias must be Double \[65\]"),
        ("gate_logits", lambda x: x[:, None], r"gate_logits must be Double \[6\]"),
        ("attention", lambda x: x[:5], r"attention must be Double \[6, \*\]"),
        ("source_ids", lambda x: x.int(), r"source_ids must be Long \[\*, 63\]"),
        ("source_ids", lambda x: x[:, 1:], r"source_ids must be Long \[\*, 63\]"),
        ("source_ids", lambda x: torch.cat([x, x]), "rows, 6, must be a multiple of the number of sources, 4"),
        ("source_ids", lambda x: x[:0], "rows, 6, must be a multiple of the number of sources, 0"),
        ("targets", lambda x: x[1:], r"targets must be Long \[6\]"),
        ("targets", lambda x: x.double(), r"targets must be Long \[6\]"),
        ("targets", lambda x: x.to("cpu" if x.is_cuda else "meta"), "targets (must be|is) .*on (meta|cpu)"),
    ],
)
def test_wrong_arguments_raise_one_sentence(device: torch.device, name: str, wrong: Callable, sentence: str) -> None:
    mixture, targets, weights = case(13, 2, 3)
    arguments = {**on(mixture, device)._asdict(), "targets": targets.to(device)}
    arguments[name] = wrong(arguments[name])
    targets = arguments.pop("targets")
    mixture, weights = Mixture(**arguments), weights.to(device)
    for call in (
        lambda: pointer_loss(mixture, targets),
        lambda: weighted_pointer_loss(mixture, targets, weights.requires_grad_()),
    ):
        with pytest.raises(ValueError, match=sentence) as raised:
            call()
        assert str(raised.value).startswith("pointer_loss: ") and str(raised.value).count("\n") == 0


@pytest.mark.parametrize("copy", [True, False])
def test_opcheck(device: torch.device, copy: bool) -> None:
    mixture, targets, weights = case(14, 2, 3, copy=copy)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    needs = [True, False, True, True, True]
    for more in ((None, None), (weights + 1, None), (None, weights - 1), (weights + 1, weights - 1)):
        arguments = weights, *more, *mixture, targets, needs
        torch.library.opcheck(torch.ops.rlseq2seq.pointer_loss_backward.default, arguments)
    leaves = [x if x is None else x.requires_grad_() for x in mixture[:4]]
    mixture = Mixture(*leaves, mixture.attention.requires_grad_(copy), mixture.source_ids)
    torch.library.opcheck(torch.ops.rlseq2seq.pointer_loss.default, (*mixture, targets))


def test_its_gradient_has_no_gradient(device: torch.device) -> None:
    mixture, targets, weights = case(15, 2)
    features = mixture.features.to(device).requires_grad_()
    mixture, targets = on(mixture, device)._replace(features=features), targets.to(device)
    total = weighted_pointer_loss(mixture, targets, weights.to(device)).total
    for loss in (pointer_loss(mixture, targets).sum(), total):
        (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
        with pytest.raises(RuntimeError):
            gradient.sum().backward()


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    mixture, targets, weights = case(16, 3, 2)
    mixture, targets, weights = on(mixture, device), targets.to(device), weights.to(device)
    expected = results(reference.pointer_loss, mixture, targets, weights)
    leaves = [x.requires_grad_() for x in mixture[:5]]

    @torch.compile(backend="aot_eager", fullgraph=True)
    def loss(mixture: Mixture, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        one = (pointer_loss(mixture, targets) * weights).sum()
        return one, weighted_pointer_loss(mixture, targets, weights).total

    for total in loss(mixture, targets, weights):
        gradients = torch.autograd.grad(total, leaves, retain_graph=True)
        for name, gradient in zip(NAMES, gradients, strict=True):
            torch.testing.assert_close(gradient.cpu(), expected[name], rtol=1e-9, atol=1e-12)
