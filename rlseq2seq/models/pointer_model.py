"""What models have in common: the embedding of words, the copy gate, and the output layer."""

from typing import Any

import torch
from torch import Tensor, nn

from rlseq2seq.config.model import ModelConfig
from rlseq2seq.models.protocol import Seq2Seq, Steps
from rlseq2seq.ops import Mixture
from rlseq2seq.token_ids import PAD, UNKNOWN

# A gate logit whose sigmoid is 1 in every floating-point type.
_ALWAYS_GENERATE = 100.0


class PointerModel(nn.Module, Seq2Seq[Any, Any]):
    """A model that generates words and copies them (See et al. 2017, arXiv:1704.04368), but for encoder and decoder.

    Its memory has ``source_ids`` [B, S], ``empty`` [B], true at sources without a token, and ``output_weight`` [V, F].
    """

    gate: nn.Linear | None
    output: nn.Linear
    projection: nn.Linear | None

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.uses_coverage = config, vocabulary_size, False
        self.feature_size = config.embedding_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)

    def _add_head(self, gate_inputs: int) -> None:
        """The last layers, whose gate reads so many numbers, and how words start."""
        size = self.config.embedding_size
        self.gate = nn.Linear(gate_inputs, 1) if self.config.copy else None
        self.output = nn.Linear(size, self.vocabulary_size)
        projected = self.config.output_weights == "projected"
        self.projection = nn.Linear(size, size, bias=False) if projected else None
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        nn.init.zeros_(self.output.bias)
        with torch.no_grad():
            self.embedding.weight[PAD] = 0
        if self.config.output_weights != "separate":
            self.output.weight = self.embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens.masked_fill(tokens >= self.vocabulary_size, UNKNOWN))
        return embedded

    def embedding_mixture(self, weights: Tensor) -> Tensor:
        known, copied = weights[..., : self.vocabulary_size], weights[..., self.vocabulary_size :]
        table = self.embedding.weight
        return known @ table + copied.sum(-1, keepdim=True) * table[UNKNOWN]

    def mixture(self, memory: Any, steps: Steps, row: Tensor, step: Tensor) -> Mixture:
        gate_logits = None if steps.gate_logits is None else steps.gate_logits[row, step]
        source = row // (len(steps.features) // len(memory.empty))
        features, attention = steps.features[row, step], steps.attention[row, step]
        return self._mixture(memory, memory.source_ids[source], memory.empty[source], features, gate_logits, attention)

    def _next(self, memory: Any, features: Tensor, gate_logits: Tensor | None, attention: Tensor) -> Mixture:
        """The distributions after a step of N hypotheses, which share the sources of ``memory``."""
        empty = memory.empty.repeat_interleave(len(features) // len(memory.empty))
        return self._mixture(memory, memory.source_ids, empty, features, gate_logits, attention)

    def _mixture(
        self,
        memory: Any,
        source_ids: Tensor,
        empty: Tensor,
        features: Tensor,
        gate_logits: Tensor | None,
        attention: Tensor,
    ) -> Mixture:
        if gate_logits is not None:
            # An empty source has nothing to copy: what the gate gave to copies would be lost, and the sum below 1.
            gate_logits = gate_logits.masked_fill(empty, _ALWAYS_GENERATE)
        copies = attention.to(features.dtype)
        return Mixture(features, memory.output_weight, self.output.bias, gate_logits, copies, source_ids)

    def _output_weight(self) -> Tensor:
        if self.projection is None:
            return self.output.weight
        return torch.tanh(self.projection(self.embedding.weight))
