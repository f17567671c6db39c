"""ROUGE rewards and prefix rewards beside what else computes them: python -m benchmarks.rouge_l

The same int64 ids, in turns, medians over repetitions, by the CPU time of the process, in which each may use one
thread, so that a busy neighbour does not count. From rapidfuzz only the length of the longest common subsequence is
asked, without precision, recall and F1.
"""

import os
import statistics
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from tqdm import trange

from benchmarks.timing import AT_ONCE, Row, print_rows, ratios
from rlseq2seq.ops import rouge_l, rouge_n

try:
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist, cpdist
    from rouge_score_rs.rouge_scorer import RougeScorer as NativeScorer
except ModuleNotFoundError:
    sys.exit(
        "This benchmark compares with packages that the project does not need: pip install rapidfuzz rouge-score-rs"
    )

REPETITIONS = 15
BATCHES = 4  # different ones, lest the branch predictor learn a batch by heart; few, so that they stay in the cache
VOCABULARY = 8000
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Hypotheses and references, [rows, columns], and their lengths, [rows]."""

    hypotheses: Ids
    lengths: Ids
    references: Ids
    reference_lengths: Ids

    def pairs(self) -> list[tuple[Ids, Ids]]:
        """The rows without padding."""
        rows = zip(self.hypotheses, self.lengths, self.references, self.reference_lengths, strict=True)
        return [(hypothesis[:n], reference[:m]) for hypothesis, n, reference, m in rows]


@dataclass(frozen=True)
class Contender:
    """A way to score a batch. What `prepare` does is not timed; slow ones do fewer batches in a repetition."""

    name: str
    prepare: Callable[[Batch], object]
    score: Callable[..., object]
    batches: int = BATCHES


def make_batch(rows: int, shortest: int, longest: int, seed: int) -> Batch:
    """About half of a hypothesis's tokens are those of the reference at the same position."""
    draw = np.random.default_rng(seed)
    references, others = draw.integers(0, VOCABULARY, (2, rows, longest))
    hypotheses = np.where(draw.random((rows, longest)) < 0.5, references, others)
    lengths, reference_lengths = draw.integers(shortest, longest + 1, (2, rows))
    return Batch(hypotheses, lengths, references, reference_lengths)


def tensors(batch: Batch) -> list[torch.Tensor]:
    """What the operator takes."""
    return [torch.from_numpy(x) for x in (batch.hypotheses, batch.lengths, batch.references, batch.reference_lengths)]


def as_array(ids: Ids) -> "array[int]":
    """The quickest form of ids that rapidfuzz takes."""
    return array("q", ids.tobytes())


def as_text(ids: Ids) -> str:
    """A character an id."""
    return "".join(map(chr, ids))


def as_words(ids: Ids) -> str:
    """A word an id."""
    return " ".join(f"w{i}" for i in ids)


def rapidfuzz_prefixes(batch: Batch) -> None:
    """Every prefix against its reference, a call a hypothesis."""
    for hypothesis, reference in batch.pairs():
        prefixes = [as_array(hypothesis[: t + 1]) for t in range(len(hypothesis))]
        cdist([as_array(reference)], prefixes, scorer=LCSseq.similarity)


def numpy_prefixes(batch: Batch) -> Ids:
    """The dynamic programme, all rows of the batch at once."""
    rows, columns = batch.references.shape
    inside = np.arange(columns) < batch.reference_lengths[:, None]
    above = np.zeros((rows, columns + 1), np.int16)
    scores = np.empty(batch.hypotheses.shape, np.int64)
    for t in range(batch.hypotheses.shape[1]):
        match = (batch.references == batch.hypotheses[:, t, None]) & inside & (t < batch.lengths)[:, None]
        above[:, 1:] = np.maximum(above[:, 1:], above[:, :-1] + match)
        np.maximum.accumulate(above, axis=1, out=above)
        scores[:, t] = above[:, -1]
    return scores


def scorers(kind: str) -> list[Contender]:
    """The two packages that score texts; both are given words apart from each other."""
    python, native = RougeScorer([kind]), NativeScorer([kind])

    def texts(batch: Batch) -> list[tuple[str, str]]:
        return [(as_words(h), as_words(r)) for h, r in batch.pairs()]

    def sides(batch: Batch) -> list[list[str]]:
        return [list(side) for side in zip(*texts(batch), strict=True)]

    return [
        Contender(NATIVE, sides, lambda x: native.score_batch(x[1], x[0])),
        Contender(PYTHON, texts, lambda pairs: [python.score(r, h) for h, r in pairs], batches=1),
    ]


