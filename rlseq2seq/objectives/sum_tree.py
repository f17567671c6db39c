"""Draws in proportion to weights that keep changing."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# Operations on small tensors cost more than additions do: two wide levels are several times as fast as many of pairs.
_SIBLINGS = 16


class SumTree(nn.Module):
    """Weights of ``leaves`` leaves, 0 at first, and above each few of them their sum.

    Schaul et al. 2016 (arXiv:1511.05952, appendix B.2.1), but of two levels. n leaves are set by a few operations on
    n rows, and drawn by as many and running sums over all of the upper level. A sum is always made anew from what is
    below it: rounding does not add up over changes.
    """

    def __init__(self, leaves: int) -> None:
        super().__init__()
        weights = torch.zeros(-(-leaves // _SIBLINGS), _SIBLINGS, dtype=torch.float64)
        self.weights = nn.Parameter(weights, requires_grad=False)
        self.sums = nn.Parameter(weights[:, 0].clone(), requires_grad=False)

    @torch.no_grad()
    def set(self, leaves: Tensor, weights: Tensor) -> None:
        """Set ``leaves`` [n] int64 to ``weights`` [n] float64; one that is there twice to the later."""
        self.weights.view(-1)[leaves] = weights
        parents = leaves // _SIBLINGS
        # Running sums, as in a draw: another order of additions would be another sum.
        self.sums[parents] = self.weights.index_select(0, parents).cumsum(1)[:, -1]

    def shares(self, leaves: Tensor) -> Tensor:
        """The probability [n] float64 that a draw is of each of ``leaves`` [n]."""
        return self.weights.view(-1).index_select(0, leaves) / self.sums.sum()

    @torch.no_grad()
    def draw(self, count: int) -> Tensor:
        """``count`` leaves [count] int64, in order: one from each of ``count`` equal parts of the sum of all weights,
        which is above 0. Randomness is PyTorch's global generator's."""
        before = pad(self.sums.cumsum(0), (1, 0))
        up_to = before[1:]
        left_over = (torch.arange(count) + torch.rand(count, dtype=torch.float64)) * (up_to[-1] / count)
        parents = _first_above(up_to, left_over, up_to[-1])
        left_over -= before.index_select(0, parents)
        children = self.weights.index_select(0, parents).cumsum(1)
        return parents * _SIBLINGS + _first_above(children, left_over[:, None], children[:, -1:]).view(-1)


def _first_above(sums: Tensor, values: Tensor, total: Tensor) -> Tensor:
    """Where the running ``sums`` first exceed each of ``values``; what rounding made the ``total``, or more, is
    within the last weight that is not 0."""
    return torch.searchsorted(sums, torch.minimum(values, total.nextafter(total.new_zeros(()))), right=True)
