"""The operator copy_attention as others call it, and as an operator of PyTorch."""

from collections.abc import Callable

import pytest
import torch
from attention_cases import (
    KINDS,
    NAMES,
    assert_agree,
    attention_case,
    called,
    differentiable,
    moved,
    results_and_gradients,
)
from torch import Tensor

from rlseq2seq.ops import Attended, copy_attention, reference

# --- as others use it


def test_intra_decoder_attention_over_the_states_so_far(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(3, 7, 6, dtype=torch.float64, generator=generator).to(device)
    weight = torch.randn(6, 6, dtype=torch.float64, generator=generator).to(device)
    for step in range(7):
        query = states[:, step] @ weight
        # Over the part of a buffer that is filled, and over all of it under a mask: the same.
        filled = torch.ones(3, step, dtype=torch.bool, device=device)
        part = copy_attention(query, states[:, :step], states[:, :step], filled, None)
        mask = (torch.arange(7, device=device) < step).expand(3, 7)
        whole = copy_attention(query, states, states, mask, None)
        assert torch.equal(part.context, whole.context)
        assert torch.equal(part.attention, whole.attention[:, :step])
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[:, None], states[:, :step], states[:, :step], scale=1.0
        )
        torch.testing.assert_close(part.context, expected[:, 0].nan_to_num())


@pytest.mark.parametrize("kind", KINDS)
def test_non_contiguous_arguments(device: torch.device, kind: str) -> None:
    case = moved(attention_case(7, 6, 30, shared=2, sizes=(8, 12), kind=kind, temporal=True), device, torch.float64)
    strided = {
        k: torch.stack([v, v], -1)[..., 0] if v.dim() == 1 else v.transpose(0, 1).contiguous().transpose(0, 1)
        for k, v in case.items()
    }
    assert not any(v.is_contiguous() for v in strided.values())
    found, expected = (results_and_gradients(copy_attention, x) for x in (strided, case))
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def test_keys_and_values_may_start_anywhere_in_memory(device: torch.device) -> None:
    case = moved(attention_case(9, 4, 30, sizes=(8, 12)), device, torch.float32)
    shifted = {k: torch.cat([v.flatten()[:1], v.flatten()])[1:].view(v.shape) for k, v in case.items()}
    found, expected = (results_and_gradients(copy_attention, x) for x in (shifted, case))
    assert_agree(found, expected, torch.float32)


@pytest.mark.parametrize("wanted", [["query"], ["keys"], ["values"], ["score_weight"], ["coverage"]])
def test_gradients_of_some_arguments_only(device: torch.device, wanted: list[str]) -> None:
    case = moved(attention_case(10, 6, 30, shared=2, sizes=(8, 12)), device, torch.float64)
    expected = results_and_gradients(copy_attention, case)
    leaves = {name: case[name].detach().requires_grad_() for name in wanted}
    context, attention, _ = called(copy_attention, {**case, **leaves})
    # Made on the CPU, as the expected ones are: a GPU rounds otherwise.
    weights = [torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x).to(device) for x in (context, attention)]
    torch.autograd.backward([context, attention], weights)
    for name, leaf in leaves.items():
        assert leaf.grad is not None and torch.equal(leaf.grad, expected[f"gradient of {name}"])


# --- as an operator of PyTorch


@pytest.mark.parametrize("operator", [copy_attention, reference.copy_attention])
@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_attention(
    device: torch.device, operator: Callable[..., Attended], kind: str, temporal: bool
) -> None:
    case = moved(attention_case(2, 6, shared=2, kind=kind, temporal=temporal), device, torch.float64)
    if temporal:  # numbers beside -inf have no difference quotient
        case["past"] = case["past"].clamp_min(-2.0)
    names = differentiable(case)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        attended = called(operator, {**dict(zip(names, tensors, strict=True)), "mask": case["mask"]})
        return tuple(result for result in attended if result is not None)

    assert torch.autograd.gradcheck(function, [case[name].requires_grad_() for name in names])


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(device: torch.device, kind: str, temporal: bool) -> None:
    case = moved(attention_case(11, 6, shared=2, kind=kind, temporal=temporal), device, torch.float64)
    for name in differentiable(case):
        case[name].requires_grad_()
    names = ["query", "keys", "values", "mask", *NAMES[3:]]
    inputs = [case.get(name) for name in names]
    torch.library.opcheck(torch.ops.rlseq2seq.copy_attention.default, inputs)
    outputs = [x.detach() for x in torch.ops.rlseq2seq.copy_attention.default(*inputs)]
    grads = [torch.ones_like(x) for x in outputs]
    inputs = [None if x is None else x.detach() for x in inputs]
    for wants in ((True, True, False), (False, False, True)):
        arguments = (*grads, *inputs, *outputs, *wants)
        torch.library.opcheck(torch.ops.rlseq2seq.copy_attention_backward.default, arguments)


