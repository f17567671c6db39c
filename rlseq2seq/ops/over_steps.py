"""Gradients of what every step of a loop reads, made together after the last step.

Autograd would make the gradients of the encoder's memory and of a recurrent weight anew at each step and add them up:
of a memory of 13 MB over 40 steps, gigabytes are written and read again. Here a step leaves behind what its share is
made of, and one call makes the sum: the same kernels and products, over the rows of all steps at once.

What the steps leave belongs to one backward pass. So gradients are right for any use of the graph, a second pass over a
retained one among them, but there are none of second order.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlseq2seq.ops.contracts import Attended
from rlseq2seq.ops.packed_linear import pack_weight, packed_linear

_Step = tuple[Tensor | None, ...]
_Passes = dict[int, dict[int, _Step]]


class LinearOverSteps:
    """x_t -> starts_t + W x_t, for the steps t = 0, 1, ... of a loop.

    Args:
        starts: [N, T, O], what does not depend on earlier steps.
        weight: [O, I], W.
    """

    def __init__(self, starts: Tensor, weight: Tensor) -> None:
        self._inputs: list[Tensor] = []
        self._starts = _Starts.apply(self._inputs, starts, weight).unbind(1)  # type: ignore[no-untyped-call]
        self._packed = pack_weight(weight.detach())
        # Now, when the weight is what the steps see.
        self._transposed = pack_weight(weight.detach().T) if torch.is_grad_enabled() else None
        self._zeros = weight.new_zeros(weight.shape[1])

    def __call__(self, inputs: Tensor) -> Tensor:
        """The next step's [N, O] for ``inputs`` [N, I]."""
        start = self._starts[len(self._inputs)]
        weights = self._packed, self._transposed, self._zeros
        outputs: Tensor = _Linear.apply(start, inputs, *weights)  # type: ignore[no-untyped-call]
        # Detached: the graph that keeps the list would otherwise be kept by it.
        self._inputs.append(inputs.detach())
        return outputs


class AttentionOverSteps:
    """`copy_attention` over one memory, for the steps of a loop; arguments as there. A coverage weight is given if and
    only if every step has coverage, and past likewise."""

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        score_weight: Tensor | None,
        coverage_weight: Tensor | None = None,
    ) -> None:
        self._passes: _Passes = {}
        memory = keys, values, mask, score_weight, coverage_weight
        self._anchor = _Memory.apply(self._passes, *memory)  # type: ignore[no-untyped-call]
        self._memory = tuple(None if x is None else x.detach() for x in memory)
        self._count = 0

    def __call__(self, query: Tensor, coverage: Tensor | None = None, past: Tensor | None = None) -> Attended:
        """The next step's attention."""
        self._count += 1
        place = self._passes, self._count, self._memory
        context, attention, new_past = _Attend.apply(self._anchor, place, query, coverage, past)  # type: ignore[no-untyped-call]
        return Attended(context, attention, None if past is None else new_past)


class _Starts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: list[Tensor], starts: Tensor, weight: Tensor) -> Tensor:
        ctx.inputs = inputs
        return starts.view_as(starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = torch.stack(ctx.inputs, 1)
        return None, grad, grad[:, : inputs.shape[1]].flatten(0, 1).T @ inputs.flatten(0, 1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, start: Tensor, inputs: Tensor, packed: Tensor, transposed: Tensor | None, zeros: Tensor
    ) -> Tensor:
        ctx.transposed, ctx.zeros = transposed, zeros
        return packed_linear(inputs, packed, start)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        asked = ctx.needs_input_grad[1]
        return grad, packed_linear(grad, ctx.transposed, ctx.zeros) if asked else None, None, None, None


def _steps_of_this_pass(passes: _Passes) -> dict[int, _Step]:
    """What an earlier pass left, whose sum nobody asked for, is no part of this one's."""
    number = torch._C._current_graph_task_id()
    if number not in passes:
        passes.clear()
        passes[number] = {}
    return passes[number]


class _Memory(torch.autograd.Function):
    """Its result, of no value, goes into every step. So its backward comes after theirs."""

    @staticmethod
    def forward(ctx: Any, passes: _Passes, keys: Tensor, *others: Tensor | None) -> Tensor:
        ctx.passes = passes
        ctx.save_for_backward(keys, *others)
        return keys.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        keys, values, mask, score_weight, coverage_weight = ctx.saved_tensors
        # [N, T] as rows: the steps of a hypothesis share its source as the hypotheses of a source do.
        columns = zip(*_steps_of_this_pass(ctx.passes).values(), strict=True)
        grads_and_query = [None if column[0] is None else torch.stack(column, 1).flatten(0, 1) for column in columns]
        ctx.passes.clear()
        *grads, query, coverage, past, context, attention, new_past = grads_and_query
        memory = keys, values, mask, score_weight, coverage, coverage_weight, past
        needs = ctx.needs_input_grad
        found = torch.ops.rlseq2seq.copy_attention_backward.default(
            *grads, query, *memory, context, attention, new_past, False, needs[1], needs[2]
        )
        _, keys_grad, values_grad, score_grad, _, coverage_weight_grad, _ = found
        by_input = None, keys_grad, values_grad, None, score_grad, coverage_weight_grad
        return tuple(grad if need else None for grad, need in zip(by_input, needs, strict=True))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, place: Any, query: Tensor, coverage: Tensor | None, past: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        _, _, (keys, values, mask, score_weight, coverage_weight) = place
        memory = keys, values, mask, score_weight, coverage, coverage_weight, past
        context, attention, new_past = torch.ops.rlseq2seq.copy_attention.default(query, *memory)
        ctx.place = place
        ctx.save_for_backward(query, coverage, past, context, attention, new_past)
        return context, attention, new_past

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, coverage, past, *results = ctx.saved_tensors
        passes, number, (keys, values, mask, score_weight, coverage_weight) = ctx.place
        memory = keys, values, mask, score_weight, coverage, coverage_weight, past
        found = torch.ops.rlseq2seq.copy_attention_backward.default(
            *grads, query, *memory, *results, True, False, False
        )
        left = *grads, query, coverage, past, *results
        _steps_of_this_pass(passes)[number] = tuple(None if x is None else x.detach() for x in left)
        by_input = grads[0].new_zeros(()), None, found[0], found[4], found[6]
        return tuple(grad if need else None for grad, need in zip(by_input, ctx.needs_input_grad, strict=True))
