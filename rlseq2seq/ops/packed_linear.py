"""Matrix products with few rows, by weights that many steps of a loop share."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from rlseq2seq.ops import extension
from rlseq2seq.ops.devices import check_devices

extension.load()

# Outputs that lie side by side in memory on the CPU (csrc/cpu/panels.h).
_PANEL = 48

# Weights by their identity, each with itself, so that it lives as long as its packed form.
_packed: ContextVar[dict[int, tuple[Tensor, Tensor]] | None] = ContextVar("packed", default=None)


@contextmanager
def constant_weights() -> Iterator[None]:
    """Within this, weights do not change, so `linear` packs each of them once. It gives no gradients then."""
    token = _packed.set({})
    try:
        yield
    finally:
        _packed.reset(token)


def linear(inputs: Tensor, weight: Tensor, start: Tensor | None = None) -> Tensor:
    """start + W x for each row x of ``inputs`` [N, I]: [N, O].

    Args:
        weight: [O, I], W.
        start: [O] or [N, O]; None for 0.
    """
    packed = packed_here(weight)
    if packed is not None:
        return packed_linear(inputs, packed, weight.new_zeros(len(weight)) if start is None else start)
    if start is None or start.dim() == 1:
        return functional.linear(inputs, weight, start)
    return torch.addmm(start, inputs, weight.T)


def packed_here(weight: Tensor) -> Tensor | None:
    """``weight`` packed, where weights are constant and packing them pays: on the CPU in float32. Otherwise None."""
    if torch.compiler.is_compiling():  # which cannot see what the context says
        return None
    packs = _packed.get()
    if packs is None or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    if id(weight) not in packs:
        packs[id(weight)] = weight, pack_weight(weight.detach())
    return packs[id(weight)][1]


def pack_weight(weight: Tensor) -> Tensor:
    """A copy of ``weight`` [O, I] (any strides) as `packed_linear` reads it on its device: [panels, I, outputs of a
    panel], the last panel filled up with 0.

    Raises:
        ValueError: unless it is float32, float64 or, on CUDA, bfloat16.
    """
    return cast(Tensor, torch.ops.rlseq2seq.pack_weight.default(weight))


def packed_linear(inputs: Tensor, packed: Tensor, start: Tensor) -> Tensor:
    """start + W x for each row x of ``inputs`` [N, I]: [N, O]. It has no gradient: `LinearOverSteps` gives one.

    On the CPU in float32 the numbers of a row do not depend on the other rows.

    Args:
        packed: of ``weight`` [O, I], by `pack_weight`.
        start: [O] or [N, O].

    Raises:
        ValueError: for wrong types, shapes or devices.
    """
    return cast(Tensor, torch.ops.rlseq2seq.packed_linear.default(inputs, packed, start))


def _fake_pack(weight: Tensor) -> Tensor:
    outputs, inputs = weight.shape
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return weight.new_empty((outputs + _PANEL - 1) // _PANEL, inputs, _PANEL)
    return weight.new_empty(1, inputs, outputs)


def _fake(inputs: Tensor, packed: Tensor, start: Tensor) -> Tensor:
    check_devices("packed_linear", inputs=inputs, packed=packed, start=start)
    return inputs.new_empty(inputs.shape[0], start.shape[-1])


def _no_gradient(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("packed_linear: no gradient flows through a packed weight; LinearOverSteps has one.")


for _name, _kernel in (("pack_weight", _fake_pack), ("packed_linear", _fake)):
    torch.library.register_fake(f"rlseq2seq::{_name}", _kernel)
    torch.library.register_autograd(f"rlseq2seq::{_name}", _no_gradient)
