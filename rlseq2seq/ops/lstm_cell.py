"""One step of an LSTM, after its gates' matrix product."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.devices import check_devices

extension.load()


class LstmState(NamedTuple):
    """``hidden`` and ``cell``, each [N, D]."""

    hidden: Tensor
    cell: Tensor


def lstm_cell(gates: Tensor, cell: Tensor) -> LstmState:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c') (Hochreiter and Schmidhuber 1997; Gers 2000).

    Args:
        gates: [N, 4D], (i, f, g, o) before their nonlinearities, in the order of `torch.nn.LSTM`.
        cell: [N, D], c.

    Raises:
        ValueError: for wrong types, shapes or devices.
    """
    return LstmState(*cast("tuple[Tensor, Tensor]", torch.ops.rlseq2seq.lstm_cell.default(gates, cell)))


def _fake(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    check_devices("lstm_cell", cell=cell, gates=gates)
    return torch.empty(cell.shape, dtype=cell.dtype, device=cell.device), torch.empty(
        cell.shape, dtype=cell.dtype, device=cell.device
    )


def _fake_backward(
    grad_hidden: Tensor, grad_cell: Tensor, gates: Tensor, cell: Tensor, new_cell: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty(gates.shape, dtype=gates.dtype, device=gates.device), torch.empty(
        cell.shape, dtype=cell.dtype, device=cell.device
    )


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, grad_hidden: Tensor, grad_cell: Tensor) -> tuple[Tensor, Tensor]:
    gates, cell, new_cell = ctx.saved_tensors
    return cast(
        "tuple[Tensor, Tensor]",
        torch.ops.rlseq2seq.lstm_cell_backward.default(grad_hidden, grad_cell, gates, cell, new_cell),
    )


def _second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("lstm_cell: its gradient has no gradient.")


torch.library.register_fake("rlseq2seq::lstm_cell", _fake)
torch.library.register_fake("rlseq2seq::lstm_cell_backward", _fake_backward)
torch.library.register_autograd("rlseq2seq::lstm_cell", _backward, setup_context=_save)
torch.library.register_autograd("rlseq2seq::lstm_cell_backward", _second_backward)
