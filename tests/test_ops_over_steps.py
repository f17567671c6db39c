"""Gradients made together after a loop: the same as those that autograd adds up step by step."""

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlseq2seq.ops import AttentionOverSteps, LinearOverSteps, copy_attention

STEPS, SOURCES, SHARED, POSITIONS, SIZE = 4, 3, 2, 7, 5
ROWS = SOURCES * SHARED


def leaves(seed: int, device: torch.device, *, coverage: bool = True) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "starts": (ROWS, STEPS, SIZE),
        "weight": (SIZE, SIZE),
        "keys": (SOURCES, POSITIONS, SIZE),
        "values": (SOURCES, POSITIONS, SIZE),
        "score_weight": (SIZE,),
    }
    if coverage:
        shapes["coverage_weight"] = (SIZE,)
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).to(device).requires_grad_()
        for name, shape in shapes.items()
    }


def mask(device: torch.device) -> Tensor:
    return torch.arange(POSITIONS, device=device) < torch.tensor([[POSITIONS], [0], [3]], device=device)


def loop(inputs: dict[str, Tensor], *, together: bool, past: bool) -> list[Tensor]:
    """Contexts and attentions of a small recurrence: what a step attends to is what the next one starts from."""
    keys, values, score = inputs["keys"], inputs["values"], inputs["score_weight"]
    covered = inputs.get("coverage_weight")
    tokens = mask(keys.device)
    attend = AttentionOverSteps(keys, values, tokens, score, covered)
    linear = LinearOverSteps(inputs["starts"], inputs["weight"])
    state, coverage = keys.new_zeros(ROWS, SIZE), keys.new_zeros(ROWS, POSITIONS)
    earlier = torch.full_like(coverage, -torch.inf) if past else None
    outputs = []
    for t in range(STEPS):
        query = linear(state) if together else inputs["starts"][:, t] + state @ inputs["weight"].T
        over = coverage if covered is not None else None
        if together:
            state, attention, earlier = attend(query, over, earlier)
        else:
            state, attention, earlier = copy_attention(query, keys, values, tokens, score, over, covered, earlier)
        coverage = coverage + attention
        outputs += [state, attention]
    return outputs


def gradients(inputs: dict[str, Tensor], outputs: list[Tensor], seed: int, **options: bool) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    total = sum((x * torch.randn(x.shape, generator=draw, dtype=x.dtype).to(x.device)).sum() for x in outputs)
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, list(inputs.values()), **options))


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("coverage", [False, True])
@given(seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_single_steps(
    device: torch.device, seed: int, coverage: bool, past: bool
) -> None:
    inputs = leaves(seed, device, coverage=coverage)
    together, apart = (loop(inputs, together=way, past=past) for way in (True, False))
    for mine, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    for name, mine, theirs in zip(
        inputs, gradients(inputs, together, seed), gradients(inputs, apart, seed), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_steps_that_nothing_came_of_give_nothing(device: torch.device) -> None:
    inputs = leaves(1, device)
    early = [loop(inputs, together=way, past=False)[:2] for way in (True, False)]
    for mine, theirs in zip(*(gradients(inputs, outputs, 1) for outputs in early), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_a_graph_that_is_kept_gives_the_same_again(device: torch.device) -> None:
    inputs = leaves(2, device)
    outputs = loop(inputs, together=True, past=True)
    first, second = (gradients(inputs, outputs, 2, retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_only_what_asks_gets_a_gradient(device: torch.device) -> None:
    inputs = leaves(3, device)
    for name in ("values", "weight", "score_weight"):
        inputs[name].requires_grad_(False)
    outputs = loop(inputs, together=True, past=False)
    asking = {name: leaf for name, leaf in inputs.items() if leaf.requires_grad}
    found = gradients(asking, outputs, 3)
    expected = gradients(asking, loop(inputs, together=False, past=False), 3)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_what_a_pass_leaves_behind_is_no_part_of_the_next(device: torch.device) -> None:
    inputs = leaves(6, device)
    outputs = loop(inputs, together=True, past=False)
    torch.autograd.grad(outputs[-1].sum(), inputs["starts"], retain_graph=True)  # asks for nothing of the memory
    found = torch.autograd.grad(outputs[0].sum(), inputs["values"])[0]
    expected = torch.autograd.grad(loop(inputs, together=False, past=False)[0].sum(), inputs["values"])[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_loop_may_end_early(device: torch.device) -> None:
    inputs = leaves(7, device)
    linear = LinearOverSteps(inputs["starts"], inputs["weight"])
    states = inputs["starts"].detach()[:, 0]
    found = torch.autograd.grad(linear(states).sum(), inputs["weight"])[0]
    torch.testing.assert_close(found, states.sum(0).expand_as(found))


@pytest.mark.parametrize("backward", [False, True])
def test_the_graph_goes_when_its_outputs_go(device: torch.device, backward: bool) -> None:
    inputs = leaves(4, device)
    outputs = loop(inputs, together=True, past=False)
    if backward:
        gradients(inputs, outputs, 4)
    gc.collect()
    gc.disable()
    try:
        watched = weakref.ref(outputs[0].grad_fn)
        del outputs
        assert watched() is None
    finally:
        gc.enable()


def test_without_gradients_it_is_the_loop_alone(device: torch.device) -> None:
    inputs = leaves(5, device)
    with torch.no_grad():
        outputs = loop(inputs, together=True, past=True)
    assert not any(x.requires_grad for x in outputs)
    for mine, theirs in zip(outputs, loop(inputs, together=False, past=True), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
