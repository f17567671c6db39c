"""A loop's step as one launch."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


def replayed(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does as ``step`` does, on CUDA in one launch: its kernels are recorded in a graph and not run now.

    A decoding step is some thirty small kernels, and to launch them from Python takes longer than they run. ``step``
    reads and writes the same memory each time, waits for nothing, and has run once, so that libraries are ready.
    """
    if device.type != "cuda":
        return step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(), capture_error_mode="thread_local"):
        step()
    return graph.replay


@cache
def _pool() -> Any:
    """Memory that the graphs share, one after another."""
    return torch.cuda.graph_pool_handle()
