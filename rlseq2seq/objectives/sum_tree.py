"""Draws in proportion to weights that keep changing."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class SumTree(nn.Module):
    """Weights of ``leaves`` leaves, 0 at first, and above them sums of pairs up to the sum of all.

    Schaul et al. 2016 (arXiv:1511.05952, appendix B.2.1). n leaves are set, or drawn, by log2 ``leaves`` operations on
    n numbers at most. A sum is always made anew from the two below it: rounding does not add up over changes.
    """

    def __init__(self, leaves: int) -> None:
        super().__init__()
        self._first = _power_of_two(leaves)
        # The sum of all is in place 1, those that make i in 2 i and 2 i + 1, and leaves from `_first` on.
        self.sums = nn.Parameter(torch.zeros(2 * self._first, dtype=torch.float64), requires_grad=False)

    @torch.no_grad()
    def set(self, leaves: Tensor, weights: Tensor) -> None:
        """Set ``leaves`` [n] int64 to ``weights`` [n] float64; one that is there twice to the later."""
        places = leaves + self._first
        self.sums[places] = weights
        level = self._first // 2
        while level:
            if level < len(leaves):  # then sums of all of it are cheaper
                torch.add(*self.sums[2 * level : 4 * level].view(-1, 2).unbind(1), out=self.sums[level : 2 * level])
            else:
                places = places >> 1
                self.sums[places] = self.sums.view(-1, 2).index_select(0, places).sum(1)
            level //= 2

    def shares(self, leaves: Tensor) -> Tensor:
        """The probability [n] float64 that a draw is of each of ``leaves`` [n]."""
        return self.sums[leaves + self._first] / self.sums[1]

    @torch.no_grad()
    def draw(self, count: int, among: int) -> Tensor:
        """``count`` leaves [count] int64, in order, of the first ``among``, which are all that may weigh anything: one
        from each of ``count`` equal parts of the sum of all. Randomness is PyTorch's global generator's."""
        level = min(_power_of_two(count), self._first)
        # Up to here the levels are narrower than the sample.
        up_to = pad(self.sums[level : 2 * level].cumsum(0), (1, 0))
        left_over = (torch.arange(count) + torch.rand(count, dtype=torch.float64)) * (up_to[-1] / count)
        places = torch.searchsorted(up_to[1:], left_over, right=True).clamp_(max=level - 1)
        left_over -= up_to[places]
        places += level
        while level < self._first:
            places *= 2
            left = self.sums.index_select(0, places)
            goes_right = left_over >= left
            left_over -= left * goes_right
            places += goes_right
            level *= 2
        # By rounding, as much may be left over as the last leaf weighs: that ends past it.
        return (places - self._first).clamp_(max=among - 1)


def _power_of_two(number: int) -> int:
    """The smallest one that is no smaller."""
    return 1 << (number - 1).bit_length()
