"""A Transformer that generates and copies words (Vaswani et al. 2017, arXiv:1706.03762; pre-norm: Xiong et al. 2020,
arXiv:2002.04745; copying: See et al. 2017, arXiv:1704.04368)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rlseq2seq import ops
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.protocol import Steps
from rlseq2seq.models.transformer_layers import Layer, Rotary, Rotation, initialise, turned
from rlseq2seq.ops import Mixture
from rlseq2seq.token_ids import PAD


class Memory(NamedTuple):
    """``keys_values`` [B, L, 2, H, S, d] are what each of L decoder layers attends to in the source, and ``copy_keys``
    [B, S, d] what the copy distribution is made from (of no elements for a model that cannot copy); 0 at padding.

    ``mask`` [B, S] is true at tokens, ``empty`` [B] at sources without any. ``readable`` [B, 1, 1, S] is the mask, but
    has the first place of an empty source too: a softmax over something, and what is read there is 0.
    ``output_weight`` [V, D] has no rows.
    """

    source_ids: Tensor
    mask: Tensor
    empty: Tensor
    readable: Tensor
    keys_values: Tensor
    copy_keys: Tensor
    output_weight: Tensor


class State(NamedTuple):
    """``cache`` [N, L, 2, H, T, d]: keys and values of what was written, at the first ``place`` [N] of T places.

    It is as large as it may get from the start, so that steps write into the same memory.
    """

    cache: Tensor
    place: Tensor


class Transformer(PointerModel):
    """Pre-norm encoder and decoder of as many layers each, whose size is that of the embeddings.

    Copies have the weights of one head, on top of the decoder (``copy_head`` null) or among those of its layers. All
    other attention is PyTorch's fused one.

    Args:
        max_source_tokens: of a source, for learned positions.
        max_target_tokens: of an output: so many steps may follow an initial state.
    """

    parallel = True

    def __init__(
        self, config: ModelConfig, vocabulary_size: int, max_source_tokens: int, max_target_tokens: int
    ) -> None:
        super().__init__(config, vocabulary_size)
        shape, size = config.transformer, config.embedding_size
        self.max_target_tokens, head_size = max_target_tokens, size // shape.heads
        self.head_shape = shape.heads, head_size
        sizes, linear = (size, shape.heads, shape.feed_forward_size), partial(nn.Linear, bias=False)
        self.encoder = nn.ModuleList(Layer(*sizes, (3,), self.dropout) for _ in range(shape.layers))
        self.decoder = nn.ModuleList(Layer(*sizes, (3, 1), self.dropout) for _ in range(shape.layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(size, bias=False), nn.LayerNorm(size, bias=False)
        self.keys_values = linear(size, shape.layers * 2 * size)
        dedicated = config.copy and shape.copy_head is None
        self.copy_key = linear(size, head_size) if dedicated else None
        self.copy_query = linear(size, head_size) if dedicated else None
        learned = shape.positions == "learned"
        self.rotary = None if learned else Rotary(head_size)
        self.source_positions = nn.Embedding(max_source_tokens, size) if learned else None
        self.target_positions = nn.Embedding(max_target_tokens, size) if learned else None
        self._add_head(size)
        self._initialise()

    def _initialise(self) -> None:
        initialise(self.encoder)
        initialise(self.decoder)
        for layer in (self.keys_values, self.copy_key, self.copy_query, self.source_positions, self.target_positions):
            if layer is not None:
                nn.init.normal_(layer.weight, std=self.config.embedding_size**-0.5)

    def encode(self, sources: Tensor, lengths: Tensor) -> Memory:
        if sources.shape[1] == 0:
            sources = sources.new_full((len(sources), 1), PAD)  # a place to read, where nothing is
        place = torch.arange(sources.shape[1], device=sources.device)
        mask = place < lengths[:, None]
        empty = ~mask.any(-1)
        readable = (mask | (empty[:, None] & (place == 0)))[:, None, None]
        attend = partial(_attend_together, len(sources), self._rotation(place), readable)
        rows = self._read(self.embed(sources), self.source_positions, place)
        for layer in self.encoder:
            rows = layer(rows, attend)
        rows = self.encoder_norm(rows) * mask.flatten()[:, None]
        keys_values = self.keys_values(rows).view(*sources.shape, -1, 2, *self.head_shape)
        # Many steps read it: side by side for each head.
        keys_values = keys_values.permute(0, 2, 3, 4, 1, 5).contiguous()
        copy_keys = self._copy_keys(rows.view(*sources.shape, -1), keys_values)
        return Memory(sources, mask, empty, readable, keys_values, copy_keys, self._output_weight())

    def initial_state(self, memory: Memory) -> State:
        batch, layers, _, heads, _, size = memory.keys_values.shape
        cache = memory.keys_values.new_zeros(batch, layers, 2, heads, self.max_target_tokens, size)
        return State(cache, torch.zeros_like(memory.empty, dtype=torch.int64))

    def step(self, memory: Memory, state: State, inputs: Tensor) -> tuple[Mixture, State]:
        place = state.place[:1]
        write = _Writing(state.cache, place, self._rotation(place))
        rows = self._read(inputs[:, None], self.target_positions, place)
        mixture = self._next(memory, *self._decode(memory, rows, write))
        return mixture, State(write.cache(), state.place + 1)

    def all_steps(self, memory: Memory, inputs: Tensor) -> Steps:
        place = torch.arange(inputs.shape[1], device=inputs.device)
        rotation = self._rotation(place)
        rows = self._read(inputs, self.target_positions, place)
        attend = partial(_attend_together, len(inputs), rotation, None)
        features, gate_logits, copies = self._decode(memory, rows, lambda _, projected: attend(projected))
        shape = inputs.shape[:2]
        gate_logits = None if gate_logits is None else gate_logits.view(shape)
        return Steps(features.view(*shape, -1), gate_logits, copies.view(*shape, -1), features.new_zeros(shape))

    def _rotation(self, place: Tensor) -> Rotation | None:
        return None if self.rotary is None else self.rotary(place)

    def _read(self, embedded: Tensor, positions: nn.Embedding | None, place: Tensor) -> Tensor:
        """Rows [N * T, D], of unit variance at first, for ``embedded`` [N, T, D] at ``place`` [T]."""
        if positions is not None:
            embedded = embedded + positions(place)
        rows: Tensor = self.dropout(embedded * embedded.shape[2] ** 0.5).flatten(0, 1)
        return rows

    def _decode(
        self, memory: Memory, rows: Tensor, attend_to_written: Callable[[int, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features [M, D], gate logits [M] and copy distributions [M, S] for ``rows`` [M, D], M / B of each source in a
        row, where a layer's attention to what was written is that of ``attend_to_written`` (layer, projections)."""
        queries: list[Tensor] = []

        def attend_to_source(number: int, projected: Tensor) -> Tensor:
            queries.append(projected[:, 0])
            return _attend_to_source(memory, number, queries[number])

        for number, layer in enumerate(self.decoder):
            rows = layer(rows, partial(attend_to_written, number), partial(attend_to_source, number))
        features: Tensor = self.decoder_norm(rows)
        if self.gate is None:
            return features, None, features.new_zeros(len(features), memory.mask.shape[1])
        copies = _copy_distribution(memory, self._copy_queries(features, queries))
        return features, self.gate(features)[:, 0], copies

    def _copy_queries(self, features: Tensor, queries: list[Tensor]) -> Tensor:
        """[M, d]."""
        head = self.config.transformer.copy_head
        if head is not None:
            return queries[head.layer - 1][:, head.head - 1]
        assert self.copy_query is not None
        return ops.linear(features, self.copy_query.weight)

    def _copy_keys(self, states: Tensor, keys_values: Tensor) -> Tensor:
        """[B, S, d]."""
        head = self.config.transformer.copy_head
        if not self.config.copy:
            return states[:, :, :0]
        if head is not None:
            return keys_values[:, head.layer - 1, 0, head.head - 1]
        assert self.copy_key is not None
        keys: Tensor = self.copy_key(states)
        return keys


