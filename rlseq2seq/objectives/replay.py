"""A memory of what a policy met and did, from which a critic learns many times over."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from rlseq2seq.config.critic import ReplayConfig
from rlseq2seq.objectives.sum_tree import SumTree

# Added to the size of an error, so that what has none is drawn again some day.
SMALLEST_PRIORITY = 1e-6

_PINNED = torch.cuda.is_available()
_ALIGNMENT = 4  # bytes, of the widest type that is kept
# What is kept in fewer bits is given in these.
_WIDER = {torch.float16: torch.float32, torch.int32: torch.int64}


class Transitions(NamedTuple):
    """M states of rollouts in order, each rollout whole, and what came of the token that was chosen in each.

    The state after one is the next row, unless it is the ``last`` of its rollout. ``features`` [M, F], ``gate_logits``
    [M], ``attention`` [M, S] and ``source_ids`` [M, S] int64 are those of `rlseq2seq.ops.Mixture`, a row a state;
    ``tokens`` [M] int64 were chosen, ``rewards`` [M] are what each token was paid, ``returns`` [M] what it and those
    after it were (Monte-Carlo); ``last`` [M] is bool.
    """

    features: Tensor
    gate_logits: Tensor
    attention: Tensor
    source_ids: Tensor
    tokens: Tensor
    rewards: Tensor
    returns: Tensor
    last: Tensor


class Replayed(NamedTuple):
    """``rows`` [n] int64 of the memory, on the host; the transitions ``now`` in them and those that came ``then``, of
    a ``last`` one whatever lies in the next row, finite and of no meaning; importance ``weights`` [n]."""

    rows: Tensor
    now: Transitions
    then: Transitions
    weights: Tensor


class Replay(nn.Module):
    """A ring of ``config.capacity`` transitions with sources of up to ``source_width`` tokens, the oldest overwritten.

    ``prioritized`` is the proportional variant of Schaul et al. 2016 (arXiv:1511.05952, section 3.3): P(i) =
    p_i^a / sum p_j^a with p_i = |TD error| + a little, ``a`` the ``priority_exponent``; what is new has the largest
    priority so far, 1 at least (algorithm 1).

    It stays on the host, pinned where there is CUDA. All that it holds are parameters that no gradient trains, so that
    it is saved and restored as a model is.
    """

    def __init__(self, feature_size: int, source_width: int, config: ReplayConfig) -> None:
        super().__init__()
        state = torch.float16 if config.half_precision else torch.float32
        # In the order of `Transitions`.
        kinds: list[tuple[torch.dtype, tuple[int, ...]]] = [
            *((state, (feature_size,)), (state, ()), (state, (source_width,)), (torch.int32, (source_width,))),
            *((torch.int32, ()), (torch.float32, ()), (torch.float32, ()), (torch.bool, ())),
        ]
        self._fields, width = [], 0
        for dtype, shape in kinds:
            field = _Field(width, dtype, shape)
            self._fields.append(field)
            width += -(-field.bytes // _ALIGNMENT) * _ALIGNMENT
        # A transition's bytes lie side by side: to fetch one is one access to memory, and a sample is one transfer.
        # So do those of the one after it, the first once more after the last.
        self._capacity = config.capacity
        self.ring = _fixed(torch.zeros(config.capacity + 1, width, dtype=torch.uint8, pin_memory=_PINNED))
        self.pushed = _fixed(torch.zeros((), dtype=torch.int64))  # rows, ever
        self.tree = SumTree(config.capacity) if config.sampling == "prioritized" else None
        self.largest = _fixed(torch.ones((), dtype=torch.float64))  # priority so far
        self._exponent = config.priority_exponent

    def __len__(self) -> int:
        """How many transitions there are."""
        return min(int(self.pushed), self._capacity)

    @torch.no_grad()
    def push(self, transitions: Transitions) -> None:
        """Add ``transitions``, of more than the capacity the last ones.

        Raises:
            ValueError: the last rollout is not whole.
        """
        # A row and the one after it were pushed one after the other, but for the newest row, which ends a rollout.
        if not transitions.last[-1:].all():
            raise ValueError("rollouts are pushed whole: the last transition is not the last of one")
        kept = min(len(transitions.last), self._capacity)
        # Where a source is shorter 0 stays: padding, and attention to it.
        records = self.ring.new_zeros(kept, self.ring.shape[1], device=transitions.last.device)
        for field, values in zip(self._fields, transitions, strict=True):
            part = field.of(records)
            (part if part.dim() == 1 else part[:, : values.shape[1]]).copy_(values[-kept:])
        rows = (self.pushed + torch.arange(kept)) % self._capacity
        self.ring.index_copy_(0, rows, records.cpu())
        self.ring[-1] = self.ring[0]
        if self.tree is not None:
            self.tree.set(rows, self.largest**self._exponent)
        self.pushed.add_(kept)

    @torch.no_grad()
    def sample(self, count: int, importance: float, device: torch.device) -> Replayed:
        """``count`` transitions, on ``device``, float32 and int64, drawn with PyTorch's global generator. Some may be
        drawn twice. There has to be one at least.

        Weights are 1, or where it is ``prioritized`` (N P(i))^-importance over the largest of the sample (section 3.4).
        """
        if self.tree is None:
            rows, weights = torch.randint(len(self), (count,)), torch.ones(count)
        else:
            rows = self.tree.draw(count)
            unscaled = self.tree.shares(rows) ** -importance  # N cancels out
            weights = (unscaled / unscaled.max()).float()
        now, then = self._take(rows, device)
        return Replayed(rows, now, then, weights.to(device, non_blocking=True))

    @torch.no_grad()
    def set_errors(self, rows: Tensor, errors: Tensor) -> None:
        """Tell the TD ``errors`` [n] of the ``rows`` [n] of a sample, before anything else is pushed."""
        if self.tree is None:
            return
        priorities = errors.to("cpu", torch.float64).abs() + SMALLEST_PRIORITY
        self.largest.copy_(torch.maximum(self.largest, priorities.max()))
        self.tree.set(rows, priorities**self._exponent)

    def _take(self, rows: Tensor, device: torch.device) -> tuple[Transitions, Transitions]:
        """What is in ``rows``, and in those after them."""
        width = self.ring.shape[1]
        records = torch.empty(len(rows), 2 * width, dtype=torch.uint8, pin_memory=_PINNED)
        torch.index_select(self.ring.as_strided((self._capacity, 2 * width), (width, 1)), 0, rows, out=records)
        pairs = records.to(device, non_blocking=True).view(len(rows), 2, width)
        now, then = zip(*(field.given(pairs) for field in self._fields), strict=True)
        return Transitions(*now), Transitions(*then)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Stay on the host, in the types it has, wherever the module around it goes."""
        return self


class _Field(NamedTuple):
    """A part of records [..., bytes]: from byte ``start`` on, values of a ``dtype`` and a ``shape``."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def of(self, records: Tensor) -> Tensor:
        """The field, a view [..., *shape]."""
        part = records[..., self.start : self.start + self.bytes].view(self.dtype)
        return part.view(*records.shape[:-1], *self.shape)

    def given(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The field of the one and of the other of ``pairs`` [n, 2, bytes], tensors of their own, as wide as
        calculation has it."""
        part = self.of(pairs).transpose(0, 1)
        both = torch.empty(part.shape, dtype=_WIDER.get(self.dtype, self.dtype), device=part.device).copy_(part)
        return both[0], both[1]


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
