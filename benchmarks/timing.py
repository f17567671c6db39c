"""What the benchmarks share: contenders timed in turns, and rows of results."""

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from tqdm import trange

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.bfloat16) if DEVICE.type == "cuda" else (torch.float32,)
REPETITIONS = 7
AT_ONCE = 0.02  # seconds of work that are timed at once
COMPILED = "torch.compile"


class Row(TypedDict):
    """``ratio`` is the peer's time in terms of ours; ``bar`` what it should at least be, None where none is set."""

    work: str
    peer: str
    ratio: float
    bar: float | None


def medians(
    title: str, contenders: Mapping[str, Callable[[], object]], repetitions: int = REPETITIONS
) -> dict[str, float]:
    """Median seconds of a call of each contender, in turns so that a busy neighbour is everyone's; two calls warm up.

    A turn takes as many calls as fill some 20 ms, lest a short one be timed on what the contender before it left in the
    caches. On a GPU they are queued one behind another and timed by events, since the next step of training or decoding
    is prepared while the device works: what counts is the longer of the two.
    """
    calls = {name: _calls(work) for name, work in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in trange(repetitions, desc=title, leave=False):
        for name, work in contenders.items():
            seconds[name].append(_seconds(work, calls[name]))
    return {name: statistics.median(times) for name, times in seconds.items()}


def ratios(work: str, times: Mapping[str, float], bars: Mapping[str, float | None]) -> list[Row]:
    """A row for each peer named in ``bars``; the first of ``times`` is ours."""
    ours = next(iter(times.values()))
    return [Row(work=work, peer=peer, ratio=times[peer] / ours, bar=bar) for peer, bar in bars.items()]


def keep_freed_memory() -> None:
    """For this process, where it runs on glibc. What is freed at the end of the heap is given back to the kernel, and
    the next call then takes longer for page faults than for its work: a matter of what else happens to lie there."""
    trim_threshold, most_mappings = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(most_mappings, 0)


def print_rows(results: list[Row]) -> None:
    for row in results:
        bar = "" if row["bar"] is None else f"{'met' if row['ratio'] >= row['bar'] else 'MISSED'}, bar {row['bar']:g}"
        print(f"{row['ratio']:9.2f} x  {row['work']}, against {row['peer']}  {bar}")


def named(work: str, dtype: torch.dtype) -> str:
    """``work`` as results name it: float32 goes without saying."""
    return work if dtype == torch.float32 else f"{work}, {str(dtype).removeprefix('torch.')}"


def _calls(work: Callable[[], object]) -> int:
    """How many calls are timed at once, after two that warm up."""
    work()
    seconds = _seconds(work, 1)
    return min(1000, math.ceil(AT_ONCE / max(seconds, 1e-6)))


def _seconds(work: Callable[[], object], calls: int) -> float:
    if DEVICE.type == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(calls):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / calls
