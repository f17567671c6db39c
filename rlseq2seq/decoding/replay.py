"""A loop's step as one launch."""

from collections.abc import Callable
from functools import cache

import torch

# Of each device, the graph that was recorded last: it holds the memory that all share, one after another. PyTorch
# refuses to record into memory that no graph holds any more.
_latest: dict[torch.device, torch.cuda.CUDAGraph] = {}


def replayed(step: Callable[[], None], device: torch.device) -> Callable[[], None] | None:
    """On CUDA, what does as ``step`` does in one launch: its kernels are recorded in a graph and not run now.

    A decoding step is some thirty small kernels, and to launch them from Python takes longer than they run. ``step``
    reads and writes the same memory each time, waits for nothing, and has run once, so that libraries are ready. What
    is returned is done with before the next step is recorded.
    """
    if device.type != "cuda":
        return None
    graph, before = torch.cuda.CUDAGraph(), _latest.pop(device, None)
    # Not by `torch.cuda.graph`: it waits for the device, and gives all memory that is free back to the driver, of whom
    # the next step of training would ask for it anew.
    with torch.cuda.stream(_stream(device)):
        graph.capture_begin(pool=None if before is None else before.pool(), capture_error_mode="thread_local")
        try:
            step()
        finally:
            graph.capture_end()
    _latest[device] = graph
    return graph.replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Where steps are recorded: PyTorch records none on the stream that all else runs on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
