from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import MODELS, TableModel, move, random_batch, tiny_model, tiny_transformer, tokenization_config
from torch import Tensor

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.training import ExposureConfig
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.errors import UserError
from rlseq2seq.models.saved import new_model
from rlseq2seq.objectives.exposure_bias import decoder_inputs, soft_argmax, top_k_mixture
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.scoring import score_tokens, teacher_forced
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.token_ids import UNKNOWN

SIZE, COPIES = 9, 2
METHODS = ["scheduled_sampling", "soft", "e2e_backprop"]


def exposure(method: str, probability: float = 1.0, alpha: float = 1.0, **changes: Any) -> ExposureConfig:
    values = read_params()["pretrain"]["exposure_bias"] | {"method": method}
    values["probability"] = {"schedule": "constant", "start": probability, "end": probability, "steps": 1}
    values["alpha"] = {"schedule": "constant", "start": alpha, "end": alpha, "steps": 1}
    return parse(ExposureConfig, values | changes, "exposure_bias")


ARCHITECTURES = [tiny_model, tiny_transformer]


def case(device: torch.device, seed: int = 0, make: Any = tiny_model, **changes: Any) -> tuple[Any, Any, Any]:
    model = make(SIZE, seed, **changes).to(device)
    batch = move(random_batch(seed, SIZE, copies=COPIES), device)
    return model, batch, model.encode(batch.sources, batch.source_lengths)


def distributions(model: Any, memory: Any, inputs: Tensor) -> Tensor:
    """Probabilities [N, T, V + copies] after each input."""
    state, found = model.initial_state(memory), []
    for column in inputs.unbind(1):
        mixture, state = model.step(memory, state, column)
        found.append(mixture_log_probs(mixture, SIZE + COPIES).exp())
    return torch.stack(found, 1)


def embedded(model: Any, probs: Tensor) -> Tensor:
    """Mean embeddings of distributions over extended tokens, by hand: those of the source alone are unknown."""
    table = model.embedding.weight
    return probs[..., :SIZE] @ table + probs[..., SIZE:].sum(-1, keepdim=True) * table[UNKNOWN]


@pytest.mark.parametrize("make", ARCHITECTURES)
def test_nothing_changes_without_a_method_or_a_probability(device: torch.device, make: Any) -> None:
    model, batch, memory = case(device, make=make)
    assert decoder_inputs(model, memory, batch.targets, 0, exposure("none")) is None
    for method in METHODS:
        assert decoder_inputs(model, memory, batch.targets, 0, exposure(method, probability=0.0)) is None


@pytest.mark.parametrize("make", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_the_first_input_is_the_start_token(device: torch.device, method: str, make: Any) -> None:
    model, batch, memory = case(device, make=make)
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure(method))
    assert inputs is not None
    torch.testing.assert_close(inputs[:, 0], teacher_forced(model, batch.targets)[:, 0])


@pytest.mark.parametrize("make", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_the_model_s_own_is_the_gold_word_before(device: torch.device, method: str, make: Any) -> None:
    model, batch, memory = case(device, make=make)
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure(method, probability=1e-12))
    torch.testing.assert_close(inputs, teacher_forced(model, batch.targets))


def test_greedy_inputs_are_the_greedy_decoding(device: torch.device) -> None:
    model, batch, memory = case(device, seed=3)
    width = batch.targets.shape[1]
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure("scheduled_sampling", tokens="greedy"))
    assert inputs is not None
    written = greedy(model, memory, width)
    for row, length in enumerate(written.lengths.tolist()):
        expected = teacher_forced(model, written.tokens[row : row + 1])[0]
        torch.testing.assert_close(inputs[row, :length], expected[:length])