@pytest.mark.parametrize("temporal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_asks_for_changes_nothing_else(device: torch.device, kind: str, temporal: bool) -> None:
    """As a loop asks: at each step for gradients of its rows, after the last for those of memory and weights."""
    case = moved(attention_case(13, 30, 70, shared=10, kind=kind, temporal=temporal), device, torch.float64)
    inputs = [case.get(name) for name in ["query", "keys", "values", "mask", *NAMES[3:]]]
    outputs = torch.ops.rlseq2seq.copy_attention.default(*inputs)
    grads = [torch.arange(x.numel()).view_as(x).cos().to(x) for x in outputs]

    def gradients(*wants: bool) -> tuple[Tensor, ...]:
        operator = torch.ops.rlseq2seq.copy_attention_backward.default
        return tuple(operator(*grads, *inputs, *outputs, *wants))

    # Of query, keys, values, score weight, coverage, its weight, past.
    both, rows, memory = gradients(True, True, True), gradients(True, False, False), gradients(False, True, True)
    for place, asked, left in [(i, rows, memory) for i in (0, 4, 6)] + [(i, memory, rows) for i in (1, 2)]:
        torch.testing.assert_close(asked[place], both[place], rtol=1e-12, atol=1e-12)
        assert left[place].numel() == 0
    for place in (3, 5):
        torch.testing.assert_close((rows[place], memory[place]), (both[place], both[place]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_without_a_graph_break(device: torch.device, kind: str) -> None:
    case = moved(attention_case(12, 6, shared=2, kind=kind, temporal=True), device, torch.float64)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def two_steps(**arguments: Tensor) -> Attended:
        first = called(copy_attention, arguments)
        return called(copy_attention, {**arguments, "past": first.past})

    def two_eager_steps(**arguments: Tensor) -> Attended:
        first = called(reference.copy_attention, arguments)
        return called(reference.copy_attention, {**arguments, "past": first.past})

    found, expected = (results_and_gradients(f, case) for f in (two_steps, two_eager_steps))
    assert_agree(found, expected, torch.float64)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("query", lambda x: x.half(), "query must be float32 or float64, or on CUDA bfloat16, not Half"),
        ("query", lambda x: x[0], r"query must be Double \[\*, \*\]"),
        ("keys", lambda x: x.float(), r"keys must be Double \[\*, \*, 4\] on \w+(:0)?, not Float \[3, 5, 4\]"),
        ("keys", lambda x: x[:, :, 1:], r"keys must be Double \[\*, \*, 4\]"),
        ("values", lambda x: x[:, 1:], r"values must be Double \[3, 5, \*\]"),
        ("mask", lambda x: x.long(), r"mask must be Bool \[3, 5\]"),
        ("mask", lambda x: x[1:], r"mask must be Bool \[3, 5\]"),
        ("score_weight", lambda x: x[1:], r"score_weight must be Double \[4\]"),
        ("coverage", lambda x: x[:, 1:], r"coverage must be Double \[6, 5\]"),
        ("coverage_weight", lambda x: x[:, None], r"coverage_weight must be Double \[4\]"),
        ("past", lambda x: x[:3], r"past must be Double \[6, 5\]"),
        ("coverage", lambda _: None, "coverage and coverage_weight go together, but only coverage_weight was given"),
        ("coverage_weight", lambda _: None, "coverage and coverage_weight go together, but only coverage was given"),
        ("score_weight", lambda _: None, "coverage belongs to additive scores, so it needs a score_weight"),
        ("keys", lambda x: x.to("cpu" if x.is_cuda else "meta"), "keys"),
        ("past", lambda x: x.to("cpu" if x.is_cuda else "meta"), "past"),
    ],
)
def test_wrong_arguments_raise_one_sentence(
    device: torch.device, name: str, wrong: Callable[[Tensor], Tensor | None], sentence: str
) -> None:
    case = moved(attention_case(13, 6, shared=2, temporal=True), device, torch.float64)
    with pytest.raises(ValueError, match=sentence) as raised:
        called(copy_attention, {**case, name: wrong(case[name])})
    assert str(raised.value).startswith("copy_attention: ") and str(raised.value).count("\n") == 0


def test_rows_must_be_a_multiple_of_sources(device: torch.device) -> None:
    case = moved(attention_case(14, 6, shared=2, kind="bilinear"), device, torch.float64)
    with pytest.raises(ValueError, match="number of rows, 5, must be a multiple of the number of sources, 3"):
        called(copy_attention, {**case, "query": case["query"][:5]})


def test_its_gradient_has_no_gradient(device: torch.device) -> None:
    query, keys = torch.randn(1, 3, device=device, requires_grad=True), torch.randn(1, 4, 3, device=device)
    mask = torch.ones(1, 4, dtype=torch.bool, device=device)
    context = copy_attention(query, keys, keys, mask, keys[0, 0]).context
    first = torch.autograd.grad(context.sum(), query, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="copy_attention: its gradient has no gradient"):
        first.square().sum().backward()