class _Writing:
    """A step's attention to what was written, which the step's own keys and values join.

    Without gradients they are written into the state's cache. With them it is needed as it was, so a new one is made.
    """

    def __init__(self, cache: Tensor, place: Tensor, rotation: Rotation | None) -> None:
        self._cache, self._place, self._rotation = cache, place, rotation
        self._written = (torch.arange(cache.shape[4], device=cache.device) <= place)[None, None, None]
        self._new: list[Tensor] = []

    def __call__(self, layer: int, projected: Tensor) -> Tensor:
        """Contexts [N, H, d] for ``projected`` [N, 3, H, d]."""
        query, *key_value = turned(projected[:, None], self._rotation)
        cache, now = self._cache[:, layer], torch.stack(key_value, 1)
        if torch.is_grad_enabled():
            cache = cache.index_copy(3, self._place, now)
            self._new.append(cache)
        else:
            cache.index_copy_(3, self._place, now)
        keys, values = cache.unbind(1)
        return scaled_dot_product_attention(query, keys, values, attn_mask=self._written)[:, :, 0]

    def cache(self) -> Tensor:
        """The next state's, after all layers."""
        return torch.stack(self._new, 1) if self._new else self._cache


def _attend_together(texts: int, rotation: Rotation | None, mask: Tensor | None, projected: Tensor) -> Tensor:
    """Contexts [N * T, H, d] of N texts for ``projected`` [N * T, 3, H, d]: of the places in ``mask``, or where it is
    None of each place and those before it."""
    queries, keys, values = turned(projected.view(texts, -1, *projected.shape[1:]), rotation)
    contexts = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None)
    return contexts.transpose(1, 2).flatten(0, 1)


def _attend_to_source(memory: Memory, layer: int, queries: Tensor) -> Tensor:
    """Contexts [M, H, d] for ``queries`` [M, H, d], M / B in a row for each source, which share what they read."""
    keys, values = memory.keys_values[:, layer].unbind(1)
    grouped = queries.view(len(keys), -1, *queries.shape[1:]).transpose(1, 2)
    contexts = scaled_dot_product_attention(grouped, keys, values, attn_mask=memory.readable)
    return contexts.transpose(1, 2).flatten(0, 1)


def _copy_distribution(memory: Memory, queries: Tensor) -> Tensor:
    """Attention [M, S] for ``queries`` [M, d]; exactly 0 at padding."""
    grouped = queries.view(len(memory.mask), -1, queries.shape[1]) * queries.shape[1] ** -0.5
    energies, tokens = grouped @ memory.copy_keys.mT, memory.mask[:, None]
    # A finite floor, not -inf: a source of nothing but padding would be 0 / 0.
    weights: Tensor = energies.masked_fill(~tokens, torch.finfo(energies.dtype).min).softmax(-1) * tokens
    return weights.flatten(0, 1)