def test_two_passes_read_what_is_written_after_gold_words(device: torch.device) -> None:
    """Mihaylova and Martins 2019, arXiv:1906.07651: the first pass is teacher forcing, in every method."""
    model, batch, memory = case(device, seed=3, make=tiny_transformer)
    gold = teacher_forced(model, batch.targets)
    probs = distributions(model, memory, gold)[:, :-1]
    probs = torch.cat([probs[..., :SIZE], torch.zeros_like(probs[..., SIZE:])], -1).scatter_add(
        -1, torch.full_like(probs[..., SIZE:], UNKNOWN, dtype=torch.int64), probs[..., SIZE:]
    )
    best = probs * (probs >= probs.topk(2, -1).values[..., 1:])
    expected = {
        "soft": embedded(model, probs**3 / (probs**3).sum(-1, keepdim=True)),
        "e2e_backprop": embedded(model, best / best.sum(-1, keepdim=True)),
    }
    for method, written in expected.items():
        inputs = decoder_inputs(model, memory, batch.targets, 0, exposure(method, alpha=3.0, top_k=2))
        assert inputs is not None
        torch.testing.assert_close(inputs, torch.cat([gold[:, :1], written], 1))
    scores = distributions(model, memory, gold)[:, :-1]
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure("scheduled_sampling", tokens="greedy"))
    assert inputs is not None
    torch.testing.assert_close(inputs, torch.cat([gold[:, :1], model.embed(scores.argmax(-1))], 1))


@pytest.mark.parametrize("method", METHODS)
def test_two_passes_leave_gold_words_where_they_are_not_the_model_s(device: torch.device, method: str) -> None:
    model, batch, memory = case(device, seed=3, make=tiny_transformer)
    config = exposure(method, tokens="greedy", probability=0.5)
    torch.manual_seed(0)
    inputs = decoder_inputs(model, memory, batch.targets, 0, config)
    torch.manual_seed(0)
    own = torch.rand(batch.targets.shape, device=device) < 0.5
    everywhere = decoder_inputs(model, memory, batch.targets, 0, exposure(method, tokens="greedy"))
    assert inputs is not None and everywhere is not None
    own[:, 0] = False
    expected = torch.where(own[:, :, None], everywhere, teacher_forced(model, batch.targets))
    torch.testing.assert_close(inputs, expected)
    assert 0.2 < own.double().mean() < 0.7


def test_words_that_are_read_may_be_generated_ones_alone(device: torch.device) -> None:
    model, batch, memory = case(device, seed=3)

    def read(distribution: str) -> Tensor:
        config = exposure("scheduled_sampling", tokens="greedy", distribution=distribution)
        inputs = decoder_inputs(model, memory, batch.targets, 0, config)
        assert inputs is not None
        return inputs

    final, generation = read("final"), read("generation")
    assert not torch.equal(final, generation)
    model.gate.bias.data.fill_(1e4)
    torch.testing.assert_close(read("final"), generation)


@pytest.mark.parametrize("make", ARCHITECTURES)
def test_words_that_were_sampled_are_learned_as_gold_ones_are(device: torch.device, make: Any) -> None:
    model, batch, memory = case(device, make=make, output_weights="separate")
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure("scheduled_sampling"))
    assert inputs is not None
    (slope,) = torch.autograd.grad(inputs[:, 1].sum(), model.embedding.weight)
    read = (model.embedding.weight == inputs[:, None, 1]).all(2).any(0)
    assert read.any() and torch.equal(slope.ne(0).any(1), read)


@pytest.mark.parametrize("parallel", [False, True])
def test_sampled_inputs_have_the_model_s_distribution(device: torch.device, parallel: bool) -> None:
    model = TableModel(SIZE, width=6).to(device)
    model.parallel = parallel
    batch = move(random_batch(0, SIZE, copies=COPIES, size=1), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    many = batch.targets[:, :3].expand(30_000, -1)
    inputs = decoder_inputs(model, memory, many, 0, exposure("scheduled_sampling"))
    assert inputs is not None
    start, _ = model.step(memory, model.initial_state(memory), teacher_forced(model, many[:1])[:, 0])
    expected = mixture_log_probs(start, SIZE + COPIES)[0].exp()
    found = torch.bincount(inputs[:, 1, 0].long(), minlength=len(expected)) / len(many)
    assert (found - expected).abs().max() < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_share_of_own_words_is_the_scheduled_one(device: torch.device, method: str) -> None:
    model = TableModel(SIZE, width=6).to(device)
    batch = move(random_batch(0, SIZE, copies=COPIES, size=1), device)
    memory = model.encode(batch.sources, batch.source_lengths)
    many = torch.arange(SIZE - 5, SIZE, device=device).expand(4000, -1)
    schedule = {"schedule": "linear", "start": 0.0, "end": 0.5, "steps": 100}
    config = exposure(method, probability=1.0)
    config = replace(config, probability=replace(config.probability, **schedule))
    torch.manual_seed(0)
    inputs = decoder_inputs(model, memory, many, 60, config)
    assert inputs is not None
    each = (inputs == teacher_forced(model, many))[:, 1:, 0]
    gold = each.double().mean(0)
    # A greedy or sampled word may be the gold one by chance, a mixture hardly.
    assert (gold > 0.66).all() and (method == "scheduled_sampling" or (gold < 0.74).all())
    # A coin is thrown for each token, not for each text.
    assert (each == each[:, :1]).all(1).double().mean() < 0.6


@pytest.mark.parametrize("distribution", ["final", "generation"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 7.0])
def test_soft_inputs_are_the_mean_embedding_under_the_sharpened_distribution(
    device: torch.device, alpha: float, distribution: str
) -> None:
    model, batch, memory = case(device)
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure("soft", alpha=alpha, distribution=distribution))
    assert inputs is not None
    if distribution == "generation":
        model.gate.bias.data.fill_(1e4)
    probs = distributions(model, memory, inputs)[:, :-1]
    known = torch.cat([probs[..., :SIZE], torch.zeros_like(probs[..., SIZE:])], -1)
    known[..., UNKNOWN] += probs[..., SIZE:].sum(-1)
    sharp = known**alpha / (known**alpha).sum(-1, keepdim=True)
    torch.testing.assert_close(inputs[:, 1:], embedded(model, sharp))


