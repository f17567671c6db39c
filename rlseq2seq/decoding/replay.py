"""A loop's step as one launch."""

from collections.abc import Callable

import torch


def replayed(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does as ``step`` does, on CUDA in one launch: its kernels are recorded in a graph and not run now.

    A decoding step is some thirty small kernels, and to launch them from Python takes longer than they run. ``step``
    reads and writes the same memory each time, waits for nothing, and has run once, so that libraries are ready.
    """
    if device.type != "cuda":
        return step
    graph = torch.cuda.CUDAGraph()
    # Each with a pool of its own: one that is named is gone for good, an error, once the last graph that had it is.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay
