"""Mixtures of every kind for tests of pointer_loss, and what a weighted loss and its gradients come to."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from tiny import on
from torch import Tensor

from rlseq2seq.ops import Mixture, WeightedLoss
from rlseq2seq.token_ids import UNKNOWN

SIZES = [0, 1, 63, 64, 65, 129, 513]
NAMES = Mixture._fields[:5]
CPU = torch.device("cpu")

# Arguments of `case` over odd sizes.
ODD_SIZES = {
    "seed": st.integers(0, 10_000),
    "sources": st.sampled_from([*SIZES, 3]),
    "shared": st.integers(1, 3),
    "vocabulary": st.sampled_from([2, 3, 63, 64, 65, 129, 513]),
    "time": st.sampled_from(SIZES),
    "features": st.sampled_from([*SIZES, 5]),
    "copy": st.booleans(),
}


class Weighing(NamedTuple):
    """Weights of the terms of a loss, a number a row; None: without the term."""

    weights: Tensor
    entropy: Tensor | None = None
    smoothing: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> "Weighing":
        return Weighing(*(x if x is None else x.detach().to(device, dtype) for x in self))


def weighing_for(weights: Tensor, *terms: str) -> Weighing:
    others = {"entropy": weights.flip(0) + 0.5, "smoothing": weights.roll(1) - 0.25}
    return Weighing(weights, **{term: others[term] for term in terms})


def case(
    seed: int, sources: int, shared: int = 1, vocabulary: int = 65, time: int = 63, features: int = 5, copy: bool = True
) -> tuple[Mixture, Tensor, Tensor]:
    """A mixture in float64, targets of every kind and weights. Every third source is nothing but padding.

    Logits have a deviation of 8 at most: float32 rounds those of hundreds of features by more than is tested for.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    rows = sources * shared
    source_ids = torch.randint(0, vocabulary + 4, (sources, time), generator=draw)
    attention = normal(rows, time).mul(2).softmax(-1)
    empty = torch.arange(rows) // max(shared, 1) % 3 == 2
    attention[empty] = 0
    gate_logits = normal(rows).masked_fill(empty, 1e4) if copy else None
    inputs, weight = normal(rows, features), normal(vocabulary, features) * min(1.0, 8 / max(features, 1) ** 0.5)
    mixture = Mixture(inputs, weight, normal(vocabulary), gate_logits, attention, source_ids)
    targets = torch.randint(0, vocabulary + 4, (rows,), generator=draw)
    copied = torch.rand(rows, generator=draw) < 0.5
    if time:
        targets = torch.where(copied, source_ids.repeat_interleave(shared, 0)[:, 0], targets)
    return mixture, targets, normal(rows)


def cast(mixture: Mixture, dtype: torch.dtype, device: torch.device) -> Mixture:
    return Mixture(
        *(x.to(device, dtype) if x is not None and x.is_floating_point() else x for x in on(mixture, device))
    )


def reachable(mixture: Mixture, targets: Tensor) -> Tensor:
    """``targets``, but unknown where neither part gives them: those have the log of the type's smallest number."""
    source_ids = mixture.source_ids.repeat_interleave(len(targets) // max(len(mixture.source_ids), 1), 0)
    copied = (mixture.attention * (source_ids == targets[:, None])).sum(-1)
    return targets.masked_fill((targets >= len(mixture.weight)) & (copied < 1e-30), UNKNOWN)


# What else ids outside the vocabulary may be, given how far outside they are: next to each other, so that single
# precision would take them for one, and alike in their lower half, so that 32 bits would.
RENAMINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "side by side": lambda beyond: beyond + 2**40,
    "alike in 32 bits": lambda beyond: (beyond + 1) * 2**38,
}


def renamed(mixture: Mixture, targets: Tensor, renaming: str) -> tuple[Mixture, Tensor]:
    """The same with other ids for what is not in the vocabulary, in sources and targets."""
    size = len(mixture.weight)
    source_ids, targets = (
        torch.where(ids < size, ids, RENAMINGS[renaming](ids - size)) for ids in (mixture.source_ids, targets)
    )
    return mixture._replace(source_ids=source_ids), targets


def leaves_of(mixture: Mixture) -> dict[str, Tensor]:
    copies = mixture.gate_logits is not None
    return {name: getattr(mixture, name).detach().clone().requires_grad_() for name in (NAMES if copies else NAMES[:3])}


def results(
    loss: Callable[..., WeightedLoss], mixture: Mixture, targets: Tensor, weighing: Weighing
) -> dict[str, Tensor]:
    """The total, log-probabilities, entropies if they have weights, and the gradients of the total, of the weights too,
    in float64 on the CPU."""
    leaves = leaves_of(mixture)
    weighing = weighing.to(mixture.features.device, torch.promote_types(mixture.features.dtype, torch.float32))
    weights = {f"{name}_weights": x.requires_grad_() for name, x in weighing._asdict().items() if x is not None}
    found = loss(mixture._replace(**leaves), targets, *weighing)
    gradients = torch.autograd.grad(found.total, [*leaves.values(), *weights.values()])
    named = {name: x for name, x in found._asdict().items() if x is not None}
    named |= dict(zip([*leaves, *weights], gradients, strict=True))
    return {name: x.detach().cpu().double() for name, x in named.items()}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, x in found.items():
        atol = tolerance * max(1.0, expected[name].abs().max().item() if x.numel() else 0)
        torch.testing.assert_close(
            x, expected[name], rtol=tolerance, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )
