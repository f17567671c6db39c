"""What every objective returns."""

from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """``total`` [] is minimised; ``facts`` are scalars worth plotting, detached; ``tokens`` were scored for it."""

    total: Tensor
    facts: dict[str, Tensor]
    tokens: int
