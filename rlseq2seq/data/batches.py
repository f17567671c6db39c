"""Padded batches of near-equal lengths, in an order that is a function of the seed and the step alone.

Nothing is carried from one batch to the next, so a resumed run needs no loader state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq2seq.data.store import RaggedArray, TokenStore
from rlseq2seq.token_ids import PAD

# Pairs are sorted by length within a pool of this many batches: by target into as many groups as its root, each by
# source. So both are near-equal in a batch, and padding is rare; few enough batches that the order stays random.
_GROUPS = 8
_POOL_BATCHES = _GROUPS**2


@dataclass(frozen=True)
class Batch:
    """B pairs. ``sources`` [B, S] and ``targets`` [B, T] are extended ids padded with `PAD`; targets hold their end
    token. ``rows`` are the pairs' places in the store."""

    sources: Tensor
    source_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    rows: tuple[int, ...]
    copies: tuple[list[str], ...]
    target_texts: tuple[str, ...]


class BatchOrder:
    """Which rows make up the batch of a step: every row once an epoch, shuffled anew each epoch."""

    def __init__(self, store: TokenStore, batch_size: int, seed: int) -> None:
        self._source_lengths, self._target_lengths = store.sources.lengths, store.targets.lengths
        self._batch_size, self._seed = batch_size, seed
        self.batches_per_epoch = -(-len(store) // batch_size)
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Rows of the batch at ``step``, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.batches_per_epoch)
        return self._epoch(epoch)[place]

    def _make_epoch(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        random = np.random.default_rng((self._seed, epoch))
        batches = []
        for pool in _cut(random.permutation(len(self._source_lengths)), self._batch_size * _POOL_BATCHES):
            by_target = pool[np.argsort(self._target_lengths[pool], kind="stable")]
            for group in _cut(by_target, self._batch_size * _GROUPS):
                batches += _cut(group[np.argsort(self._source_lengths[group], kind="stable")], self._batch_size)
        return [batches[i] for i in random.permutation(len(batches))]


def _cut(rows: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """``rows`` in pieces of ``size``, the last one what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def in_length_order(store: TokenStore, count: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of the first ``count`` pairs, a batch at a time, longest sources first: for validation and evaluation."""
    order = np.argsort(-store.sources.lengths[:count], kind="stable")
    yield from _cut(order, batch_size)


def make_batch(store: TokenStore, rows: npt.NDArray[np.int64], device: torch.device) -> Batch:
    """Read ``rows`` from the store, pad them and move them to ``device``."""
    sources, source_lengths = _pad(store.sources, rows)
    targets, target_lengths = _pad(store.targets, rows)
    return Batch(
        sources=sources.to(device, non_blocking=True),
        source_lengths=source_lengths.to(device, non_blocking=True),
        targets=targets.to(device, non_blocking=True),
        target_lengths=target_lengths.to(device, non_blocking=True),
        rows=tuple(int(row) for row in rows),
        copies=tuple(store.copies(row) for row in rows),
        target_texts=tuple(store.target_text(row) for row in rows),
    )


def pad_rows(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Lists of ids as a padded tensor [B, longest] and their lengths [B]."""
    lengths = [len(row) for row in rows]
    padded = np.full((len(rows), max(lengths, default=0)), PAD, np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(padded), torch.tensor(lengths, dtype=torch.int64)


def _pad(array: RaggedArray, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    lengths = array.offsets[rows + 1] - array.offsets[rows]
    padded = np.full((len(rows), int(lengths.max(initial=0))), PAD, np.int64)
    for i, row in enumerate(rows):
        padded[i, : lengths[i]] = array[row]
    return torch.from_numpy(padded), torch.from_numpy(lengths)
