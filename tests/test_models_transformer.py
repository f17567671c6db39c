"""The Transformer against its equations, one head of one text at a time, and what its decoding state does."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from model_cases import COPIES, SIZE, encode, teacher_forced
from tiny import TRANSFORMERS, move, random_batch, tiny_transformer, tokenization_config
from torch import Tensor, nn

from rlseq2seq import ops
from rlseq2seq.config.model import HeadConfig
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.models.protocol import repeat_rows
from rlseq2seq.models.transformer import Transformer
from rlseq2seq.models.transformer_layers import Layer, Rotary, initialise, turned
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.objectives.scoring import teacher_forced as gold_inputs
from rlseq2seq.token_ids import END, START, UNKNOWN


class Head(NamedTuple):
    context: Tensor
    weights: Tensor


def norm(layer: Any, rows: Tensor) -> Tensor:
    centred = rows - rows.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False) -> Head:
    """One head: queries [T, d], keys and values [S, d]."""
    scores = queries @ keys.T / math.sqrt(queries.shape[1])
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    weights = scores.softmax(-1)
    return Head(weights @ values, weights)


def rotated(rows: Tensor) -> Tensor:
    """Pairs of numbers of ``rows`` [T, d] as complex ones, turned by the place times a frequency."""
    half = rows.shape[1] // 2
    frequencies = torch.tensor([10_000 ** (-i / half) for i in range(half)], dtype=torch.float32).double()
    angles = torch.arange(len(rows))[:, None] * frequencies
    numbers = torch.complex(rows[:, :half], rows[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([numbers.real, numbers.imag], 1)


class Equations:
    """A Transformer's features and the weights of its attention to the source, for one text without padding."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.heads, self.size = model, model.config.transformer.heads, model.config.embedding_size
        self.head_size = self.size // self.heads

    def part(self, weight: Tensor, number: int, head: int) -> Tensor:
        start = number * self.size + head * self.head_size
        return weight[start : start + self.head_size]

    def read(self, tokens: Tensor, positions: Any) -> Tensor:
        rows = self.model.embedding.weight[tokens.masked_fill(tokens >= SIZE, UNKNOWN)]
        if positions is not None:
            rows = rows + positions.weight[: len(rows)]
        return rows * math.sqrt(self.size)

    def attend_to_itself(self, part: Any, rows: Tensor, *, causal: bool) -> Tensor:
        read, contexts = norm(part.norm, rows), []
        for head in range(self.heads):
            queries, keys, values = (read @ self.part(part.inputs.weight, i, head).T for i in range(3))
            if self.model.config.transformer.positions == "rotary":
                queries, keys = rotated(queries), rotated(keys)
            contexts.append(attend(queries, keys, values, causal=causal).context)
        return torch.cat(contexts, 1) @ part.outputs.weight.T

    def attend_to_source(self, layer: int, part: Any, rows: Tensor, states: Tensor) -> tuple[Tensor, list[Tensor]]:
        read, found = norm(part.norm, rows), []
        for head in range(self.heads):
            queries = read @ self.part(part.inputs.weight, 0, head).T
            weight = self.model.keys_values.weight
            keys, values = (states @ self.part(weight, 2 * layer + i, head).T for i in range(2))
            found.append(attend(queries, keys, values))
        return torch.cat([head.context for head in found], 1) @ part.outputs.weight.T, [head.weights for head in found]

    def feed_forward(self, part: Any, rows: Tensor) -> Tensor:
        hidden = norm(part.norm, rows) @ part.inputs.weight.T
        return hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2 @ part.outputs.weight.T

    def __call__(self, source: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T, D] and the copy distribution [T, S]."""
        model = self.model
        states = self.read(source, model.source_positions)
        for layer in model.encoder:
            states = states + self.attend_to_itself(layer.attentions[0], states, causal=False)
            states = states + self.feed_forward(layer.feed_forward, states)
        states = norm(model.encoder_norm, states)
        rows, weights = self.read(tokens, model.target_positions), []
        for number, layer in enumerate(model.decoder):
            rows = rows + self.attend_to_itself(layer.attentions[0], rows, causal=True)
            added, found = self.attend_to_source(number, layer.attentions[1], rows, states)
            weights.append(found)
            rows = rows + added
            rows = rows + self.feed_forward(layer.feed_forward, rows)
        features = norm(model.decoder_norm, rows)
        head = model.config.transformer.copy_head
        if head is not None:
            return features, weights[head.layer - 1][head.head - 1]
        queries, keys = features @ model.copy_query.weight.T, states @ model.copy_key.weight.T
        return features, attend(queries, keys, keys).weights


@pytest.mark.parametrize("variant", [v for v in TRANSFORMERS if v.copy and v.output_weights == "tied"], ids=str)
@torch.no_grad()
def test_it_computes_its_equations(variant: Any) -> None:
    model = variant.model(SIZE, 4)
    batch = random_batch(4, SIZE, copies=COPIES, empty=True)
    memory = encode(model, batch)
    steps = model.all_steps(memory, gold_inputs(model, batch.targets))
    start = torch.tensor([START])
    for row in range(4):
        source, length = batch.sources[row, : batch.source_lengths[row]], int(batch.target_lengths[row])
        features, copies = Equations(model)(source, torch.cat([start, batch.targets[row, : length - 1]]))
        torch.testing.assert_close(steps.features[row, :length], features)
        torch.testing.assert_close(steps.attention[row, :length, : len(source)], copies)
        assert steps.attention[row, :, len(source) :].eq(0).all()
        assert steps.gate_logits is not None
        torch.testing.assert_close(steps.gate_logits[row, :length], model.gate(features)[:, 0])


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_the_order_of_words_matters_on_both_sides(device: torch.device, positions: str) -> None:
    model = tiny_transformer(SIZE, positions=positions).to(device)
    words, swapped = torch.tensor([[4, 5, 6]], device=device), torch.tensor([[5, 4, 6]], device=device)

    def last(source: Tensor, written: Tensor) -> Tensor:
        memory = model.encode(source, torch.tensor([3], device=device))
        return model.all_steps(memory, model.embed(written)).features[:, -1]

    found = last(words, words)
    assert not torch.allclose(last(swapped, words), found)
    assert not torch.allclose(last(words, swapped), found)


def test_rotary_scores_depend_on_distance_alone(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    everywhere = torch.randn(1, 1, 3, 1, 6, generator=generator, dtype=torch.float64).expand(1, 7, 3, 1, 6).to(device)
    rotary = Rotary(6).double().to(device)
    queries, keys, values = turned(everywhere, rotary(torch.arange(7, device=device)))
    scores = (queries @ keys.mT)[0, 0]
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert scores[0].unique().numel() == 7
    assert torch.equal(values, everywhere[:, :, 2].transpose(1, 2))
    # A step's place is turned as it is among all.
    one = turned(everywhere[:, :1], rotary(torch.tensor([4], device=device)))
    torch.testing.assert_close(one[0][:, :, 0], queries[:, :, 4])


def test_no_step_sees_a_later_one(device: torch.device) -> None:
    model = tiny_transformer(SIZE).to(device)
    batch = move(random_batch(2, SIZE, copies=COPIES), device)
    memory, inputs = encode(model, batch), model.embed(batch.targets)
    before = model.all_steps(memory, inputs)
    inputs = torch.cat([inputs[:, :3], torch.randn_like(inputs[:, 3:])], 1)
    after = model.all_steps(memory, inputs)
    torch.testing.assert_close(after.features[:, :3], before.features[:, :3])
    assert not torch.isclose(after.features[:, 3:], before.features[:, 3:]).any()


def test_texts_of_a_source_read_one_memory_as_if_each_had_its_own(device: torch.device) -> None:
    model = tiny_transformer(SIZE).to(device)
    batch = move(random_batch(3, SIZE, copies=COPIES, empty=True), device)
    memory = encode(model, batch)
    own = model.encode(batch.sources.repeat_interleave(3, 0), batch.source_lengths.repeat_interleave(3, 0))
    inputs = model.embed(torch.randint(4, SIZE, (12, 5), generator=torch.Generator().manual_seed(0)).to(device))
    shared, alone = model.all_steps(memory, inputs), model.all_steps(own, inputs)
    torch.testing.assert_close(shared.features, alone.features)
    torch.testing.assert_close(shared.attention, alone.attention)
    state, states = repeat_rows(model.initial_state(memory), 3), model.initial_state(own)
    for column in inputs.unbind(1):
        found, state = model.step(memory, state, column)
        expected, states = model.step(own, states, column)
        torch.testing.assert_close(found.features, expected.features)
        torch.testing.assert_close(found.attention, expected.attention)


def test_a_step_writes_into_its_state_without_gradients_and_leaves_it_with_them(device: torch.device) -> None:
    model = tiny_transformer(SIZE).to(device)
    memory = encode(model, move(random_batch(0, SIZE), device))
    inputs = model.embed(torch.full((4,), START, device=device))
    state = model.initial_state(memory)
    _, after = model.step(memory, state, inputs)
    assert (
        state.cache.eq(0).all() and after.cache[:, :, :, :, 0].ne(0).all() and after.cache[:, :, :, :, 1:].eq(0).all()
    )
    with torch.no_grad():
        _, written = model.step(memory, state, inputs)
    assert written.cache.data_ptr() == state.cache.data_ptr() and torch.equal(written.cache, after.cache)
    assert after.place.tolist() == written.place.tolist() == [1] * 4


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_texts_may_be_as_long_as_they_may_get(device: torch.device, positions: str) -> None:
    model = tiny_transformer(SIZE, positions=positions).to(device)
    with torch.no_grad():
        model.output.bias[END] = -1e4
    limits = tokenization_config()
    sources = torch.full((2, limits.max_source_tokens), 5, device=device)
    memory = model.encode(sources, torch.tensor([limits.max_source_tokens, 1], device=device))
    found = greedy(model, memory, limits.max_target_tokens)
    assert found.lengths.tolist() == [limits.max_target_tokens] * 2
    sums = score_tokens(model, memory, found.tokens, found.lengths).log_probs.view(2, -1).sum(1)
    torch.testing.assert_close(found.scores, sums)


def test_no_dropout_is_left_where_the_model_s_is_0() -> None:
    """Fine-tuning turns it off there."""
    model, batch = tiny_transformer(SIZE, dropout=0.5), random_batch(0, SIZE)
    expected = teacher_forced(model, batch)
    model.train()
    assert not torch.equal(teacher_forced(model, batch), expected)
    model.dropout.p = 0.0
    assert torch.equal(teacher_forced(model, batch), expected)


@torch.no_grad()
def test_fresh_layers_add_one_variance_together() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(Layer(128, 4, 256, (3, 1), nn.Dropout(0.0)) for _ in range(2))
    initialise(layers)
    rows = torch.randn(500, 128)
    for layer in layers:
        for part in layer.attentions:  # where each place attends to itself alone
            assert part(rows, lambda projected: projected[:, -1]).var() * 6 == pytest.approx(1, abs=0.15)
        # The mean square of a GELU of N(0, 1) is 0.425.
        assert layer.feed_forward(rows).var() * 6 == pytest.approx(0.425, abs=0.1)


@pytest.mark.parametrize("head", [HeadConfig(1, 1), HeadConfig(2, 2)])
def test_a_named_head_costs_no_weights(head: HeadConfig) -> None:
    named, dedicated = tiny_transformer(SIZE, copy_head=head), tiny_transformer(SIZE)
    more = {name for name, _ in dedicated.named_parameters()} - {name for name, _ in named.named_parameters()}
    assert more == {"copy_key.weight", "copy_query.weight"}


def test_fused_and_packed_steps_in_float32_are_those_of_all_steps() -> None:
    """Decoders pack weights: the state's own products are made by another kernel than those of training."""
    model = tiny_transformer(SIZE, dtype=torch.float32)
    batch = random_batch(5, SIZE, copies=COPIES, empty=True)
    memory, inputs = encode(model, batch), gold_inputs(model, batch.targets)
    expected = model.all_steps(memory, inputs)
    with torch.no_grad(), ops.constant_weights():
        state = model.initial_state(memory)
        for step, column in enumerate(inputs.unbind(1)):
            mixture, state = model.step(memory, state, column)
            torch.testing.assert_close(mixture.features, expected.features[:, step], atol=1e-4, rtol=0)
            torch.testing.assert_close(mixture.attention, expected.attention[:, step], atol=1e-4, rtol=0)
