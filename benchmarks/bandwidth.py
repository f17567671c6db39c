"""What share of a GPU's memory bandwidth the kernels have that are bound by it: python -m benchmarks.bandwidth

The measure is a copy of 1 GiB on the device, bytes read and written. A kernel's bytes are those counted at its head
(csrc/cuda), each read or written once; what a cache spares beyond that would count as bandwidth, so each call takes
inputs that were last used two calls before. Sizes are such that the device is busy. A ratio is a share, and has to be
0.6; in float32, where a step of decoding multiplies for longer than it reads, none is asked for.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from benchmarks.timing import DEVICE, DTYPES, Row, medians, named, print_rows
from rlseq2seq.ops import Mixture, copy_attention, greedy_step, lstm_cell, pointer_loss, sample_step

COPIED = 1 << 30  # bytes
SETS = 3
SOURCES, POSITIONS, SIZE = 64, 400, 512
CELLS = 16_384
ROWS, VOCABULARY = 64, 50_000
LOSS_ROWS, LOSS_FEATURES = 1280, 8
BAR = 0.6
PEER = "measured bandwidth"
Step = Callable[..., object]


def normal(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, device=DEVICE).to(dtype)


def in_turn(step: Step, sets: Sequence[Sequence[Tensor]]) -> Callable[[], object]:
    """The step on one set of inputs after another."""
    turns = cycle(sets)
    return lambda: step(*next(turns))


def backward(operator: Step, *tensors: Tensor, outputs: int) -> None:
    """Forward, and backward from gradients that are given, which come last."""
    *inputs, first, second = tensors
    results = operator(*inputs)[:outputs]  # type: ignore[index]
    torch.autograd.backward(results, [first, second])
    for tensor in inputs:
        tensor.grad = None


def share(work: str, moved: int, step: Step, sets: Sequence[Sequence[Tensor]], bar: float | None = BAR) -> Row:
    """``moved`` bytes a step, beside what a copy moves in the same time."""
    source, target = (torch.empty(COPIED, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    times = medians(work, {"ours": in_turn(step, sets), "copy": partial(target.copy_, source)})
    ratio = (moved / times["ours"]) / (2 * COPIED / times["copy"])
    speed = 2e-12 * COPIED / times["copy"]
    print(f"{work}: {1e6 * times['ours']:.1f} us for {1e-6 * moved:.0f} MB; a copy moves {speed:.2f} TB/s", flush=True)
    return Row(work=work, peer=PEER, ratio=ratio, bar=bar)


def attention(dtype: torch.dtype) -> list[Row]:
    def arguments(gradients: bool) -> list[Tensor]:
        shapes = [(SOURCES, SIZE), (SOURCES, POSITIONS, SIZE), (SOURCES, POSITIONS, SIZE), (SIZE,)]
        query, keys, values, weight = (normal(*s, dtype=dtype).requires_grad_(gradients) for s in shapes)
        mask = torch.ones(SOURCES, POSITIONS, dtype=torch.bool, device=DEVICE)
        inputs = [query, keys, values, mask, weight]
        return inputs + [torch.ones_like(x) for x in copy_attention(*inputs)[:2]] * gradients

    once = SOURCES * POSITIONS * SIZE * dtype.itemsize
    shape = f"{SOURCES} sources of {POSITIONS}, size {SIZE}"
    sets = [arguments(False) for _ in range(SETS)], [arguments(True) for _ in range(SETS)]
    both = partial(backward, copy_attention, outputs=2)
    return [
        share(named(f"copy_attention, forward, {shape}", dtype), 2 * once, copy_attention, sets[0]),
        share(named(f"copy_attention, forward + backward, {shape}", dtype), 6 * once, both, sets[1]),
    ]


def cell(dtype: torch.dtype) -> list[Row]:
    def arguments(gradients: bool) -> list[Tensor]:
        shapes = (CELLS, 4 * SIZE), (CELLS, SIZE)
        inputs = [normal(*s, dtype=dtype).requires_grad_(gradients) for s in shapes]
        return inputs + [torch.ones_like(inputs[1])] * 2 * gradients

    once = CELLS * SIZE * dtype.itemsize
    shape = f"{CELLS} rows of {SIZE}"
    sets = [arguments(False) for _ in range(SETS)], [arguments(True) for _ in range(SETS)]
    both = partial(backward, lstm_cell, outputs=2)
    return [
        share(named(f"lstm_cell, forward, {shape}", dtype), 7 * once, lstm_cell, sets[0]),
        share(named(f"lstm_cell, forward + backward, {shape}", dtype), 20 * once, both, sets[1]),
    ]


def mixture(rows: int, features: int, dtype: torch.dtype) -> Mixture:
    return Mixture(
        features=normal(rows, features, dtype=dtype),
        weight=normal(VOCABULARY, features, dtype=dtype) / features**0.5,
        bias=normal(VOCABULARY, dtype=dtype),
        gate_logits=normal(rows, dtype=dtype),
        attention=torch.rand(rows, POSITIONS, device=DEVICE).softmax(-1).to(dtype),
        source_ids=torch.randint(4, VOCABULARY, (rows, POSITIONS), device=DEVICE),
    )


def steps(dtype: torch.dtype) -> list[Row]:
    """The output weights, of which every step reads all; logits stay in the second-level cache."""
    sets = [[*mixture(ROWS, SIZE, dtype)] for _ in range(SETS)]
    noise = torch.rand(ROWS, device=DEVICE)
    moved = VOCABULARY * (SIZE + 1) * dtype.itemsize + ROWS * POSITIONS * (dtype.itemsize + 8)
    shape = f"{ROWS} rows, V {VOCABULARY}, F {SIZE}, S {POSITIONS}"
    bar = BAR if dtype == torch.bfloat16 else None
    return [
        share(named(f"greedy step, {shape}", dtype), moved, lambda *x: greedy_step(Mixture(*x)), sets, bar),
        share(named(f"sampling step, {shape}", dtype), moved, lambda *x: sample_step(Mixture(*x), noise), sets, bar),
    ]


def loss(dtype: torch.dtype) -> list[Row]:
    """The pass over the logits, with so few features that the product is little more than their writing."""
    targets = torch.randint(4, VOCABULARY, (LOSS_ROWS,), device=DEVICE)
    sets = [[*mixture(LOSS_ROWS, LOSS_FEATURES, dtype)] for _ in range(SETS)]
    work = named(f"pointer_loss, forward, {LOSS_ROWS} rows, V {VOCABULARY}, F {LOSS_FEATURES}", dtype)
    moved = 2 * LOSS_ROWS * VOCABULARY * dtype.itemsize
    return [share(work, moved, lambda *x: pointer_loss(Mixture(*x), targets), sets, None)]


def rows() -> list[Row]:
    torch.manual_seed(0)
    table = []
    for dtype in DTYPES:
        table += [*attention(dtype), *cell(dtype)]
        with torch.no_grad():
            table += [*steps(dtype), *loss(dtype)]
    return table


if __name__ == "__main__":
    print_rows(rows() if DEVICE.type == "cuda" else sys.exit("This measures a GPU's memory, and torch sees no GPU."))
