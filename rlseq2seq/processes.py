"""Processes that work on short texts, and end with this one."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

from rlseq2seq.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Large enough that starting a process (about two seconds of imports) is not for nothing.
CHUNK = 512


def map_chunks(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], workers: int, title: str
) -> list[Result]:
    """Apply ``function`` to chunks of ``items`` and join what it returns, in order: `stream_chunks`, all kept."""
    return list(chain.from_iterable(stream_chunks(function, items, workers, title, len(items))))


def stream_chunks(
    function: Callable[[Sequence[Item]], Result],
    items: Iterable[Item],
    workers: int,
    title: str,
    total: int | None = None,
) -> Iterator[Result]:
    """Apply ``function`` to chunks of ``items``, and give what it returns of each, in order.

    A few chunks are in work at a time and no more of ``items`` is read, so memory does not grow with their number.

    Processes are spawned, not forked: a fork of a process whose PyTorch threads run can hang. So ``function`` must be
    importable, and a script that calls this must guard its own start by ``if __name__ == "__main__"``.

    Args:
        function: takes a chunk.
        items: the work.
        workers: processes at most; with 1, or one chunk of work, none is started.
        title: of the progress bar, which shows after two seconds.
        total: how many items there are, where that is known.

    Raises:
        UserError: a process was killed.
    """
    iterator = iter(items)
    chunks = iter(lambda: list(islice(iterator, CHUNK)), [])
    first = list(islice(chunks, 2))
    with tqdm(total=total, desc=title, unit="text", delay=2) as progress:
        results = _in_turn if workers <= 1 or len(first) < 2 else partial(_in_processes, workers=workers)
        for count, result in results(function, chain(first, chunks)):
            progress.update(count)
            yield result


def _in_turn(
    function: Callable[[Sequence[Item]], Result], chunks: Iterable[Sequence[Item]]
) -> Iterator[tuple[int, Result]]:
    for chunk in chunks:
        yield len(chunk), function(chunk)


def _in_processes(
    function: Callable[[Sequence[Item]], Result], chunks: Iterable[Sequence[Item]], workers: int
) -> Iterator[tuple[int, Result]]:
    pending: deque[tuple[int, Future[Result]]] = deque()
    try:
        with process_pool(workers) as pool:
            for chunk in chunks:
                pending.append((len(chunk), pool.submit(function, chunk)))
                if len(pending) > 2 * workers:  # every process has one in work and one waiting
                    count, future = pending.popleft()
                    yield count, future.result()
            for count, future in pending:
                yield count, future.result()
    except BrokenProcessPool:
        raise UserError(
            "a working process was killed, as systems do that run out of memory: set runtime.workers to fewer"
        ) from None


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
