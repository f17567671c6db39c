"""Layers of a Transformer: pre-norm, without biases.

They work on rows [M, D], one for each place of each text, so that each linear layer is one matrix product. What a row
attends to is said by whoever calls a layer.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from rlseq2seq import ops

# From what a layer projects its rows to, [M, P, H, d] for H heads (P is 3 for queries, keys and values, 1 for queries
# alone), to the contexts [M, H, d].
Attend = Callable[[Tensor], Tensor]

# Cosines and sines [T, 1, 1, d / 2] of the angles at T places.
Rotation = tuple[Tensor, Tensor]


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864): scores depend on how far apart two places are."""

    frequencies: Tensor

    def __init__(self, head_size: int) -> None:
        super().__init__()
        exponents = torch.arange(0, head_size, 2, dtype=torch.float64) / head_size
        self.register_buffer("frequencies", (10_000**-exponents).float(), persistent=False)

    def forward(self, place: Tensor) -> Rotation:
        """The rotation at ``place`` [T]."""
        angles = (place[:, None] * self.frequencies)[:, None, None]
        return angles.cos(), angles.sin()


def turned(projected: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, [N, H, T, d] each, of ``projected`` [N, T, 3, H, d]; the first two turned."""
    values = projected[:, :, 2]
    queries_keys = projected[:, :, :2]
    if rotation is not None:
        cosines, sines = rotation
        first, second = queries_keys.chunk(2, -1)
        queries_keys = torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)
    queries, keys = queries_keys.unbind(2)
    return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2) but for the attending itself."""

    def __init__(self, size: int, heads: int, parts: int) -> None:
        super().__init__()
        self.shape = parts, heads, size // heads
        self.norm = nn.LayerNorm(size, bias=False)
        self.inputs = nn.Linear(size, parts * size, bias=False)
        self.outputs = nn.Linear(size, size, bias=False)

    def forward(self, rows: Tensor, attend: Attend) -> Tensor:
        projected = ops.linear(self.norm(rows), self.inputs.weight).view(len(rows), *self.shape)
        return ops.linear(attend(projected).flatten(1), self.outputs.weight)


class FeedForward(nn.Module):
    """Two linear layers with a GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) between them."""

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size, bias=False)
        self.inputs = nn.Linear(size, hidden_size, bias=False)
        self.outputs = nn.Linear(hidden_size, size, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        return ops.linear(gelu(ops.linear(self.norm(rows), self.inputs.weight)), self.outputs.weight)


class Layer(nn.Module):
    """Attentions, one for each number of ``parts``, and a feed-forward network, each added to what it reads."""

    def __init__(self, size: int, heads: int, hidden_size: int, parts: tuple[int, ...], dropout: nn.Dropout) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(Attention(size, heads, each) for each in parts)
        self.feed_forward = FeedForward(size, hidden_size)
        self.dropout = dropout

    def forward(self, rows: Tensor, *attends: Attend) -> Tensor:
        """Rows [M, D] for ``rows`` [M, D] and what each attention attends to."""
        for attention, attend in zip(self.attentions, attends, strict=True):
            rows = rows + self.dropout(attention(rows, attend))
        added: Tensor = rows + self.dropout(self.feed_forward(rows))
        return added


def initialise(layers: nn.ModuleList) -> None:
    """Outputs of unit variance for normalised inputs, and of the sum over all that ``layers`` add (Radford et al. 2019,
    GPT-2, section 2.3)."""
    parts = [part for part in layers.modules() if isinstance(part, Attention | FeedForward)]
    for part in parts:
        nn.init.normal_(part.inputs.weight, std=part.inputs.in_features**-0.5)
        nn.init.normal_(part.outputs.weight, std=(part.outputs.in_features * len(parts)) ** -0.5)
