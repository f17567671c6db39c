"""One decoder step of attention over encoder states, or over past decoder states."""

from typing import Any, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.contracts import Attended
from rlseq2seq.ops.devices import check_devices

extension.load()

_Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def copy_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    score_weight: Tensor | None,
    coverage: Tensor | None = None,
    coverage_weight: Tensor | None = None,
    past: Tensor | None = None,
) -> Attended:
    """Attention of N decoder states over the S positions of B sources, from which row n has source n // (N // B).

    Additive scores e_i = v . tanh(k_i + q + c_i w_c) (Bahdanau et al. 2015, arXiv:1409.0473; See et al. 2017,
    arXiv:1704.04368, Eq. 1 and 11), where ``k_i = W_h h_i`` and ``q = W_s s + b`` are projected outside; or, without a
    ``score_weight``, bilinear ones e_i = q . k_i (Paulus et al. 2018, arXiv:1705.04304, Eq. 2), where ``q = W s``.
    Then attention a = softmax(e) over tokens and context = sum of a_i values_i.

    With ``past``, attention is normalised over time (1705.04304, Eq. 3 and 4), in log space: ``past`` is the
    log-sum-exp of a position's earlier energies, attention = softmax(e - past), and the new past is
    logaddexp(past, e). Nothing overflows, and gradients flow through it into earlier steps.

    Intra-decoder attention (1705.04304, Eq. 6 to 8) is the same operator with the decoder states before this one as
    keys and values and a mask of those that there are. Keys and values may be the first S positions of a longer
    buffer (``states[:, :t]``): they are not copied.

    Args:
        query: [N, A], float32 or float64, on CUDA also bfloat16; keys, values and the weights have the same type.
        keys: [B, S, A].
        values: [B, S, C], what is averaged.
        mask: [B, S] bool, true at tokens. What keys and values hold elsewhere is not read. A row without any token
            gives attention and context 0.
        score_weight: [A], v; None for bilinear scores.
        coverage: [N, S], the sum of earlier attention, or None; for additive scores only. Like attention and past, it
            is float32 where the query is bfloat16: a sum over many steps would stop growing.
        coverage_weight: [A], w_c; together with ``coverage``.
        past: [N, S], -inf where there are no earlier energies, as at the first step; or None.

    Returns:
        ``context`` [N, C], ``attention`` [N, S] and the new ``past`` [N, S], None if there was none. Padding keeps
        its past.

    Raises:
        ValueError: for wrong types, shapes or devices, coverage without its weight, or with bilinear scores.
    """
    result = torch.ops.rlseq2seq.copy_attention.default(
        query, keys, values, mask, score_weight, coverage, coverage_weight, past
    )
    context, attention, new_past = cast("tuple[Tensor, Tensor, Tensor]", result)
    return Attended(context, attention, None if past is None else new_past)


def _fake(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    score_weight: Tensor | None,
    coverage: Tensor | None,
    coverage_weight: Tensor | None,
    past: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    check_devices(
        "copy_attention",
        query=query,
        keys=keys,
        values=values,
        mask=mask,
        score_weight=score_weight,
        coverage=coverage,
        coverage_weight=coverage_weight,
        past=past,
    )
    attention = query.new_empty((query.shape[0], keys.shape[1]), dtype=_weight_type(query))
    new_past = attention.new_empty(0 if past is None else past.shape)
    return query.new_empty((query.shape[0], values.shape[2])), attention, new_past


def _fake_backward(
    grad_context: Tensor,
    grad_attention: Tensor,
    grad_past: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    score_weight: Tensor | None,
    coverage: Tensor | None,
    coverage_weight: Tensor | None,
    past: Tensor | None,
    context: Tensor,
    attention: Tensor,
    new_past: Tensor,
    wants_rows: bool,
    wants_keys: bool,
    wants_values: bool,
) -> _Gradients:
    def like(tensor: Tensor | None) -> Tensor:
        return query.new_empty(0) if tensor is None else query.new_empty(tensor.shape)

    def weights_like(tensor: Tensor | None) -> Tensor:
        return query.new_empty(0 if tensor is None else tensor.shape, dtype=_weight_type(query))

    return (
        like(query if wants_rows else None),
        like(keys if wants_keys else None),
        like(values if wants_values else None),
        like(score_weight),
        weights_like(coverage if wants_rows else None),
        like(coverage_weight),
        weights_like(past if wants_rows else None),
    )


def _weight_type(query: Tensor) -> torch.dtype:
    return torch.float32 if query.dtype == torch.bfloat16 else query.dtype


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    # Those of rows, which are small beside keys and values, are made whether or not all of them are asked for.
    wants = any(needs[i] for i in (0, 5, 7)), needs[1], needs[2]
    found = torch.ops.rlseq2seq.copy_attention_backward.default(*grads, *ctx.saved_tensors, *wants)
    query, keys, values, score_weight, coverage, coverage_weight, past = found
    by_input = (query, keys, values, None, score_weight, coverage, coverage_weight, past)
    return tuple(grad if need else None for grad, need in zip(by_input, needs, strict=True))


def _second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("copy_attention: its gradient has no gradient.")


torch.library.register_fake("rlseq2seq::copy_attention", _fake)
torch.library.register_fake("rlseq2seq::copy_attention_backward", _fake_backward)
torch.library.register_autograd("rlseq2seq::copy_attention", _backward, setup_context=_save)
torch.library.register_autograd("rlseq2seq::copy_attention_backward", _second_backward)
