"""The LSTM pointer-generator (See et al. 2017, arXiv:1704.04368), with the attention of Paulus et al. 2018
(arXiv:1705.04304) where it is asked for."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlseq2seq import ops
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.models.encoder import BidirectionalLSTM
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.protocol import Steps, repeat_rows
from rlseq2seq.ops import Attended, Mixture


class Memory(NamedTuple):
    """``values`` [B, S, 2E] are the encoder's states and ``keys`` [B, S, A] what queries meet; ``final`` [B, 2E].

    ``mask`` [B, S] is true at tokens, ``empty`` [B] at sources without any. ``output_weight`` [V, F] has no rows: it is
    here so that it is made once for all steps, and its gradient with that of the encoder.
    """

    source_ids: Tensor
    mask: Tensor
    empty: Tensor
    values: Tensor
    keys: Tensor
    final: Tensor
    output_weight: Tensor


class State(NamedTuple):
    """LSTM state ``hidden`` and ``cell`` [N, D], the last ``context`` [N, 2E], and ``coverage`` [N, S], 0 while off.

    ``past`` [N, S] are the log-sum-exps of earlier energies, for temporal attention, and ``written`` [N, t, D] the
    hidden states of t earlier steps, for intra-decoder attention; of no elements without. `step` writes ``written``
    anew, longer by one: as many bytes as attending to it reads.
    """

    hidden: Tensor
    cell: Tensor
    context: Tensor
    coverage: Tensor
    past: Tensor
    written: Tensor


class PointerGenerator(PointerModel):
    """Bidirectional LSTM encoder, LSTM decoder with attention fed back as input, copy gate.

    ``uses_coverage`` turns coverage on: its weight exists in every model with additive scores and starts at 0, so a
    checkpoint trained without goes on with it unchanged until it learns to use it.
    """

    parallel = False

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        states, attention = 2 * config.encoder_size, config.attention
        additive = attention.score == "additive"
        read_out = config.decoder_size + states + config.decoder_size * attention.intra_decoder
        self.encoder = BidirectionalLSTM(config.embedding_size, config.encoder_size)
        self.bridge = nn.Linear(states, 2 * config.decoder_size)
        self.input_gates = nn.Linear(config.embedding_size, 4 * config.decoder_size)
        self.recurrent_gates = nn.Linear(states + config.decoder_size, 4 * config.decoder_size, bias=False)
        # Bilinear scores are h W s: the keys are the states themselves.
        self.attention_key = nn.Linear(states, config.attention_size, bias=False) if additive else nn.Identity()
        self.attention_query = nn.Linear(config.decoder_size, config.attention_size if additive else states, additive)
        self.attention_score = nn.Parameter(torch.empty(config.attention_size)) if additive else None
        self.attention_coverage = nn.Parameter(torch.zeros(config.attention_size)) if additive else None
        self.features = nn.Linear(read_out, config.embedding_size)
        self._add_head(read_out + config.embedding_size)
        intra = nn.Linear(config.decoder_size, config.decoder_size, bias=False) if attention.intra_decoder else None
        self.intra_query = intra
        self._initialise()

    def _initialise(self) -> None:
        with torch.no_grad():
            # A forget gate that starts open (Jozefowicz et al. 2015).
            self.input_gates.bias[self.config.decoder_size : 2 * self.config.decoder_size] += 1
        if self.attention_score is not None:
            bound = self.config.attention_size**-0.5
            nn.init.uniform_(self.attention_score, -bound, bound)

    def encode(self, sources: Tensor, lengths: Tensor) -> Memory:
        mask = torch.arange(sources.shape[1], device=sources.device) < lengths[:, None]
        values, final = self.encoder(self.dropout(self.embed(sources)), lengths)
        values = self.dropout(values)
        return Memory(sources, mask, ~mask.any(-1), values, self.attention_key(values), final, self._output_weight())

    def initial_state(self, memory: Memory) -> State:
        hidden, cell = self.bridge(memory.final).chunk(2, -1)
        context = memory.values.new_zeros(len(memory.values), memory.values.shape[2])
        coverage = torch.zeros_like(memory.mask, dtype=torch.promote_types(context.dtype, torch.float32))
        temporal = self.config.attention.temporal
        past = torch.full_like(coverage, -torch.inf) if temporal else coverage[:, :0]
        written = hidden.new_empty(len(hidden), 0, hidden.shape[1])
        return State(torch.tanh(hidden), cell, context, coverage, past, written)

    def step(self, memory: Memory, state: State, inputs: Tensor) -> tuple[Mixture, State]:
        embedded = self.dropout(inputs)
        recurrent = partial(_add_linear, _apply(self.input_gates, embedded), self.recurrent_gates.weight)
        query = partial(_apply, self.attention_query)
        state, attention = self._advance(state, recurrent, query, partial(self._attend, memory))
        contexts = [state.context]
        if self.intra_query is not None:
            contexts.append(_attend_to_written(_apply(self.intra_query, state.hidden), state.written))
            state = state._replace(written=torch.cat([state.written, state.hidden[:, None]], 1))
        features, gate_logits = self._read_out(state.hidden, contexts, embedded)
        return self._next(memory, features, gate_logits, attention), state

    def all_steps(self, memory: Memory, inputs: Tensor) -> Steps:
        embedded = self.dropout(inputs)
        state = repeat_rows(self.initial_state(memory), len(inputs) // len(memory.empty))
        # What does not depend on the state before is computed for all steps at once, outside the loop.
        recurrent = ops.LinearOverSteps(self.input_gates(embedded), self.recurrent_gates.weight)
        query_weight, query_bias = self.attention_query.weight, self.attention_query.bias
        query_start = query_weight.new_zeros(len(query_weight)) if query_bias is None else query_bias
        query = ops.LinearOverSteps(query_start.expand(*inputs.shape[:2], -1), query_weight)
        coverage_weight = self.attention_coverage if self.uses_coverage else None
        attend = ops.AttentionOverSteps(memory.keys, memory.values, memory.mask, self.attention_score, coverage_weight)
        states, attentions, coverages = [], [], []
        for _ in range(inputs.shape[1]):
            coverages.append(state.coverage)
            state, attention = self._advance(state, recurrent, query, attend)
            states.append(state)
            attentions.append(attention)
        attention = torch.stack(attentions, 1)
        hidden, contexts = torch.stack([s.hidden for s in states], 1), [torch.stack([s.context for s in states], 1)]
        if self.intra_query is not None:
            contexts.append(_attend_to_all_before(self.intra_query(hidden), hidden))
        features, gate_logits = self._read_out(hidden, contexts, embedded)
        if self.uses_coverage:
            coverage_loss = torch.minimum(attention, torch.stack(coverages, 1)).sum(-1)
        else:
            coverage_loss = attention.new_zeros(attention.shape[:2])
        return Steps(features, gate_logits, attention, coverage_loss)

    def _attend(self, memory: Memory, query: Tensor, coverage: Tensor | None, past: Tensor | None) -> Attended:
        weight = None if coverage is None else self.attention_coverage
        return ops.copy_attention(
            query, memory.keys, memory.values, memory.mask, self.attention_score, coverage, weight, past
        )

    def _advance(
        self,
        state: State,
        recurrent: Callable[[Tensor], Tensor],
        query: Callable[[Tensor], Tensor],
        attend: Callable[[Tensor, Tensor | None, Tensor | None], Attended],
    ) -> tuple[State, Tensor]:
        """The recurrence: LSTM cell, then attention, whose context the next cell reads."""
        gates = recurrent(torch.cat([state.context, state.hidden], -1))
        hidden, cell = ops.lstm_cell(gates, state.cell)
        coverage = state.coverage if self.uses_coverage else None
        past = state.past if self.config.attention.temporal else None
        context, attention, past = attend(query(hidden), coverage, past)
        coverage = state.coverage if coverage is None else coverage + attention
        return State(hidden, cell, context, coverage, state.past if past is None else past, state.written), attention

    def _read_out(self, hidden: Tensor, contexts: list[Tensor], embedded: Tensor) -> tuple[Tensor, Tensor | None]:
        read = torch.cat([hidden, *contexts], -1)
        features = self.dropout(_apply(self.features, read))
        if self.gate is None:
            return features, None
        return features, self.gate(torch.cat([read, embedded], -1))[..., 0]


def _attend_to_written(query: Tensor, written: Tensor) -> Tensor:
    """Context [N, D] of the states ``written`` [N, t, D] for ``query`` [N, D], 0 if there are none (Eq. 6 to 8)."""
    everywhere = torch.ones(written.shape[:2], dtype=torch.bool, device=written.device)
    return ops.copy_attention(query, written, written, everywhere, None).context


def _attend_to_all_before(queries: Tensor, hidden: Tensor) -> Tensor:
    """`_attend_to_written` [N, T, D] for each of ``queries`` [N, T, D] and the states ``hidden`` before it.

    These contexts are no part of the recurrence, so all steps are one product; calls of the operator would leave
    autograd T gradients of all states to add up.
    """
    place = torch.arange(hidden.shape[1], device=hidden.device)
    before = place < place[:, None]
    energies = queries @ hidden.mT
    # A finite floor, not -inf: the first step has nothing before it and would be 0 / 0.
    weights = energies.masked_fill(~before, torch.finfo(energies.dtype).min).softmax(-1) * before
    return weights @ hidden


def _add_linear(start: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
    return ops.linear(inputs, weight, start)


def _apply(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """The layer, packed where weights are constant."""
    return ops.linear(inputs, layer.weight, layer.bias)