@pytest.mark.parametrize("k", [1, 3, 100])
def test_e2e_inputs_are_the_top_k_mixture(device: torch.device, k: int) -> None:
    model, batch, memory = case(device, copy=False)
    inputs = decoder_inputs(model, memory, batch.targets, 0, exposure("e2e_backprop", top_k=k))
    assert inputs is not None
    probs = distributions(model, memory, inputs)[:, :-1, :SIZE]
    smallest = probs.sort(-1, descending=True).values[..., min(k, SIZE) - 1 : min(k, SIZE)]
    kept = probs * (probs >= smallest)
    expected = (kept / kept.sum(-1, keepdim=True)) @ model.embedding.weight
    torch.testing.assert_close(inputs[:, 1:], expected)


def test_e2e_inputs_may_be_chosen_softly_and_ever_more_sharply(device: torch.device) -> None:
    model, batch, memory = case(device, copy=False)
    config = exposure("e2e_backprop", top_k=3, selection="soft")
    config = replace(config, alpha=replace(config.alpha, schedule="linear", start=1.0, end=5.0, steps=10))
    inputs = decoder_inputs(model, memory, batch.targets, 5, config)
    assert inputs is not None
    log_probs = distributions(model, memory, inputs)[:, :-1, :SIZE].log()
    expected = top_k_mixture(log_probs.flatten(0, 1), 3, alpha=3.0) @ model.embedding.weight
    torch.testing.assert_close(inputs[:, 1:].flatten(0, 1), expected)


def test_weights_of_mixtures_sum_to_1() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(20, 30, dtype=torch.float64).log_softmax(-1)
    ones = torch.ones(20, dtype=torch.float64)
    for weights in (
        soft_argmax(log_probs, 3.0),
        soft_argmax(log_probs, 3.0, gumbel=True),
        top_k_mixture(log_probs, 4),
        top_k_mixture(log_probs, 4, alpha=2.0),
        top_k_mixture(log_probs, 100),
    ):
        torch.testing.assert_close(weights.sum(1), ones)
        assert (weights >= 0).all()


def test_sharp_choices_are_hard_ones() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(20, 30, dtype=torch.float64).log_softmax(-1)
    best = torch.nn.functional.one_hot(log_probs.argmax(1), 30).double()
    torch.testing.assert_close(soft_argmax(log_probs, 1e6), best)
    torch.testing.assert_close(top_k_mixture(log_probs, 1), best)
    torch.testing.assert_close(top_k_mixture(log_probs, 4, alpha=1e9), top_k_mixture(log_probs, 4))


def test_sharp_choices_with_noise_are_samples() -> None:
    torch.manual_seed(0)
    log_probs = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64).log()
    found = soft_argmax(log_probs.expand(40_000, -1), 1e4, gumbel=True).mean(0)
    assert (found - log_probs.exp()).abs().max() < 0.01


