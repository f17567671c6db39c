"""Sequence-level training of sequence-to-sequence models.

``rlseq2seq.load("models/rl").generate(texts)`` uses a checkpoint; everything else is in the sub-packages.
"""

from importlib import import_module
from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Late and by name: harvesting a corpus must neither wait for PyTorch nor depend on every module of the package.
    if name == "load":
        return import_module("rlseq2seq.generation").load
    raise AttributeError(f"module 'rlseq2seq' has no attribute {name!r}")
