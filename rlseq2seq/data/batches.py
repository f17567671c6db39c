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

# Pairs are sorted by length within this many batches: enough that padding is rare, few enough that order stays random.
_BUCKET_BATCHES = 50


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
        self._lengths = (store.targets.lengths, store.sources.lengths)
        self._batch_size, self._seed = batch_size, seed
        self.batches_per_epoch = -(-len(store) // batch_size)
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Rows of the batch at ``step``, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.batches_per_epoch)
        return self._epoch(epoch)[place]

    def _make_epoch(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        random = np.random.default_rng((self._seed, epoch))
        rows = random.permutation(len(self._lengths[0]))
        bucket = self._batch_size * _BUCKET_BATCHES
        batches = []
        for start in range(0, len(rows), bucket):
            chunk = rows[start : start + bucket]
            chunk = chunk[np.lexsort([lengths[chunk] for lengths in self._lengths])]
            batches += [chunk[i : i + self._batch_size] for i in range(0, len(chunk), self._batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]


def in_length_order(store: TokenStore, count: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of the first ``count`` pairs, a batch at a time, longest sources first: for validation and evaluation."""
    order = np.argsort(-store.sources.lengths[:count], kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


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
    lengths = array.lengths[rows]
    padded = np.full((len(rows), int(lengths.max(initial=0))), PAD, np.int64)
    for i, row in enumerate(rows):
        padded[i, : lengths[i]] = array[row]
    return torch.from_numpy(padded), torch.from_numpy(lengths)
