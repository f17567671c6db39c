"""The LSTM cell beside PyTorch: python -m benchmarks.lstm_cell

A step of a decoder's batch, which is as long as its launches, and as many rows as memory is busy with.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks.timing import COMPILED, DEVICE, DTYPES, Row, medians, named, print_rows, ratios
from rlseq2seq.ops import lstm_cell, reference

SIZE = 512
ROWS = (64, 16_384) if DEVICE.type == "cuda" else (32,)
BAR = 3.0 if DEVICE.type == "cuda" else None
Cell = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def arguments(rows: int, dtype: torch.dtype) -> list[Tensor]:
    """Gates [N, 4D] and cell [N, D]."""
    draw = torch.Generator().manual_seed(0)
    shapes = (rows, 4 * SIZE), (rows, SIZE)
    return [torch.randn(shape, generator=draw).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def forward(cell: Cell, inputs: list[Tensor]) -> None:
    with torch.no_grad():
        cell(*inputs)


def forward_and_backward(cell: Cell, inputs: list[Tensor]) -> None:
    outputs = cell(*inputs)
    torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    for tensor in inputs:
        tensor.grad = None


def rows() -> list[Row]:
    table = []
    for count, dtype in product(ROWS, DTYPES):
        torch.compiler.reset()
        compiled = torch.compile(reference.lstm_cell, dynamic=False)
        inputs = arguments(count, dtype)
        for name, work in (("forward", forward), ("forward + backward", forward_and_backward)):
            title = named(f"lstm_cell, {name}, {count} rows of {SIZE}", dtype)
            cells = {"ours": lstm_cell, "eager PyTorch": reference.lstm_cell, COMPILED: compiled}
            times = medians(title, {peer: partial(work, cell, inputs) for peer, cell in cells.items()})
            table += ratios(title, times, {"eager PyTorch": BAR, COMPILED: None})
    return table


if __name__ == "__main__":
    print_rows(rows())
