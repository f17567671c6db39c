"""An average of the weights that a run has gone through."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rlseq2seq.models.saved import set_weights, weights


class MovingAverage(nn.Module):
    """(1 - b) sum_i b^(t - i) w_i / (1 - b^t) of the weights w_1 to w_t after each of t updates, b being ``decay``.

    The temporal averaging of Kingma and Ba 2015 (arXiv:1412.6980, section 7.2): what training starts from has no part
    in it. It looks back over some 1 / (1 - b) updates. Its parameters are the averages, which have no gradients: they
    go into the checkpoints of a run as those of a model do.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.averages = nn.ParameterList(nn.Parameter(x.clone(), requires_grad=False) for x in weights(model).values())

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights of ``model`` after its ``step``-th update, counted from 1."""
        share = (1 - self._decay) / (1 - self._decay**step)
        move = get_ema_multi_avg_fn(1 - share)  # type: ignore[no-untyped-call]
        move(list(self.averages), list(weights(model).values()), step)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """For as long as the context lasts, ``model`` has the averages for its weights."""
        own = {name: tensor.clone() for name, tensor in weights(model).items()}
        set_weights(model, dict(zip(own, self.averages, strict=True)))
        try:
            yield
        finally:
            set_weights(model, own)
