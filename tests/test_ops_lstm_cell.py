"""The operator lstm_cell: one body for every device there is, against the reference and torch.nn.LSTMCell."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rlseq2seq.ops import lstm_cell, reference

# float64 to the rounding of the C library, float32 to a few units in the last place, bfloat16 to its rounding.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2}
SIZES = st.sampled_from([0, 1, 63, 64, 65, 129, 513])


def dtypes(device: torch.device) -> list[torch.dtype]:
    return list(TOLERANCE) if device.type == "cuda" else [torch.float64, torch.float32]


def case(seed: int, rows: int, size: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    gates = scale * torch.randn(rows, 4 * size, generator=draw, dtype=torch.float64)
    return gates, scale * torch.randn(rows, size, generator=draw, dtype=torch.float64)


@given(seed=st.integers(0, 1000), rows=SIZES, size=SIZES, scale=st.sampled_from([1.0, 10.0, 1000.0]))
def test_values_and_gradients_are_those_of_the_reference(
    device: torch.device, seed: int, rows: int, size: int, scale: float
) -> None:
    weights = torch.randn(2, rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for dtype in dtypes(device):
        inputs = [x.to(device, dtype).requires_grad_() for x in case(seed, rows, size, scale)]
        exact = [x.detach().cpu().double().requires_grad_() for x in inputs]
        found, expected = lstm_cell(*inputs), reference.lstm_cell(*exact)
        near = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype] * scale}
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.cpu().double(), theirs, **near)
        mine = torch.autograd.grad(
            sum((w.to(device, dtype) * x).sum() for w, x in zip(weights, found, strict=True)), inputs
        )
        theirs = torch.autograd.grad(
            sum((w.to(dtype).double() * x).sum() for w, x in zip(weights, expected, strict=True)), exact
        )
        for x, y in zip(mine, theirs, strict=True):
            torch.testing.assert_close(x.cpu().double(), y, **near)


def test_equals_the_cell_of_pytorch(device: torch.device) -> None:
    cell = nn.LSTMCell(5, 7, device=device)
    inputs, hidden, memory = (torch.randn(3, n, device=device) for n in (5, 7, 7))
    gates = inputs @ cell.weight_ih.T + cell.bias_ih + hidden @ cell.weight_hh.T + cell.bias_hh
    for mine, theirs in zip(lstm_cell(gates, memory), cell(inputs, (hidden, memory)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_is_not_hidden(device: torch.device) -> None:
    gates, cell = (x.to(device, torch.float32) for x in case(0, 3, 4))
    gates[0, 0], gates[1, 9], cell[2, 3] = torch.nan, torch.nan, torch.nan
    for output in lstm_cell(gates, cell):
        assert output.isnan().nonzero().tolist() == [[0, 0], [1, 1], [2, 3]]
    hidden, memory = lstm_cell(torch.full((1, 4), torch.inf, device=device), torch.zeros(1, 1, device=device))
    assert memory.item() == 1 and hidden.item() == pytest.approx(0.7615942)


def test_gradients_and_operator_contract(device: torch.device) -> None:
    inputs = [x.to(device).requires_grad_() for x in case(3, 4, 5)]
    assert torch.autograd.gradcheck(lstm_cell, inputs)
    # Either output may go unused.
    assert torch.autograd.gradcheck(lambda gates, cell: lstm_cell(gates, cell).hidden, inputs)
    torch.library.opcheck(torch.ops.rlseq2seq.lstm_cell.default, tuple(inputs))
    hidden, cell = (x.detach() for x in lstm_cell(*inputs))
    arguments = (hidden, cell, *(x.detach() for x in inputs), cell)
    torch.library.opcheck(torch.ops.rlseq2seq.lstm_cell_backward.default, arguments)


def test_its_gradient_has_no_gradient(device: torch.device) -> None:
    gates, cell = (x.to(device).requires_grad_() for x in case(6, 2, 3))
    first = torch.autograd.grad(lstm_cell(gates, cell).hidden.sum(), gates, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="lstm_cell: its gradient has no gradient"):
        first.square().sum().backward()


def test_rows_that_do_not_lie_one_behind_the_other(device: torch.device) -> None:
    gates, cell = (x.to(device) for x in case(4, 6, 8))
    found = lstm_cell(gates.T.contiguous().T[::2], cell[::2])
    for mine, theirs in zip(found, lstm_cell(gates[::2].contiguous(), cell[::2].contiguous()), strict=True):
        assert torch.equal(mine, theirs)


# The other operators are compiled with aot_eager alone: what inductor adds is kernels before and behind them, which may
# take a compiler 15 seconds.
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # inductor's own
def test_compiles_without_a_break(device: torch.device, backend: str) -> None:
    inputs = [x.to(device).requires_grad_() for x in case(5, 3, 8)]

    def total(gates: Tensor, cell: Tensor) -> Tensor:
        return 2 * lstm_cell(3 * gates, cell + 1).hidden.sum()

    compiled = torch.compile(total, fullgraph=True, backend=backend)
    mine, theirs = (torch.autograd.grad(f(*inputs), inputs) for f in (compiled, total))
    for x, y in zip(mine, theirs, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("gates", "cell", "message"),
    [
        (torch.zeros(2, 12), torch.zeros(2, 4), r"gates must be Float \[2, 16\] on cpu, not Float \[2, 12\]"),
        (torch.zeros(2, 16), torch.zeros(3, 4), r"gates must be Float \[3, 16\]"),
        (torch.zeros(2, 16).double(), torch.zeros(2, 4), r"gates must be Float .* not Double"),
        (
            torch.zeros(2, 16, dtype=torch.int64),
            torch.zeros(2, 4, dtype=torch.int64),
            r"cell must be float32 or float64",
        ),
        (torch.zeros(2, 16).half(), torch.zeros(2, 4).half(), r"cell must be float32 or float64"),
        (torch.zeros(2, 16, device="meta"), torch.zeros(2, 4), "gates is on meta but cell on cpu"),
        (torch.zeros(16), torch.zeros(4), r"cell must be float32 or float64, or on CUDA bfloat16, \[rows, size\]"),
    ],
)
def test_wrong_arguments_are_named(gates: Tensor, cell: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lstm_cell(gates, cell)
