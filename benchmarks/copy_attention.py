"""One decoder step of additive attention beside PyTorch: python -m benchmarks.copy_attention

The peers are the operator's own reference, eager and through `torch.compile`. Gradients are those of everything but the
mask. Beside them, on the CPU, is what PyTorch takes to move the same bytes, which is a limit and no peer; for a GPU
there is benchmarks/bandwidth.py.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from benchmarks.timing import COMPILED, DEVICE, DTYPES, Row, keep_freed_memory, medians, named, print_rows, ratios
from rlseq2seq.ops import Attended, copy_attention, reference

REPETITIONS = 15
SOURCES, POSITIONS = (64, 400) if DEVICE.type == "cuda" else (32, 200)
SIZES = (256, 512)
EAGER, MEMORY = "eager PyTorch", "the same bytes moved by PyTorch"
# On a GPU the project asks for three times eager of every row.
BARS: dict[str, dict[str, float | None]] = (
    {work: {EAGER: 3.0, COMPILED: None} for work in ("forward", "forward + backward")}
    if DEVICE.type == "cuda"
    else {
        "forward": {EAGER: 8.0, COMPILED: None, MEMORY: None},
        "forward + backward": {EAGER: 5.0, COMPILED: 4.0, MEMORY: None},
    }
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


def bytes_moved(inputs: list[Tensor], gradients: bool) -> Callable[[], None]:
    """Sums of keys and values, and, as for ``gradients`` as much is read again and written, copies of them."""
    sources = [tensor.detach() for tensor in inputs[1:3]]
    copies = [(torch.empty_like(source), source) for source in sources if gradients]

    def move() -> None:
        for source in sources:
            source.sum()
        for copy, source in copies:
            copy.copy_(source)

    return move


def rows() -> list[Row]:
    keep_freed_memory()  # gradients of keys and values take 26 MB
    table = []
    for size, dtype in product(SIZES, DTYPES):
        torch.compiler.reset()  # lest what was compiled for one size be stretched to another
        compiled = torch.compile(reference.copy_attention, dynamic=False)
        inputs = arguments(size, dtype)
        for name, work in (("forward", forward), ("forward + backward", forward_and_backward)):
            contenders = {
                "ours": partial(work, copy_attention, inputs),
                EAGER: partial(work, reference.copy_attention, inputs),
                COMPILED: partial(work, compiled, inputs),
            }
            if MEMORY in BARS[name]:
                contenders[MEMORY] = bytes_moved(inputs, gradients=work is forward_and_backward)
            title = named(f"copy_attention, {name}, {SOURCES} sources of {POSITIONS}, size {size}", dtype)
            table += ratios(title, medians(title, contenders, REPETITIONS), BARS[name])
    return table


if __name__ == "__main__":
    print_rows(rows())
