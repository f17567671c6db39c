"""The LSTM pointer-generator (See et al. 2017, arXiv:1704.04368)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq import ops
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.models.encoder import BidirectionalLSTM
from rlseq2seq.models.protocol import Steps
from rlseq2seq.ops import Mixture
from rlseq2seq.token_ids import PAD, UNKNOWN

# A gate logit whose sigmoid is 1 in every floating-point type.
_ALWAYS_GENERATE = 100.0


class Memory(NamedTuple):
    """``values`` [B, S, 2E] are the encoder's states and ``keys`` [B, S, A] their projections; ``final`` [B, 2E]."""

    source_ids: Tensor
    mask: Tensor
    values: Tensor
    keys: Tensor
    final: Tensor


class State(NamedTuple):
    """LSTM state ``hidden`` and ``cell`` [N, D], the last ``context`` [N, 2E], and ``coverage`` [N, S]."""

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
        return Memory(sources, mask, values, self.attention_key(values), final)

    def initial_state(self, memory: Memory) -> State:
        hidden, cell = self.bridge(memory.final).chunk(2, -1)
        context = memory.values.new_zeros(len(memory.values), memory.values.shape[2])
        return State(torch.tanh(hidden), cell, context, torch.zeros_like(memory.mask, dtype=context.dtype))

    def step(self, memory: Memory, state: State, tokens: Tensor) -> tuple[Mixture, State]:
        embedded = self.dropout(self._embed(tokens))
        state, attention = self._advance(memory, state, self.input_gates(embedded))
        features, gate_logits = self._read_out(state.hidden, state.context, embedded)
        has_tokens = memory.mask.any(-1)
        return self._mixture(memory.source_ids, has_tokens, features, gate_logits, attention), state

    def all_steps(self, memory: Memory, tokens: Tensor) -> Steps:
        embedded = self.dropout(self._embed(tokens))
        state = self.initial_state(memory)
        hidden, contexts, attentions, coverages = [], [], [], []
        # What does not depend on the state before is computed for all steps at once, outside the loop.
        for gates in self.input_gates(embedded).unbind(1):
            coverages.append(state.coverage)
            state, attention = self._advance(memory, state, gates)
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
        source_ids, has_tokens = memory.source_ids[row], memory.mask.any(-1)[row]
        return self._mixture(source_ids, has_tokens, steps.features[row, step], gate_logits, steps.attention[row, step])

    def _embed(self, ids: Tensor) -> Tensor:
        """Embeddings of extended ids: words that only the source has are unknown to the table."""
        embedded: Tensor = self.embedding(ids.masked_fill(ids >= self.vocabulary_size, UNKNOWN))
        return embedded

    def _advance(self, memory: Memory, state: State, input_gates: Tensor) -> tuple[State, Tensor]:
        """The recurrence: LSTM cell, then attention, whose context the next cell reads."""
        recurrent = torch.cat([state.context, state.hidden], -1)
        gates = torch.addmm(input_gates, recurrent, self.recurrent_gates.weight.T)
        hidden, cell = ops.lstm_cell(gates, state.cell)
        coverage = (state.coverage, self.attention_coverage) if self.uses_coverage else ()
        context, attention = ops.copy_attention(
            self.attention_query(hidden), memory.keys, memory.values, memory.mask, self.attention_score, *coverage
        )
        return State(hidden, cell, context, state.coverage + attention), attention

    def _read_out(self, hidden: Tensor, context: Tensor, embedded: Tensor) -> tuple[Tensor, Tensor | None]:
        both = torch.cat([hidden, context], -1)
        features = self.dropout(self.features(both))
        if self.gate is None:
            return features, None
        return features, self.gate(torch.cat([both, embedded], -1))[..., 0]

    def _mixture(
        self,
        source_ids: Tensor,
        has_tokens: Tensor,
        features: Tensor,
        gate_logits: Tensor | None,
        attention: Tensor,
    ) -> Mixture:
        if gate_logits is not None:
            # An empty source has nothing to copy: what the gate gave to copies would be lost, and the sum below 1.
            gate_logits = gate_logits.masked_fill(~has_tokens, _ALWAYS_GENERATE)
        return Mixture(features, self.output.weight, self.output.bias, gate_logits, attention, source_ids)
