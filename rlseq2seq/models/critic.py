"""Critics: what a policy's states, and its choices in them, are still worth.

They read the decoder's features, and no gradient flows back into these.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from rlseq2seq.config.critic import CriticConfig
from rlseq2seq.ops import Mixture
from rlseq2seq.ops.mixture import source_ids
from rlseq2seq.token_ids import UNKNOWN


class ActionCritic(nn.Module):
    """Q(s, ·) over the vocabulary and the words that only a source has, by linear heads on a multi-layer perceptron.

    With ``dueling``, Q = V + A - mean A (Wang et al. 2016, arXiv:1511.06581, Eq. 9), the mean over the vocabulary. A
    word that only the source has is worth what the unknown word is, and more or less by how much it is attended to.
    """

    def __init__(self, feature_size: int, vocabulary_size: int, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden, size = _perceptron(feature_size, config.layers)
        self.actions = _zeros(size, vocabulary_size)
        self.copies = _zeros(size, 1)
        self.value = _zeros(size, 1) if config.dueling else None

    def forward(self, mixture: Mixture, extended_size: int) -> Tensor:
        """Q [N, X] of the states that ``mixture`` is of, for ``extended_size`` X = V plus the copies of a source at
        most, on the critic's device. Of a word that its source lacks it means nothing."""
        hidden = self.hidden(mixture.features.detach().to(self.copies.weight))
        values: Tensor = self.actions(hidden)
        if self.value is not None:
            values = values - values.mean(1, keepdim=True) + self.value(hidden)
        vocabulary_size = values.shape[1]
        copies = extended_size - vocabulary_size
        if copies == 0:
            return values
        attended = values.new_zeros(len(values), extended_size)
        ids = source_ids(mixture).to(values.device)
        attended = attended.scatter_add(1, ids, mixture.attention.detach().to(values))
        unknown = values[:, UNKNOWN, None].expand(-1, copies)
        of_copies = unknown + self.copies(hidden) * attended[:, vocabulary_size:]
        return torch.cat([values, of_copies], 1)


class StateCritic(nn.Module):
    """V(s), by a linear head on a multi-layer perceptron."""

    def __init__(self, feature_size: int, config: CriticConfig) -> None:
        super().__init__()
        self.hidden, size = _perceptron(feature_size, config.layers)
        self.value = _zeros(size, 1)

    def forward(self, features: Tensor) -> Tensor:
        """V [N] of ``features`` [N, F]."""
        values: Tensor = self.value(self.hidden(features.detach().to(self.value.weight)))[:, 0]
        return values


def expectation(values: Tensor, log_probs: Tensor) -> Tensor:
    """sum over a of pi(a | s) Q(s, a), [N], for Q and log pi [N, X]."""
    found: Tensor = torch.linalg.vecdot(log_probs.exp(), values)
    return found


def _perceptron(inputs: int, layers: tuple[int, ...]) -> tuple[nn.Sequential, int]:
    """It, and the size of what it puts out. Features of any scale come in."""
    sizes = inputs, *layers
    parts: list[nn.Module] = [nn.LayerNorm(inputs)]
    for size, following in pairwise(sizes):
        parts += [nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*parts), sizes[-1]


def _zeros(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts at 0, as nothing is known of any value."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
