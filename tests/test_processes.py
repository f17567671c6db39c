import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from rlseq2seq.errors import UserError
from rlseq2seq.processes import CHUNK, map_chunks, stream_chunks

SLOW = """
import sys, time
sys.path.insert(0, {folder!r})
from rlseq2seq.processes import CHUNK, map_chunks
from slow import sleep

if __name__ == "__main__":
    map_chunks(sleep, list(range(2 * CHUNK)), 2, "sleeping")
"""


def _number_and_process(chunk: Sequence[int]) -> list[tuple[int, int]]:
    return [(number, os.getpid()) for number in chunk]


def test_results_come_in_order_from_other_processes() -> None:
    results = map_chunks(_number_and_process, range(2 * CHUNK + 1), 2, "numbers")
    assert [number for number, _ in results] == list(range(2 * CHUNK + 1))
    assert os.getpid() not in {process for _, process in results}


def test_little_work_starts_no_process() -> None:
    assert map_chunks(_number_and_process, range(CHUNK), 8, "numbers") == [(n, os.getpid()) for n in range(CHUNK)]
    assert map_chunks(_number_and_process, [], 8, "numbers") == []


def test_a_stream_is_read_as_its_results_are_taken_in_order() -> None:
    for workers, ahead in ((1, 2), (2, 6)):
        numbers = iter(range(20 * CHUNK))
        results = stream_chunks(sum, numbers, workers, "sums")
        first = next(results)
        assert next(numbers) <= ahead * CHUNK
        assert len([first, *results]) == 20
    sums = stream_chunks(sum, iter(range(9 * CHUNK)), 2, "sums")
    assert list(sums) == [sum(range(n * CHUNK, (n + 1) * CHUNK)) for n in range(9)]


def test_one_worker_is_this_process() -> None:
    results = map_chunks(_number_and_process, range(CHUNK + 1), 1, "numbers")
    assert results == [(n, os.getpid()) for n in range(CHUNK + 1)]


def _end_process(chunk: Sequence[int]) -> list[int]:
    os._exit(9)


def test_a_worker_that_is_killed_is_told() -> None:
    with pytest.raises(UserError, match=r"^a working process was killed.*: set runtime\.workers to fewer$"):
        map_chunks(_end_process, range(9 * CHUNK), 1 + 1, "ending")


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        f"import time\nfrom pathlib import Path\n\n\ndef sleep(chunk):\n"
        f"    Path({str(tmp_path)!r}, f'started{{chunk[0]}}').touch()\n    time.sleep(120)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(SLOW.format(folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, script], cwd=Path(__file__).parent.parent, env=_with_package())
    _wait_until(lambda: len(list(tmp_path.glob("started*"))) == 2)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    _gone, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert len(workers) >= 2
    assert alive == []


def _with_package() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def _wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
