"""One decoder step of additive attention beside PyTorch: python -m benchmarks.copy_attention

The peers are the operator's own reference, eager and through `torch.compile`. Gradients are those of everything but the
mask.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks.timing import COMPILED, DEVICE, DTYPES, Row, medians, named, print_rows, ratios
from rlseq2seq.ops import Attended, copy_attention, reference

REPETITIONS = 15
SOURCES, POSITIONS = (64, 400) if DEVICE.type == "cuda" else (32, 200)
SIZES = (256, 512)
# On a GPU the project asks for three times eager of every row.
BARS: dict[str, tuple[float, float | None]] = (
    {"forward": (3.0, None), "forward + backward": (3.0, None)}
    if DEVICE.type == "cuda"
    else {"forward": (8.0, None), "forward + backward": (5.0, 4.0)}
)
Operator = Callable[..., Attended]


def arguments(size: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, keys, values, mask and score weight, none of it padding."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(SOURCES, size), (SOURCES, POSITIONS, size), (SOURCES, POSITIONS, size), (size,)]
    query, keys, values, weight = (
        torch.randn(s, generator=generator).to(DEVICE, dtype).requires_grad_() for s in shapes
    )
    mask = torch.ones(SOURCES, POSITIONS, dtype=torch.bool, device=DEVICE)
    return [query, keys, values, mask, weight]


def forward(operator: Operator, inputs: list[Tensor]) -> None:
    """What greedy decoding does."""
    with torch.no_grad():
        operator(*inputs)


def forward_and_backward(operator: Operator, inputs: list[Tensor]) -> None:
    """What training does."""
    context, attention, _ = operator(*inputs)
    torch.autograd.backward([context, attention], [torch.ones_like(context), torch.ones_like(attention)])
    for tensor in inputs:
        tensor.grad = None


def rows() -> list[Row]:
    table = []
    for size, dtype in product(SIZES, DTYPES):
        torch.compiler.reset()  # lest what was compiled for one size be stretched to another
        compiled = torch.compile(reference.copy_attention, dynamic=False)
        inputs = arguments(size, dtype)
        for name, work in (("forward", forward), ("forward + backward", forward_and_backward)):
            contenders = {
                "ours": partial(work, copy_attention, inputs),
                "eager PyTorch": partial(work, reference.copy_attention, inputs),
                COMPILED: partial(work, compiled, inputs),
            }
            title = named(f"copy_attention, {name}, {SOURCES} sources of {POSITIONS}, size {size}", dtype)
            bars = dict(zip(("eager PyTorch", COMPILED), BARS[name], strict=True))
            table += ratios(title, medians(title, contenders, REPETITIONS), bars)
    return table


if __name__ == "__main__":
    print_rows(rows())
