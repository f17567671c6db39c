"""Products by packed weights: one body for every device there is, against the plain product."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_cases import Sizes, make_mixture
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rlseq2seq import ops
from rlseq2seq.ops import LinearOverSteps, Mixture, SearchRules, constant_weights, linear, reference, start_beams
from rlseq2seq.ops.packed_linear import pack_weight, packed_linear

# Of sums of 513 products of numbers of about 1.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-4, torch.bfloat16: 0.5}
SIZES = st.sampled_from([0, 1, 15, 16, 47, 48, 49, 63, 64, 65, 129, 513])
ROWS = st.sampled_from([0, 1, 2, 7, 8, 9, 31, 32, 65, 129])


def dtypes(device: torch.device) -> list[torch.dtype]:
    return list(TOLERANCE) if device.type == "cuda" else [torch.float64, torch.float32]


def case(seed: int, rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x, weight, start = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((rows, inputs), (outputs, inputs), (rows, outputs))
    )
    return x, weight, start


@given(seed=st.integers(0, 1000), rows=ROWS, inputs=SIZES, outputs=SIZES, shared=st.booleans(), turned=st.booleans())
def test_values_are_those_of_the_reference(
    device: torch.device, seed: int, rows: int, inputs: int, outputs: int, shared: bool, turned: bool
) -> None:
    x, weight, start = case(seed, rows, inputs, outputs)
    start = torch.arange(float(outputs), dtype=torch.float64) if shared else start
    for dtype in dtypes(device):
        mine, by, after = (tensor.to(device, dtype) for tensor in (x, weight, start))
        packed = pack_weight(by.T.contiguous().T if turned else by)
        found = packed_linear(mine, packed, after)
        assert found.dtype == dtype
        expected = reference.linear(mine.double(), by.double(), after.double())
        torch.testing.assert_close(found.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(seed=st.integers(0, 1000), rows=st.integers(1, 70))
def test_a_row_does_not_depend_on_the_others(seed: int, rows: int) -> None:
    x, weight, start = (tensor.float() for tensor in case(seed, rows, 130, 100))
    packed = pack_weight(weight)
    together = packed_linear(x, packed, start)
    alone = [packed_linear(x[n : n + 1], packed, start[n : n + 1]) for n in range(rows)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_that_do_not_lie_one_behind_the_other(device: torch.device, dtype: torch.dtype) -> None:
    x, weight, start = (tensor.to(device, dtype) for tensor in case(4, 12, 20, 50))
    packed = pack_weight(weight)
    found = packed_linear(x[::2], packed, start.T.contiguous().T[::2])
    # A library may multiply those that lie otherwise in another order.
    tolerance = 0.0 if device.type == "cpu" and dtype == torch.float32 else 1e-5
    near = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(found, packed_linear(x[::2].contiguous(), packed, start[::2].contiguous()), **near)
    expanded = packed_linear(x, packed, start[0].expand(12, -1))
    torch.testing.assert_close(packed_linear(x, packed, start[0]), expanded, **near)
    apart = [torch.stack([tensor, tensor + 1], -1)[..., 0] for tensor in (x, packed, start)]
    torch.testing.assert_close(packed_linear(*apart), packed_linear(x, packed, start), **near)
    strided = torch.zeros(50, 40, dtype=dtype, device=device)[:, ::2].copy_(weight)
    assert torch.equal(pack_weight(strided), packed)


def test_what_is_not_finite_stays_in_its_row_and_column(device: torch.device) -> None:
    x, weight, start = (tensor.to(device, torch.float32) for tensor in case(5, 9, 20, 50))
    x[3, 7], weight[49, 2] = torch.nan, torch.inf
    found = packed_linear(x, pack_weight(weight), start)
    expected = torch.zeros(9, 50, dtype=torch.bool, device=device)
    expected[3], expected[:, 49] = True, True
    assert torch.equal(~found.isfinite(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operator_contract(device: torch.device, dtype: torch.dtype) -> None:
    x, weight, start = (tensor.to(device, dtype) for tensor in case(6, 5, 17, 50))
    for matrix in (weight, weight.T):
        torch.library.opcheck(torch.ops.rlseq2seq.pack_weight.default, (matrix,))
    packed = pack_weight(weight)
    for after in (start, start[0]):
        torch.library.opcheck(torch.ops.rlseq2seq.packed_linear.default, (x, packed, after))
    compiled = torch.compile(
        lambda *a: packed_linear(a[0], pack_weight(a[1]), a[2]), fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(x, weight, start), packed_linear(x, packed, start))


def test_a_gradient_is_refused(device: torch.device) -> None:
    x, weight, start = (tensor.to(device).requires_grad_() for tensor in case(7, 2, 3, 4))
    with pytest.raises(RuntimeError, match="no gradient flows through a packed weight"):
        packed_linear(x, pack_weight(weight.detach()), start).sum().backward()
    with pytest.raises(RuntimeError, match="no gradient flows through a packed weight"):
        pack_weight(weight).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_a_loop(device: torch.device, dtype: torch.dtype) -> None:
    x, weight, start = (tensor.to(device, dtype).requires_grad_() for tensor in case(8, 33, 65, 130))
    starts = start[:, None]
    mine = LinearOverSteps(starts, weight)(x)
    theirs = reference.linear(x, weight, start)
    near = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(mine, theirs, **near)
    along = torch.linspace(-1, 1, mine.numel(), device=device, dtype=dtype).view_as(mine)
    for found, expected in zip(
        torch.autograd.grad((mine * along).sum(), (x, weight, start)),
        torch.autograd.grad((theirs * along).sum(), (x, weight, start)),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, **near)


def test_gradcheck_of_a_loop(device: torch.device) -> None:
    x, weight, start = (tensor.to(device).requires_grad_() for tensor in case(9, 3, 4, 5))
    assert torch.autograd.gradcheck(lambda *a: LinearOverSteps(a[2][:, None], a[1])(a[0]), (x, weight, start))


def test_a_weight_that_changes_after_the_step_changes_no_gradient(device: torch.device) -> None:
    x, weight, start = (tensor.to(device, torch.float32) for tensor in case(10, 3, 4, 5))
    x.requires_grad_()
    before = weight.clone()
    found = LinearOverSteps(start[:, None], weight)(x)
    weight.zero_()
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], before.sum(0).expand(3, -1))


def test_weights_are_packed_once_where_they_are_constant_and_never_kept(device: torch.device) -> None:
    x, weight, start = (tensor.to(device, torch.float32) for tensor in case(11, 3, 4, 5))
    expected = reference.linear(x, weight, start)
    with constant_weights(), torch.profiler.profile() as profiled:
        for _ in range(3):
            torch.testing.assert_close(linear(x, weight, start), expected, rtol=1e-5, atol=1e-5)
    counts = {event.key: event.count for event in profiled.key_averages()}
    expected_counts = (1, 3) if device.type == "cpu" else (0, 0)
    assert (counts.get("rlseq2seq::pack_weight", 0), counts.get("rlseq2seq::packed_linear", 0)) == expected_counts
    weight.mul_(2)
    with constant_weights():
        torch.testing.assert_close(linear(x, weight, start[0]), reference.linear(x, weight, start[0]))
    weight.mul_(2)
    torch.testing.assert_close(linear(x, weight, start), reference.linear(x, weight, start))


def test_without_a_start_it_is_0(device: torch.device) -> None:
    x, weight, start = (tensor.to(device, torch.float32) for tensor in case(12, 3, 4, 5))
    expected = reference.linear(x, weight, torch.zeros_like(start))
    torch.testing.assert_close(linear(x, weight), expected)
    with constant_weights():
        torch.testing.assert_close(linear(x, weight), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", ["greedy_step", "sample_step", "beam_step"])
def test_search_steps_take_a_packed_weight(device: torch.device, step: str) -> None:
    drawn = make_mixture(0, Sizes(2, 4, 130, 9, 4), dtype=torch.float32)
    mixture = Mixture(*(x if x is None else x.to(device) for x in drawn))
    further = {
        "greedy_step": (),
        "sample_step": (torch.linspace(0, 0.99, 8, device=device),),
        "beam_step": (start_beams(2, 4, 5, like=mixture.features), 0, SearchRules(length_penalty=1.0)),
    }
    plain = getattr(ops, step)(mixture, *further[step])
    with constant_weights():
        packed = getattr(ops, step)(mixture, *further[step])
    for mine, theirs in zip(tree_leaves(packed), tree_leaves(plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_packed_weight_that_is_not_the_output_layer_is_named() -> None:
    single, double = (make_mixture(0, Sizes(2, 1, 49, 7, 4), dtype=dtype) for dtype in (torch.float32, torch.float64))
    with pytest.raises(ValueError, match=r"packed must be Float \[2, 5, 48\] on cpu, not Float \[1, 5, 48\]"):
        torch.ops.rlseq2seq.greedy_step.default(*single, torch.zeros(1, 5, 48))
    with pytest.raises(ValueError, match="greedy_step: a packed weight is for float32 on the CPU"):
        torch.ops.rlseq2seq.greedy_step.default(*double, torch.zeros(2, 5, 48))


ONE = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("inputs", "packed", "start", "message"),
    [
        (
            ONE,
            torch.zeros(1, 4, 48),
            torch.zeros(5),
            r"packed must be Float \[1, 3, 48\] on cpu, not Float \[1, 4",
        ),
        (ONE, torch.zeros(1, 3, 48), torch.zeros(49), r"packed must be Float \[2, 3, 48\]"),
        (ONE, torch.zeros(1, 3, 48), torch.zeros(3, 5), r"start must be Float \[2, \*\]"),
        (ONE, torch.zeros(1, 3, 48), torch.zeros(5).double(), r"start must be Float .* not Double"),
        (ONE, torch.zeros(3, 48), torch.zeros(5), r"packed must be Float \[1, 3, 48\]"),
        (ONE.long(), torch.zeros(1, 3, 48), torch.zeros(5), r"inputs must be float32 or float64"),
        (torch.zeros(3), torch.zeros(1, 3, 48), torch.zeros(5), r"inputs must be float32 or float64.*\[rows, inputs\]"),
        (ONE.double(), torch.zeros(1, 3, 5), torch.zeros(5).double(), r"packed must be Double \[1, 3, 5\]"),
        (ONE, torch.zeros(1, 3, 48), torch.zeros(5, device="meta"), "start is on meta but inputs on cpu"),
        (ONE, torch.zeros(1, 3, 48), torch.zeros(()), r"start must be Float \[2, \*\]"),
    ],
)
def test_wrong_arguments_are_named(inputs: Tensor, packed: Tensor, start: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        packed_linear(inputs, packed, start)


@pytest.mark.parametrize("weight", [torch.zeros(3), torch.zeros(3, 3).long(), torch.zeros(3, 3).half()])
def test_a_wrong_weight_is_named(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="pack_weight: weight must be float32 or float64"):
        pack_weight(weight)
