"""Attention and output weights against their equations (Paulus et al. 2018, arXiv:1705.04304)."""

import pytest
import torch
from tiny import ATTENTIONS, move, random_batch, tiny_model
from torch import Tensor

from rlseq2seq.config.model import AttentionConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.protocol import Steps, repeat_rows, select_rows
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood, score_tokens
from rlseq2seq.ops import Mixture, mixture_log_probs
from rlseq2seq.token_ids import START

SIZE, COPIES = 9, 2


def with_attention(score: str = "additive", *, temporal: bool = False, intra_decoder: bool = False) -> AttentionConfig:
    found = [a for a in ATTENTIONS if (a.score, a.temporal, a.intra_decoder) == (score, temporal, intra_decoder)]
    assert len(found) == 1
    return found[0]


def inputs(model: PointerGenerator, batch: Batch) -> Tensor:
    start = torch.full_like(batch.targets[:, :1], START)
    return model.embed(torch.cat([start, batch.targets[:, :-1]], 1))


@torch.no_grad()
def states_and_mixtures(model: PointerGenerator, batch: Batch) -> tuple[list[Tensor], list[Mixture]]:
    """Hidden states before the first step and after each, and what each step says."""
    memory = model.encode(batch.sources, batch.source_lengths)
    state, mixtures = model.initial_state(memory), []
    hidden = [state.hidden]
    for column in inputs(model, batch).unbind(1):
        mixture, state = model.step(memory, state, column)
        hidden.append(state.hidden)
        mixtures.append(mixture)
    return hidden, mixtures


@torch.no_grad()
def all_steps(model: PointerGenerator, batch: Batch) -> Steps:
    return model.all_steps(model.encode(batch.sources, batch.source_lengths), inputs(model, batch))


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_gradients_are_slopes(device: torch.device, attention: AttentionConfig) -> None:
    coverage = attention.score == "additive"
    model = tiny_model(SIZE, 3, attention=attention, coverage=coverage, output_weights="projected").to(device)
    batch = move(random_batch(3, SIZE, empty=True), device)
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(device) for p in model.parameters()]

    def loss_after(step: float) -> Tensor:
        with torch.no_grad():
            for parameter, direction in zip(model.parameters(), directions, strict=True):
                parameter.add_(step * direction)
        return maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 1.0).total

    torch.autograd.backward(loss_after(0))
    gradients = [p.grad for p in model.parameters()]
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step = 1e-6
    with torch.no_grad():
        before, after = loss_after(-step).item(), loss_after(2 * step).item()
    assert slope == pytest.approx((after - before) / (2 * step), rel=1e-5)


