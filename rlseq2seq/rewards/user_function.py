"""A user's own function as a reward, in a pool of processes that is started once."""

import importlib
import math
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any

from rlseq2seq.errors import UserError
from rlseq2seq.processes import process_pool

# Fewer texts a process are not worth sending.
_LEAST_CHUNK = 8


class UserFunction:
    """``score(hypotheses, references, sources) -> rewards``, lists of as many texts and numbers, by its import path.

    It is called with any part of a batch, in any order, so a text's reward must depend on its own reference and source
    alone. Each text is asked for once in a call.

    Raises:
        UserError: it cannot be imported, raises, or returns anything but a finite number for each text. It is tried on
            one text at first, so that this shows before any training.
    """

    def __init__(self, path: str, workers: int) -> None:
        self._path, self._workers = path, workers
        self._pool = process_pool(workers)
        self([("A text.", "A text.", "A text.")])

    def __call__(self, texts: Sequence[tuple[str, str, str]]) -> list[float]:
        """Rewards of (hypothesis, reference, source) texts."""
        distinct = list(dict.fromkeys(texts))
        size = max(-(-len(distinct) // self._workers), _LEAST_CHUNK)
        chunks = [distinct[start : start + size] for start in range(0, len(distinct), size)]
        futures = [self._pool.submit(_score, self._path, chunk) for chunk in chunks]
        try:
            rewards = [reward for future in futures for reward in future.result()]
        except BrokenProcessPool:
            raise UserError(
                f"{self._path}: a process that called it died, maybe for want of memory: lower runtime.workers, or see "
                "that it does not end the process"
            ) from None
        found = dict(zip(distinct, rewards, strict=True))
        return [found[text] for text in texts]

    def close(self) -> None:
        self._pool.shutdown()


@lru_cache(maxsize=1)
def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        raise UserError(
            f"finetune.reward.function is {path!r}: cannot be imported ({_told(error)}); it must be "
            "package.module:name, from the project's root or an installed package"
        ) from None
    if not callable(function):
        raise UserError(
            f"finetune.reward.function is {path!r}: must be a function, and is of type {type(function).__name__}"
        )
    return function


def _score(path: str, texts: Sequence[tuple[str, str, str]]) -> list[float]:
    function = _load(path)
    try:
        rewards = [float(reward) for reward in function(*map(list, zip(*texts, strict=True)))]
    except Exception as error:  # whatever the user's function raises
        raise UserError(
            f"{path} failed: {_told(error)}; it must take lists of hypotheses, references and sources and return a "
            "list of numbers"
        ) from None
    if len(rewards) != len(texts):
        raise UserError(f"{path} gave {len(rewards)} rewards for {len(texts)} texts: it must give one for each")
    for reward, (hypothesis, _, _) in zip(rewards, texts, strict=True):
        if not math.isfinite(reward):
            raise UserError(f"{path} gave {reward} for {hypothesis!r}: rewards must be finite")
    return rewards


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
