"""What every objective returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """``total`` [] is minimised; ``facts`` are scalars worth plotting, detached; ``tokens`` were scored for it.

    ``remembered`` holds new values of what the objective keeps beside the model, by parameter name: the training loop
    stores them with the update, so that a step that is made again, after a kill, finds what it found.
    """

    total: Tensor
    facts: dict[str, Tensor]
    tokens: int
    remembered: dict[str, Tensor] = field(default_factory=dict)
