"""What every objective returns."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Facts = dict[str, Tensor]


def nothing() -> Facts:
    """What most objectives do after an update."""
    return {}


@dataclass(frozen=True)
class Loss:
    """``total`` [] is minimised; ``facts`` are scalars worth plotting, detached; ``tokens`` were scored for it.

    Where ``total`` has no gradient the model waits. ``after`` changes what the objective keeps beside the model, and
    has more facts to tell: the training loop calls it once the update is made, so that a step that is made again,
    after a kill, finds what it found.
    """

    total: Tensor
    facts: Facts
    tokens: int
    after: Callable[[], Facts] = nothing
