"""A memory of what a policy met and did, from which a critic learns many times over."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from rlseq2seq.config.critic import ReplayConfig
from rlseq2seq.token_ids import PAD

_PINNED = torch.cuda.is_available()
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

    It stays on the host, pinned where there is CUDA. All that it holds are parameters that no gradient trains, so that
    it is saved and restored as a model is.
    """

    def __init__(self, feature_size: int, source_width: int, config: ReplayConfig) -> None:
        super().__init__()
        state = torch.float16 if config.half_precision else torch.float32
        self._capacity = config.capacity
        self.ring = nn.ParameterDict(
            Transitions(
                features=self._rows(state, feature_size),
                gate_logits=self._rows(state),
                attention=self._rows(state, source_width),
                source_ids=self._rows(torch.int32, source_width),
                tokens=self._rows(torch.int32),
                rewards=self._rows(torch.float32),
                returns=self._rows(torch.float32),
                last=self._rows(torch.bool),
            )._asdict()
        )
        self.pushed = nn.Parameter(torch.zeros((), dtype=torch.int64), requires_grad=False)  # rows, ever

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
        rows = (self.pushed + torch.arange(kept)) % self._capacity
        for name, values in transitions._asdict().items():
            ring = self.ring[name]
            ring.index_copy_(0, rows, _widened(values[-kept:], ring.shape).to("cpu", ring.dtype))
        self.pushed.add_(kept)

    @torch.no_grad()
    def sample(self, count: int, importance: float, device: torch.device) -> Replayed:
        """``count`` transitions, on ``device``, float32 and int64, drawn with PyTorch's global generator. Some may be
        drawn twice. There has to be one at least."""
        rows = torch.randint(len(self), (count,))
        weights = torch.ones(count)
        now, then = self._take(rows, device)
        return Replayed(rows, now, then, weights.to(device, non_blocking=True))

    @torch.no_grad()
    def set_errors(self, rows: Tensor, errors: Tensor) -> None:
        """Tell the TD ``errors`` [n] of the ``rows`` [n] of a sample, before anything else is pushed."""

    def _rows(self, dtype: torch.dtype, *size: int) -> nn.Parameter:
        empty = torch.zeros(self._capacity, *size, dtype=dtype, pin_memory=_PINNED)
        return nn.Parameter(empty, requires_grad=False)

    def _take(self, rows: Tensor, device: torch.device) -> tuple[Transitions, Transitions]:
        """What is in ``rows`` and in those after them."""
        both = torch.cat([rows, (rows + 1) % self._capacity])
        parts = []
        for name in Transitions._fields:
            ring = self.ring[name]
            taken = torch.empty(len(both), *ring.shape[1:], dtype=ring.dtype, pin_memory=_PINNED)
            torch.index_select(ring, 0, both, out=taken)
            moved = taken.to(device, non_blocking=True).to(_WIDER.get(ring.dtype, ring.dtype))
            parts.append(moved.chunk(2))
        now, then = (Transitions(*fields) for fields in zip(*parts, strict=True))
        return now, then

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Stay on the host, in the types it has, wherever the module around it goes."""
        return self


def _widened(values: Tensor, shape: torch.Size) -> Tensor:
    """``values`` [M, S] of shorter sources, padded to the width of ``shape``; other ones as they are."""
    if values.shape[1:] == shape[1:]:
        return values
    wide = values.new_full((len(values), shape[1]), PAD)  # 0, which is what attention to padding is
    wide[:, : values.shape[1]] = values
    return wide
