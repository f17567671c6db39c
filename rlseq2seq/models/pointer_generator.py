"""The LSTM pointer-generator (See et al. 2017, arXiv:1704.04368)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq import ops
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.models.encoder import BidirectionalLSTM
from rlseq2seq.models.protocol import Steps, repeat_rows
from rlseq2seq.ops import Attended, Mixture
from rlseq2seq.token_ids import PAD, UNKNOWN

# A gate logit whose sigmoid is 1 in every floating-point type.
_ALWAYS_GENERATE = 100.0


class Memory(NamedTuple):
    """``values`` [B, S, 2E] are the encoder's states and ``keys`` [B, S, A] their projections; ``final`` [B, 2E].

    ``mask`` [B, S] is true at tokens, ``empty`` [B] at sources without any.
    """

    source_ids: Tensor
    mask: Tensor
    empty: Tensor
    values: Tensor
    keys: Tensor
    final: Tensor


class State(NamedTuple):
    """LSTM state ``hidden`` and ``cell`` [N, D], the last ``context`` [N, 2E], and ``coverage`` [N, S], 0 while off."""

    hidden: Tensor
    cell: Tensor
    context: Tensor
    coverage: Tensor


class PointerGenerator(nn.Module):
    """Bidirectional LSTM encoder, LSTM decoder with additive attention fed back as input, copy gate.

    ``uses_coverage`` turns coverage on: its weight exists in every model and starts at 0, so a checkpoint trained
    without goes on with it unchanged until it learns to use it.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.uses_coverage = config, vocabulary_size, False
        states = 2 * config.encoder_size
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_size, padding_idx=PAD)
        self.encoder = BidirectionalLSTM(config.embedding_size, config.encoder_size)
        self.bridge = nn.Linear(states, 2 * config.decoder_size)
        self.input_gates = nn.Linear(config.embedding_size, 4 * config.decoder_size)
        self.recurrent_gates = nn.Linear(states + config.decoder_size, 4 * config.decoder_size, bias=False)
        self.attention_key = nn.Linear(states, config.attention_size, bias=False)
        self.attention_query = nn.Linear(config.decoder_size, config.attention_size)
        self.attention_score = nn.Parameter(torch.empty(config.attention_size))
        self.attention_coverage = nn.Parameter(torch.zeros(config.attention_size))
        self.features = nn.Linear(config.decoder_size + states, config.embedding_size)
        self.gate = nn.Linear(config.decoder_size + states + config.embedding_size, 1) if config.copy else None
        self.output = nn.Linear(config.embedding_size, vocabulary_size)
        self.dropout = nn.Dropout(config.dropout)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=self.config.embedding_size**-0.5)
        with torch.no_grad():
            self.embedding.weight[PAD] = 0
            # A forget gate that starts open (Jozefowicz et al. 2015).
            self.input_gates.bias[self.config.decoder_size : 2 * self.config.decoder_size] += 1
        nn.init.uniform_(self.attention_score, -(self.config.attention_size**-0.5), self.config.attention_size**-0.5)
        nn.init.zeros_(self.output.bias)
        if self.config.tie_embeddings:
            self.output.weight = self.embedding.weight

    def encode(self, sources: Tensor, lengths: Tensor) -> Memory:
        mask = torch.arange(sources.shape[1], device=sources.device) < lengths[:, None]
        values, final = self.encoder(self.dropout(self._embed(sources)), lengths)
        values = self.dropout(values)
        return Memory(sources, mask, ~mask.any(-1), values, self.attention_key(values), final)

    def initial_state(self, memory: Memory) -> State:
        hidden, cell = self.bridge(memory.final).chunk(2, -1)
        context = memory.values.new_zeros(len(memory.values), memory.values.shape[2])
        coverage = torch.zeros_like(memory.mask, dtype=torch.promote_types(context.dtype, torch.float32))
        return State(torch.tanh(hidden), cell, context, coverage)

    def step(self, memory: Memory, state: State, tokens: Tensor) -> tuple[Mixture, State]:
        embedded = self.dropout(self._embed(tokens))
        recurrent = partial(_add_linear, _apply(self.input_gates, embedded), self.recurrent_gates.weight)
        query = partial(_apply, self.attention_query)
        state, attention = self._advance(state, recurrent, query, partial(self._attend, memory))
        features, gate_logits = self._read_out(state.hidden, state.context, embedded)
        empty = memory.empty.repeat_interleave(len(tokens) // len(memory.empty))
        return self._mixture(memory.source_ids, empty, features, gate_logits, attention), state

    def all_steps(self, memory: Memory, tokens: Tensor) -> Steps:
        embedded = self.dropout(self._embed(tokens))
        state = repeat_rows(self.initial_state(memory), len(tokens) // len(memory.empty))
        # What does not depend on the state before is computed for all steps at once, outside the loop.
        recurrent = ops.LinearOverSteps(self.input_gates(embedded), self.recurrent_gates.weight)
        query_bias = self.attention_query.bias.expand(*tokens.shape, -1)
        query = ops.LinearOverSteps(query_bias, self.attention_query.weight)
        coverage_weight = self.attention_coverage if self.uses_coverage else None
        attend = ops.AttentionOverSteps(memory.keys, memory.values, memory.mask, self.attention_score, coverage_weight)
        hidden, contexts, attentions, coverages = [], [], [], []
        for _ in range(tokens.shape[1]):
            coverages.append(state.coverage)
            state, attention = self._advance(state, recurrent, query, attend)
            hidden.append(state.hidden)
            contexts.append(state.context)
            attentions.append(attention)
        attention = torch.stack(attentions, 1)
        features, gate_logits = self._read_out(torch.stack(hidden, 1), torch.stack(contexts, 1), embedded)
        if self.uses_coverage:
            coverage_loss = torch.minimum(attention, torch.stack(coverages, 1)).sum(-1)
        else:
            coverage_loss = attention.new_zeros(attention.shape[:2])
        return Steps(features, gate_logits, attention, coverage_loss)

    def mixture(self, memory: Memory, steps: Steps, row: Tensor, step: Tensor) -> Mixture:
        gate_logits = None if steps.gate_logits is None else steps.gate_logits[row, step]
        source = row // (len(steps.features) // len(memory.empty))
        features, attention = steps.features[row, step], steps.attention[row, step]
        return self._mixture(memory.source_ids[source], memory.empty[source], features, gate_logits, attention)

    def _embed(self, ids: Tensor) -> Tensor:
        """Embeddings of extended ids: words that only the source has are unknown to the table."""
        embedded: Tensor = self.embedding(ids.masked_fill(ids >= self.vocabulary_size, UNKNOWN))
        return embedded

    def _attend(self, memory: Memory, query: Tensor, coverage: Tensor | None) -> Attended:
        weight = None if coverage is None else self.attention_coverage
        return ops.copy_attention(
            query, memory.keys, memory.values, memory.mask, self.attention_score, coverage, weight
        )

    def _advance(
        self,
        state: State,
        recurrent: Callable[[Tensor], Tensor],
        query: Callable[[Tensor], Tensor],
        attend: Callable[[Tensor, Tensor | None], Attended],
    ) -> tuple[State, Tensor]:
        """The recurrence: LSTM cell, then attention, whose context the next cell reads."""
        gates = recurrent(torch.cat([state.context, state.hidden], -1))
        hidden, cell = ops.lstm_cell(gates, state.cell)
        context, attention, _ = attend(query(hidden), state.coverage if self.uses_coverage else None)
        coverage = state.coverage + attention if self.uses_coverage else state.coverage
        return State(hidden, cell, context, coverage), attention

    def _read_out(self, hidden: Tensor, context: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor | None]:
        both = torch.cat([hidden, context], -1)
        features = self.dropout(_apply(self.features, both))
        if self.gate is None:
            return features, None
        return features, self.gate(torch.cat([both, embedded], -1))[..., 0]

    def _mixture(
        self,
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
        return Mixture(features, self.output.weight, self.output.bias, gate_logits, copies, source_ids)


def _add_linear(start: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
    return ops.linear(inputs, weight, start)


def _apply(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """The layer, packed where weights are constant."""
    return ops.linear(inputs, layer.weight, layer.bias)
