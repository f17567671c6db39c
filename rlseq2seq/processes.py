"""Processes that work on short texts, and end with this one."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

# Large enough that starting a process (about two seconds of imports) is not for nothing.
CHUNK = 512


def map_chunks(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], workers: int, title: str
) -> list[Result]:
    """Apply ``function`` to chunks of ``items`` and join what it returns, in order.

    Processes are spawned, not forked: a fork of a process whose PyTorch threads run can hang. So ``function`` must be
    importable, and a script that calls this must guard its own start by ``if __name__ == "__main__"``.

    Args:
        function: takes a chunk and returns a result for each item of it.
        items: the work.
        workers: processes at most; with 1, or one chunk of work, none is started.
        title: of the progress bar, which shows after two seconds.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    workers = min(workers, len(chunks))
    results: list[Result] = []
    with tqdm(total=len(items), desc=title, unit="text", delay=2) as progress:
        if workers <= 1:
            for chunk in chunks:
                results += function(chunk)
                progress.update(len(chunk))
            return results
        with process_pool(workers) as pool:
            for done in pool.map(function, chunks):
                results += done
                progress.update(len(done))
    return results


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes, spawned as `map_chunks` says, none of which outlives this one."""
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Leave no orphan: a pool's workers wait for work for ever once their parent has been killed."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
