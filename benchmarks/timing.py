"""What the benchmarks share: contenders timed in turns, and rows of results."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from tqdm import trange

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REPETITIONS = 7


class Row(TypedDict):
    """``ratio`` is the peer's time in terms of ours; ``bar`` what it should at least be, None where none is set."""

    work: str
    peer: str
    ratio: float
    bar: float | None


def medians(
    title: str, contenders: Mapping[str, Callable[[], object]], repetitions: int = REPETITIONS
) -> dict[str, float]:
    """Median seconds of each contender, taken in turns so that a busy neighbour is everyone's; one round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in trange(repetitions + 1, desc=title, leave=False):
        for name, work in contenders.items():
            elapsed = _seconds(work)
            if repetition:
                seconds[name].append(elapsed)
    return {name: statistics.median(times) for name, times in seconds.items()}


def ratios(work: str, times: Mapping[str, float], bars: Mapping[str, float | None]) -> list[Row]:
    """A row for each peer named in ``bars``; the first of ``times`` is ours."""
    ours = next(iter(times.values()))
    return [Row(work=work, peer=peer, ratio=times[peer] / ours, bar=bar) for peer, bar in bars.items()]


def print_rows(results: list[Row]) -> None:
    for row in results:
        bar = "" if row["bar"] is None else f"{'met' if row['ratio'] >= row['bar'] else 'MISSED'}, bar {row['bar']:g}"
        print(f"{row['ratio']:9.2f} x  {row['work']}, against {row['peer']}  {bar}")


def _seconds(work: Callable[[], object]) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