@pytest.mark.parametrize("make", ARCHITECTURES)
@pytest.mark.parametrize("method", ["soft", "e2e_backprop"])
def test_the_loss_reaches_earlier_steps_through_the_inputs(device: torch.device, method: str, make: Any) -> None:
    model, batch, memory = case(device, make=make)
    memory = type(memory)._make(x.detach() for x in memory)
    config = exposure(method, selection="soft")
    parameter = (model.decoder[0].attentions[1].inputs if make is tiny_transformer else model.attention_query).weight
    step = 1e-6

    def loss() -> Tensor:
        inputs = decoder_inputs(model, memory, batch.targets, 0, config)
        return maximum_likelihood(model, memory, batch, 0.0, inputs).total

    (found,) = torch.autograd.grad(loss(), parameter)
    stopped = decoder_inputs(model, memory, batch.targets, 0, config)
    assert stopped is not None
    (through_states_alone,) = torch.autograd.grad(
        maximum_likelihood(model, memory, batch, 0.0, stopped.detach()).total, parameter
    )
    assert (found - through_states_alone).norm() > 1e-3 * found.norm()
    direction = torch.randn_like(parameter)
    with torch.no_grad():
        parameter.add_(step * direction)
        above = loss().item()
        parameter.sub_(2 * step * direction)
        below = loss().item()
    assert (found * direction).sum().item() == pytest.approx((above - below) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_noise_never_enters_the_loss_or_decoding(device: torch.device, method: str) -> None:
    """Given the inputs, the loss is a function of them: whatever was drawn for these."""
    model, batch, memory = case(device)
    config = exposure(method, gumbel=True)
    inputs = decoder_inputs(model, memory, batch.targets, 0, config)
    losses = [maximum_likelihood(model, memory, batch, 0.0, inputs).total for _ in range(2)]
    assert torch.equal(*losses)
    assert torch.equal(greedy(model, memory, 5).tokens, greedy(model, memory, 5).tokens)


@pytest.mark.parametrize("method", METHODS)
def test_every_variant_scores_as_it_writes_what_it_reads(device: torch.device, method: str) -> None:
    """The pass that writes and the one that scores are the same model: coverage, temporal attention, empty sources."""
    batch = move(random_batch(0, SIZE, copies=COPIES, size=3, width=4, empty=True), device)
    for variant in [v for v in MODELS if v.output_weights == "tied"]:  # others differ after the recurrence alone
        model = variant.model(SIZE).to(device)
        memory = model.encode(batch.sources, batch.source_lengths)
        inputs = decoder_inputs(model, memory, batch.targets, 0, exposure(method, selection="soft"))
        assert inputs is not None
        scored = score_tokens(model, memory, batch.targets, batch.target_lengths, inputs)
        written = distributions(model, memory, inputs)[scored.row, scored.step].gather(1, scored.tokens[:, None])
        torch.testing.assert_close(scored.log_probs.exp(), written[:, 0])
        maximum_likelihood(model, memory, batch, 1.0, inputs).total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_sharpness_of_0_is_refused() -> None:
    # It would feed the mean of all embeddings, whatever the model says.
    with pytest.raises(UserError, match=r"alpha\.start is 0\.0: must be greater than 0"):
        exposure("soft", alpha=0.0)
    to_0 = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 10}
    with pytest.raises(UserError, match=r"alpha\.end is 0\.0: must be greater than 0"):
        parse(ExposureConfig, read_params()["pretrain"]["exposure_bias"] | {"alpha": to_0}, "exposure_bias")


@pytest.mark.parametrize("make", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_learns_with_it(device: torch.device, method: str, make: Any) -> None:
    """To write its source backwards, reading its own words more and more."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "encoder_size": 16, "decoder_size": 32, "attention_size": 16}
    model = new_model(make(SIZE, **sizes).config, SIZE, tokenization_config()).to(device)
    batch = move(random_batch(0, SIZE, copies=0, size=12, width=4), device)
    config = exposure(method, alpha=5.0)
    schedule = {"schedule": "linear", "start": 0.0, "end": 0.8, "steps": 100}
    config = replace(config, probability=replace(config.probability, **schedule))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(150):
        memory = model.encode(batch.sources, batch.source_lengths)
        inputs = decoder_inputs(model, memory, batch.targets, step, config)
        loss = maximum_likelihood(model, memory, batch, 0.0, inputs)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # as in training; without, some seeds end badly
        optimizer.step()
    written = greedy(model, model.encode(batch.sources, batch.source_lengths), 4).tokens
    width = min(written.shape[1], batch.targets.shape[1])
    assert (written[:, :width] == batch.targets[:, :width]).all(1).double().mean() > 0.9
