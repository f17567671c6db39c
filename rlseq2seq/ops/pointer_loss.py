"""Log-probabilities of targets in the mixture of generating and copying, without building the distribution."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.contracts import Mixture, WeightedLoss
from rlseq2seq.ops.devices import check_devices

extension.load()

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
# What log-probabilities, entropies and means of the log-softmax weigh; None for what is not asked for.
Weighing = tuple[Tensor, Tensor | None, Tensor | None]


def pointer_loss(mixture: Mixture, targets: Tensor) -> Tensor:
    """Log-probabilities of ``targets`` [N] (int64, extended ids allowed), in log space and finite.

    log p(y) = log(g softmax(W f + b)_y + (1 - g) sum over {i: x_i = y} of a_i) (See et al. 2017, arXiv:1704.04368,
    Eq. 9). Attention that underflows counts as the smallest normal number where a target can only be copied. A model
    that cannot copy scores an extended target as the unknown token.

    Neither the extended distribution nor all logits ever exist: memory beyond results and gradients is 12 to 20 MiB
    of logits on the CPU and 256 MiB on CUDA, however many rows and tokens there are. Backward makes the logits anew,
    so a step takes four matrix products; ``weighted_pointer_loss`` takes three.

    Args:
        mixture: float32, or float64, or on CUDA bfloat16 (products in bfloat16, softmax and sums in float32).
        targets: [N], 0 or above (on CUDA a negative one is a token that is nowhere).

    Returns:
        [N] in the type of the mixture, float32 for bfloat16. All tensors of the mixture but the ids get gradients.

    Raises:
        ValueError: for wrong types, shapes or devices, and on the CPU for a negative target.
    """
    return cast(Tensor, torch.ops.rlseq2seq.pointer_loss.default(*mixture, targets))


def weighted_pointer_loss(
    mixture: Mixture,
    targets: Tensor,
    weights: Tensor,
    entropy_weights: Tensor | None = None,
    smoothing_weights: Tensor | None = None,
) -> WeightedLoss:
    """The sum over N rows of ``weights`` * log p(target) + ``entropy_weights`` * H + ``smoothing_weights`` * U, for
    weights known beforehand.

    H = - sum of p(y) log p(y) over the extended vocabulary, that of copying included: the entropy bonus of policy
    gradients (Williams and Peng 1991; Mnih et al. 2016, arXiv:1602.01783). It costs a second exponential a logit and
    the look-up of the source's tokens, but no product, and no memory beyond, on CUDA, two numbers a position of the
    rows in hand. A token whose attention underflows counts as not copied.

    U = mean over the vocabulary of log softmax(W f + b)_v = mean of the logits - their log-sum-exp, of the words that
    can be generated alone: minus the cross-entropy of label smoothing's uniform distribution (Szegedy et al. 2016,
    arXiv:1512.00567, section 7). It costs an addition a logit.

    Without entropy and U the same as summing ``pointer_loss``, in less time: gradients are made while the logits are
    there, so that a step takes three matrix products and backward only scales what forward made. It keeps the
    gradients from forward to backward, and makes none where none are asked for.

    Args:
        mixture: as of ``pointer_loss``.
        targets: as of ``pointer_loss``.
        weights: [N], in the type of the log-probabilities: 1 / N for maximum likelihood, advantages for a policy
            gradient. They may have a gradient too.
        entropy_weights: [N], likewise; None for no entropy.
        smoothing_weights: [N], likewise; None for no smoothing.

    Returns:
        The total, which has gradients, and the log-probabilities and entropies (in nats), which have none.

    Raises:
        ValueError: as ``pointer_loss``; for weights of another type, shape or device; and with entropy on the CPU for
            a negative source id.
    """
    weighing = (weights, entropy_weights, smoothing_weights)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (*weighing, *mixture)):
        total, log_probs, entropy = _Weighted.apply(*weighing, *mixture, targets)  # type: ignore[no-untyped-call]
    else:
        log_probs, entropy, smoothed = _gradients(weighing, (*mixture, targets), [False] * 5)[:3]
        total = _total(weighing, (log_probs, entropy, smoothed))
    return WeightedLoss(total, log_probs, None if entropy_weights is None else entropy)


def _total(weighing: Weighing, results: Sequence[Tensor]) -> Tensor:
    total, *more = (torch.dot(w, x) for w, x in zip(weighing, results, strict=True) if w is not None)
    return sum(more, total)


def _gradients(weighing: Weighing, inputs: tuple[Tensor | None, ...], needs: list[bool]) -> Gradients:
    return cast(Gradients, torch.ops.rlseq2seq.pointer_loss_backward.default(*weighing, *inputs, needs))


class _Weighted(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, entropy_weights: Tensor | None, smoothing_weights: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        weighing = (weights, entropy_weights, smoothing_weights)
        ctx.needs = _needs(ctx.needs_input_grad[3:], inputs[3])
        log_probs, entropy, smoothed, *ctx.made = _gradients(weighing, inputs, ctx.needs)
        ctx.save_for_backward(log_probs, entropy, smoothed, *weighing, *inputs)
        ctx.mark_non_differentiable(log_probs, entropy)
        return _total(weighing, (log_probs, entropy, smoothed)), log_probs, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # The gradients are given away, scaled in place: a copy of that of the weight would be most of the memory. Who
        # retains the graph and comes again gets them made anew.
        saved = ctx.saved_tensors
        results, weighing, inputs = saved[:3], saved[3:6], saved[6:]
        made, ctx.made = ctx.made, None
        if made is None:
            made = _gradients(weighing, inputs, ctx.needs)[3:]
        scaled = [x.mul_(grad) if needed else None for x, needed in zip(made, ctx.needs, strict=True)]
        of_weights = (grad * x if n else None for x, n in zip(results, ctx.needs_input_grad, strict=False))
        return (*of_weights, *scaled, None, None)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = _needs(ctx.needs_input_grad, ctx.saved_tensors[3])
    gradients = _gradients((grad, None, None), ctx.saved_tensors, needs)[3:]
    return (*(x if needed else None for x, needed in zip(gradients, needs, strict=True)), None, None)


def _needs(asked: Sequence[bool], gate_logits: Tensor | None) -> list[bool]:
    """Which gradients of the mixture are to be made: of all but the ids, and of attention if there are copies."""
    return [*asked[:4], asked[4] and gate_logits is not None]


def _second_backward(ctx: Any, *_: Tensor) -> None:
    raise RuntimeError("pointer_loss: its gradient has no gradient.")


def _fake(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate_logits: Tensor | None,
    attention: Tensor,
    source_ids: Tensor,
    targets: Tensor,
) -> Tensor:
    check_devices(
        "pointer_loss",
        features=features,
        weight=weight,
        bias=bias,
        gate_logits=gate_logits,
        attention=attention,
        source_ids=source_ids,
        targets=targets,
    )
    single = features.dtype == torch.bfloat16
    return features.new_empty(features.shape[:1], dtype=torch.float32 if single else features.dtype)


def _fake_backward(
    weights: Tensor, entropy_weights: Tensor | None, smoothing_weights: Tensor | None, *inputs: Any
) -> Gradients:
    *tensors, needs = inputs
    features, _, _, gate_logits, _, _, _ = tensors

    def like(tensor: Tensor | None, needed: bool) -> Tensor:
        empty: Tensor = features.new_empty(tensor.shape if needed and tensor is not None else 0)
        return empty

    copies = gate_logits is not None
    features_, weight, bias, gate, attention = (like(x, n) for x, n in zip(tensors[:5], needs, strict=True))
    log_probs = _fake(*tensors)
    check_devices(
        "pointer_loss",
        features=features,
        weights=weights,
        entropy_weights=entropy_weights,
        smoothing_weights=smoothing_weights,
    )
    entropy, smoothed = (
        log_probs.new_empty(0 if x is None else log_probs.shape) for x in (entropy_weights, smoothing_weights)
    )
    attention = attention if copies else features.new_empty(0)
    return log_probs, entropy, smoothed, features_, weight, bias, gate, attention


torch.library.register_fake("rlseq2seq::pointer_loss", _fake)
torch.library.register_fake("rlseq2seq::pointer_loss_backward", _fake_backward)
torch.library.register_autograd("rlseq2seq::pointer_loss", _backward, setup_context=_setup_context)
# Without this, a gradient of the gradient would silently be none.
torch.library.register_autograd("rlseq2seq::pointer_loss_backward", _second_backward)
