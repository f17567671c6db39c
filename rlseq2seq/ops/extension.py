"""Loads the compiled extension, which registers the operators of the namespace `rlseq2seq`."""

import importlib
from types import ModuleType

import torch

from rlseq2seq.errors import UserError

REMEDY = "build it with `make build` (pip install --no-build-isolation --no-deps -e .)"


def load() -> ModuleType:
    """Import `rlseq2seq._C` once; its operators are then in `torch.ops.rlseq2seq`.

    Raises:
        UserError: when the extension was not built, or was built for another release of PyTorch.
    """
    try:
        extension = importlib.import_module("rlseq2seq._C")
    except ModuleNotFoundError as error:
        raise UserError(f"The compiled extension rlseq2seq._C is missing: {REMEDY}.") from error
    except ImportError as error:
        raise UserError(f"The compiled extension rlseq2seq._C does not load ({error}): {REMEDY}.") from error
    built_for = extension.build_facts()["torch"]
    if built_for != torch.__version__:
        raise UserError(
            f"The compiled extension rlseq2seq._C was built for torch {built_for}, not {torch.__version__}: {REMEDY}."
        )
    return extension
