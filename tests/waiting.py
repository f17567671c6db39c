"""What tells of a host that waits for its device."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch


@contextmanager
def nothing_waits(device: torch.device) -> Iterator[None]:
    """Within this it is an error to read a tensor's values from Python, and on CUDA to wait in any way that PyTorch
    knows of."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tolist", "item", "numpy", "nonzero", "__bool__", "__int__", "__index__"):
            patch.setattr(torch.Tensor, name, None, raising=False)
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
