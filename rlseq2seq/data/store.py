"""The token store: a split encoded once, in flat files that are memory-mapped and read without copying.

A ragged array is a flat file of values and an array of offsets: row i is ``values[offsets[i]:offsets[i + 1]]``.
"""

from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.processes import stream_chunks
from rlseq2seq.token_ids import UNKNOWN

# Pieces cannot hold a line break: sentencepiece reads it as white space.
_SEPARATOR = "\n"


class RaggedArray:
    """Rows of different lengths, memory-mapped."""

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.offsets: npt.NDArray[np.int64] = np.load(path.with_suffix(".offsets.npy"))
        values = path.with_suffix(".bin")
        empty = values.stat().st_size == 0  # an empty file cannot be mapped
        self.values = np.empty(0, dtype) if empty else np.memmap(values, dtype, mode="r")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.generic]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


class _RaggedWriter:
    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self._path, self._item_size = path, np.dtype(dtype).itemsize
        self._file = path.with_suffix(".bin").open("wb")
        self._offsets = array("q", [0])

    def extend(self, rows: Iterable[bytes]) -> None:
        for row in rows:
            self._file.write(row)
            self._offsets.append(self._offsets[-1] + len(row) // self._item_size)

    def __enter__(self) -> "_RaggedWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        np.save(self._path.with_suffix(".offsets.npy"), np.asarray(self._offsets, np.int64))


class TokenStore:
    """One split: sources and targets as extended ids, their copies, and the targets' texts.

    The texts are what rewards are measured against: they are neither cut nor normalised.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.sources = RaggedArray(folder / f"{split}_sources", np.int32)
        self.targets = RaggedArray(folder / f"{split}_targets", np.int32)
        self._copies = RaggedArray(folder / f"{split}_copies", np.uint8)
        self._texts = RaggedArray(folder / f"{split}_texts", np.uint8)

    def __len__(self) -> int:
        return len(self.sources)

    def copies(self, row: int) -> list[str]:
        text = self._copies[row].tobytes().decode()
        return text.split(_SEPARATOR) if text else []

    def target_text(self, row: int) -> str:
        return self._texts[row].tobytes().decode()


def write_store(
    folder: Path, split: str, pairs: Iterable[Pair], vocabulary: Vocabulary, workers: int = 1
) -> dict[str, int]:
    """Encode ``pairs`` into ``folder``, in ``workers`` processes, and return counts: pairs, tokens, unknown tokens,
    and texts that fill the limits, as those do that were cut. The files do not depend on ``workers``."""
    facts = dict.fromkeys(_FACTS, 0)
    with (
        _RaggedWriter(folder / f"{split}_sources", np.int32) as sources,
        _RaggedWriter(folder / f"{split}_targets", np.int32) as targets,
        _RaggedWriter(folder / f"{split}_copies", np.uint8) as copies,
        _RaggedWriter(folder / f"{split}_texts", np.uint8) as texts,
    ):
        for rows, counts in stream_chunks(partial(_encode, vocabulary), pairs, workers, f"encode {split}"):
            for writer, column in zip((sources, targets, copies, texts), zip(*rows, strict=True), strict=True):
                writer.extend(column)
            for fact, count in zip(_FACTS, counts, strict=True):
                facts[fact] += count
    return facts


_FACTS = (
    "pairs",
    "source_tokens",
    "target_tokens",
    "copied_unknowns",
    "unknown_targets",
    "full_sources",
    "full_targets",
)


def _encode(vocabulary: Vocabulary, pairs: Sequence[Pair]) -> tuple[list[tuple[bytes, ...]], list[int]]:
    """The bytes of each pair's source, target, copies and text, and the `_FACTS` of all."""
    config = vocabulary.config
    rows: list[tuple[bytes, ...]] = []
    counts = []
    for pair in pairs:
        source = vocabulary.encode_source(pair.source)
        target = vocabulary.encode_target(pair.target, source.copies)
        texts = (_SEPARATOR.join(source.copies).encode(), pair.target.encode())
        rows.append((np.array(source.ids, np.int32).tobytes(), np.array(target, np.int32).tobytes(), *texts))
        counts.append(
            (
                1,
                len(source.ids),
                len(target),
                len(source.copies),
                target.count(UNKNOWN),
                len(source.ids) == config.max_source_tokens,
                len(target) == config.max_target_tokens,
            )
        )
    return rows, [sum(column) for column in zip(*counts, strict=True)]
