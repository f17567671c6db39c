from typing import NamedTuple

import torch
from torch import Tensor

from rlseq2seq.models.protocol import repeat_rows, select_rows


class Rows(NamedTuple):
    ids: Tensor
    states: Tensor


ROWS = Rows(torch.tensor([3, 1, 2]), torch.tensor([[3.0, 30.0], [1.0, 10.0], [2.0, 20.0]]))


def test_select_rows_takes_the_same_rows_of_every_tensor() -> None:
    found = select_rows(ROWS, torch.tensor([2, 0, 0, 1]))
    assert isinstance(found, Rows)
    assert found.ids.tolist() == found.states[:, 0].tolist() == [2, 3, 3, 1]


def test_repeat_rows_keeps_the_copies_of_a_row_together() -> None:
    found = repeat_rows(ROWS, 2)
    assert isinstance(found, Rows)
    assert found.ids.tolist() == found.states[:, 0].tolist() == [3, 3, 1, 1, 2, 2]