def race(
    title: str, unit: str, batches: list[Batch], contenders: list[Contender], bars: dict[str, float | None]
) -> list[Row]:
    """Time the contenders in turns of at least 20 ms, print each one's rate, and compare the first with those that have
    bars."""
    prepared = {c.name: [c.prepare(batch) for batch in batches[: c.batches]] for c in contenders}
    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in trange(REPETITIONS, desc=title, leave=False):
        for contender in contenders:
            start, passes, elapsed = time.process_time(), 0, 0.0
            while elapsed < AT_ONCE:
                for batch in prepared[contender.name]:
                    contender.score(batch)
                passes += 1
                elapsed = time.process_time() - start
            seconds[contender.name].append(elapsed / passes / contender.batches)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    units = float(np.mean([batch.lengths.sum() if unit == "prefixes" else len(batch.lengths) for batch in batches]))
    print(f"\n{title}")
    for name, median in medians.items():
        print(f"  {name:<44}{units / median:>14,.0f} {unit}/s")
    return ratios(title, medians, bars)


def rows() -> list[Row]:
    """All races, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["RAYON_NUM_THREADS"] = "1"  # of rouge-score-rs
    table = [*whole_texts(), *any_ids(), *bigrams(), *every_prefix()]
    torch.set_num_threads(threads)
    return table


ARRAYS, STRINGS = "rapidfuzz LCSseq, from arrays", "rapidfuzz LCSseq, from ready strings"
NATIVE, PYTHON = "rouge-score-rs, from ready strings", "rouge-score, from ready strings"


def from_arrays() -> Contender:
    return Contender(ARRAYS, Batch.pairs, lambda pairs: [LCSseq.similarity(as_array(h), as_array(r)) for h, r in pairs])


def whole_texts() -> list[Row]:
    return race(
        "ROUGE-L of 320 pairs of 40 to 100 ids",
        "pairs",
        [make_batch(320, 40, 100, seed) for seed in range(BATCHES)],
        [
            Contender("rlseq2seq.ops.rouge_l", tensors, lambda x: rouge_l(*x)),
            from_arrays(),
            Contender(
                STRINGS,
                lambda batch: list(zip(*[[as_text(x) for x in pair] for pair in batch.pairs()], strict=True)),
                lambda sides: cpdist(*sides, scorer=LCSseq.similarity),
            ),
            *scorers("rougeL"),
        ],
        {ARRAYS: 15.0, STRINGS: 4.0, NATIVE: 25.0, PYTHON: 4000.0},
    )


def any_ids() -> list[Row]:
    """Ids that no array can be indexed by."""
    batches = [make_batch(320, 40, 100, seed) for seed in range(BATCHES)]
    large = [replace(b, hypotheses=b.hypotheses << 40, references=b.references << 40) for b in batches]
    contenders = [Contender("rlseq2seq.ops.rouge_l", tensors, lambda x: rouge_l(*x)), from_arrays()]
    return race("ROUGE-L of 320 pairs of 40 to 100 ids, any int64", "pairs", large, contenders, {ARRAYS: 6.0})


def bigrams() -> list[Row]:
    return race(
        "ROUGE-2 of 320 pairs of 40 to 100 ids",
        "pairs",
        [make_batch(320, 40, 100, seed) for seed in range(BATCHES)],
        [Contender("rlseq2seq.ops.rouge_n", tensors, lambda x: rouge_n(*x, 2)), *scorers("rouge2")],
        {NATIVE: None, PYTHON: None},
    )


def every_prefix() -> list[Row]:
    cells, programme = "rapidfuzz cdist, from arrays", "numpy, dynamic programme over the batch"
    return race(
        "ROUGE-L of all prefixes of 80 hypotheses of 100 ids",
        "prefixes",
        [make_batch(80, 100, 100, seed) for seed in range(BATCHES)],
        [
            Contender("rlseq2seq.ops.rouge_l(prefixes=True)", tensors, lambda x: rouge_l(*x, prefixes=True)),
            Contender(cells, lambda batch: batch, rapidfuzz_prefixes),
            Contender(programme, lambda batch: batch, numpy_prefixes),
        ],
        {cells: 50.0, programme: 50.0},
    )


if __name__ == "__main__":
    print_rows(rows())