def test_bilinear_scores_are_the_state_times_a_matrix_times_the_encoder_state(device: torch.device) -> None:
    model = tiny_model(SIZE, attention=with_attention("bilinear")).to(device)
    batch = move(random_batch(3, SIZE), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    hidden, mixtures = states_and_mixtures(model, batch)
    for state, mixture in zip(hidden[1:], mixtures, strict=True):
        energies = torch.einsum("nd,ed,nse->ns", state, model.attention_query.weight, memory.values)  # Eq. 2
        expected = energies.masked_fill(~memory.mask, -torch.inf).softmax(1)
        torch.testing.assert_close(mixture.attention, expected)


@pytest.mark.parametrize("score", ["additive", "bilinear"])
def test_temporal_attention_divides_by_what_was_given_before(device: torch.device, score: str) -> None:
    model = tiny_model(SIZE, attention=with_attention(score, temporal=True)).to(device)
    batch = move(random_batch(3, SIZE), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    hidden, mixtures = states_and_mixtures(model, batch)
    before = torch.zeros_like(memory.mask, dtype=torch.float64)
    for t, (state, mixture) in enumerate(zip(hidden[1:], mixtures, strict=True)):
        query = model.attention_query(state)[:, None]
        if model.attention_score is None:
            energies = (query * memory.keys).sum(2)
        else:
            energies = torch.tanh(query + memory.keys) @ model.attention_score
        scores = energies.exp() if t == 0 else energies.exp() / before  # Eq. 3
        before = before + energies.exp()
        scores = scores * memory.mask
        torch.testing.assert_close(mixture.attention, scores / scores.sum(1, keepdim=True))  # Eq. 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_temporal_attention_stays_finite_where_exponentials_do_not(device: torch.device, dtype: torch.dtype) -> None:
    for scale in (1e3, -1e3):
        model = tiny_model(SIZE, attention=with_attention("bilinear", temporal=True), dtype=dtype).to(device)
        with torch.no_grad():
            model.attention_query.weight *= scale
        batch = move(random_batch(4, SIZE, empty=True), device)
        memory = model.encode(batch.sources, batch.source_lengths)
        steps = model.all_steps(memory, inputs(model, batch))
        energies = model.attention_query(steps.features.new_ones(1, 6)) @ memory.values[0].T
        assert energies.abs().max() > 100 and steps.attention.isfinite().all()
        has_tokens = (~memory.empty).to(dtype)[:, None].expand_as(steps.attention[:, :, 0])
        torch.testing.assert_close(steps.attention.sum(2), has_tokens)
        scored = score_tokens(model, memory, batch.targets, batch.target_lengths)
        torch.autograd.backward(scored.log_probs.sum())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_intra_decoder_attention_is_over_the_states_before_and_zero_at_first(device: torch.device) -> None:
    model = tiny_model(SIZE, attention=with_attention(intra_decoder=True)).to(device)
    batch = move(random_batch(5, SIZE), device)
    hidden, mixtures = states_and_mixtures(model, batch)
    plain_states = model.encoder.forward_lstm.hidden_size * 2
    weight, bias = model.features.weight, model.features.bias
    after_contexts = weight[:, 6 + plain_states :]
    assert after_contexts.shape == (5, 6)
    features = all_steps(model, batch).features
    for t, state in enumerate(hidden[1:]):
        context = torch.zeros_like(state)
        if t:
            energies = torch.stack([(model.intra_query(state) * past).sum(1) for past in hidden[1 : t + 1]], 1)  # Eq. 6
            weights = energies.softmax(1)  # Eq. 7
            context = sum(weights[:, i, None] * past for i, past in enumerate(hidden[1 : t + 1]))  # Eq. 8
        without = Steps(*(None if x is None else x[:, t] for x in all_steps_without_intra(model, batch)))
        expected = without.features + context @ after_contexts.T
        torch.testing.assert_close(features[:, t], expected)
        torch.testing.assert_close(mixtures[t].features, expected)
    assert bias.shape == (5,)


def all_steps_without_intra(model: PointerGenerator, batch: Batch) -> Steps:
    """The steps of the same weights but those that read what intra-decoder attention gives, set to zero."""
    other = tiny_model(SIZE, attention=model.config.attention).to(batch.sources.device)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.features.weight[:, 14:] = 0
    return all_steps(other, batch)


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_hypotheses_that_share_a_source_have_pasts_of_their_own(
    device: torch.device, attention: AttentionConfig
) -> None:
    model = tiny_model(SIZE, attention=attention).to(device)
    batch = move(random_batch(6, SIZE), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    state = repeat_rows(model.initial_state(memory), 2)
    generator = torch.Generator().manual_seed(0)
    parents = torch.arange(8, device=device)
    written: list[Tensor] = []
    for _ in range(4):
        tokens = torch.randint(4, SIZE, (8,), generator=generator).to(device)
        written = [column[parents] for column in written] + [tokens]
        mixture, state = model.step(memory, state, model.embed(tokens))
        log_probs = mixture_log_probs(mixture, SIZE + COPIES)
        steps = model.all_steps(memory, model.embed(torch.stack(written, 1)))
        row, step = torch.arange(8, device=device), torch.full((8,), len(written) - 1, device=device)
        expected = mixture_log_probs(model.mixture(memory, steps, row, step), SIZE + COPIES)
        torch.testing.assert_close(log_probs, expected, atol=1e-9, rtol=0)
        # As a beam does: hypotheses take each other's places within their source.
        parents = torch.arange(8, device=device) // 2 * 2 + torch.randint(0, 2, (8,), generator=generator).to(device)
        state = select_rows(state, parents)


def test_projected_output_weights_are_a_function_of_the_embeddings(device: torch.device) -> None:
    model = tiny_model(SIZE, output_weights="projected", copy=False).to(device)
    batch = move(random_batch(7, SIZE, copies=0), device)
    _, mixtures = states_and_mixtures(model, batch)
    embeddings, projection = model.embedding.weight.tolist(), model.projection.weight.T.tolist()
    by_hand = torch.tensor(
        [
            [sum(e * p for e, p in zip(row, column, strict=True)) for column in zip(*projection, strict=True)]
            for row in embeddings
        ],
        dtype=torch.float64,
        device=device,
    ).tanh()  # W_out = tanh(W_emb W_proj), Eq. 13
    for mixture in mixtures:
        logits = mixture.features @ by_hand.T + model.output.bias
        torch.testing.assert_close(mixture_log_probs(mixture, SIZE), logits.log_softmax(1))
