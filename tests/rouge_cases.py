"""Inputs for the tests of rouge_l and rouge_n."""

import torch
from torch import Tensor

# Around the words and stretches of both kernels: 63 tokens, 64, 127, two stretches, several.
SIZES = [0, 1, 2, 31, 32, 33, 63, 64, 65, 126, 127, 128, 129, 254, 255, 513]

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def random_inputs(seed: int, references: int, shared: int, time: int, reference_time: int, ids: int = 30) -> Inputs:
    """Ids from a small set, so that much matches; half of the lengths are full."""
    draw = torch.Generator().manual_seed(seed)

    def rows(count: int, width: int) -> tuple[Tensor, Tensor]:
        lengths = torch.randint(0, width + 1, (count,), generator=draw)
        full = torch.rand(count, generator=draw) < 0.5
        return torch.randint(0, ids, (count, width), generator=draw), torch.where(full, width, lengths)

    return *rows(references * shared, time), *rows(references, reference_time)


def lists(hypotheses: list[list[int]], references: list[list[int]], padding: int = 0) -> Inputs:
    """Padded rows and lengths of lists of ids."""

    def rows(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, sequences))
        padded = [row + [padding] * (width - len(row)) for row in sequences]
        return torch.tensor(padded, dtype=torch.int64), torch.tensor([len(row) for row in sequences])

    return *rows(hypotheses), *rows(references)


def random_growth(seed: int, hypotheses: Tensor, ends: int) -> tuple[Tensor, Tensor]:
    """Which columns continue the word before them, and of how many columns scores are asked, some of more than all."""
    draw = torch.Generator().manual_seed(seed)
    rows, time = hypotheses.shape
    continues = torch.rand(rows, time, generator=draw) < 0.4
    return continues, torch.randint(0, time + 3, (rows, ends), generator=draw).sort(1).values
