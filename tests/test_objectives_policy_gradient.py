from dataclasses import replace
from typing import Any

import pytest
import torch
from objective_cases import (
    EXTENDED,
    MAX_TOKENS,
    SIZE,
    Recorder,
    assert_log_probs_are_those_of_the_distribution_sampled,
    everything,
    expected_rewards,
    finetune_config,
    gradient,
    make_table,
    odd_rewards,
    run,
    tuned,
)
from tiny import every_sequence, move, random_batch, reward_config, select, tiny_model
from torch import Tensor

from rlseq2seq.data.batches import Batch, pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.decoding.hypotheses import token_lengths
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.ops import mixture_log_probs
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import END, PAD

METHODS = ["reinforce", "self_critical", "rloo", "grpo"]
BASELINES = ["none", "moving_average", "learned"]
# Those whose gradient is, on the average, that of the expected reward.
UNBIASED = [
    *({"method": "reinforce", "baseline": baseline} for baseline in BASELINES),
    {"method": "self_critical"},
    {"method": "rloo"},
    {"method": "rloo", "samples": 5},
    *({"method": method, "returns": "shaped"} for method in ("reinforce", "self_critical", "rloo")),
]


def close(estimate: Tensor, exact: Tensor) -> None:
    assert (estimate - exact).norm() / exact.norm() < 0.1
    assert (estimate @ exact / (exact @ exact)).item() == pytest.approx(1, abs=0.05)


def both_many_times(batch: Batch, rollouts: int, samples: int) -> Batch:
    copies = rollouts // samples
    return select(batch, [0] * copies + [1] * copies)


@pytest.mark.parametrize("changes", UNBIASED, ids=lambda changes: "-".join(map(str, changes.values())))
def test_gradient_is_that_of_the_expected_reward(device: torch.device, changes: dict[str, Any]) -> None:
    model, batch = make_table(device)
    config = finetune_config(**changes, average="sequence")
    exact = gradient(expected_rewards(model, batch).mean(), model)
    loss, _ = run(model, both_many_times(batch, 40_000, config.samples), config)
    close(gradient(-loss.total, model), exact)


def test_an_average_over_tokens_has_the_same_direction(device: torch.device) -> None:
    model, batch = make_table(device)
    by_token, recorder = run(model, batch, finetune_config("rloo", average="token"))
    by_sequence, _ = run(model, batch, finetune_config("rloo", average="sequence"))
    rollouts = len(recorder.tokens[0])
    torch.testing.assert_close(by_token.total * by_token.tokens, by_sequence.total * rollouts)


@pytest.mark.parametrize("returns", ["sequence", "shaped", "discounted"])
def test_gradient_with_kl_is_that_of_the_reward_less_the_divergence(device: torch.device, returns: str) -> None:
    model, batch = make_table(device)
    held, _ = make_table(device, seed=1)
    tokens, log_probs = everything(model, batch)
    _, held_log_probs = everything(held, batch)
    divergence = (log_probs.exp() * (log_probs - held_log_probs.detach())).sum(1)
    exact = gradient((expected_rewards(model, batch) - 0.05 * divergence).mean(), model)
    config = finetune_config("rloo", average="sequence", returns=returns, gamma=1.0, kl__weight=0.05)
    many = both_many_times(batch, 60_000, 2)
    loss, _ = run(model, many, config, pretrained=held)
    close(gradient(-loss.total, model), exact)
    assert loss.facts["kl"].item() == pytest.approx(divergence.mean().item(), rel=0.03)
    assert len(tokens) == log_probs.shape[1]


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_the_divergence_is_a_number_in_the_return(device: torch.device, gamma: float | None) -> None:
    """Of the whole text where its return is one, of the tokens to come where each has its own."""
    model, batch = make_table(device)
    held, _ = make_table(device, seed=1)
    changes = {"kl__weight": 2.0} | ({} if gamma is None else {"returns": "discounted", "gamma": gamma})
    loss, recorder = run(model, batch, finetune_config("reinforce", **changes), pretrained=held)
    tokens = recorder.tokens[0]
    scored, of_held = (
        score_tokens(m, m.encode(batch.sources, batch.source_lengths), tokens, token_lengths(tokens))
        for m in (model, held)
    )
    ratios, total = (scored.log_probs - of_held.log_probs).detach(), 0.0
    for row, reward in enumerate(recorder.rewards[0].tolist()):
        costs = ratios[scored.row == row].tolist()
        for t, log_prob in enumerate(scored.log_probs[scored.row == row]):
            to_come = sum((gamma or 1) ** (u - t) * costs[u] for u in range(0 if gamma is None else t, len(costs)))
            total = total - (reward * (gamma or 1) ** (len(costs) - 1 - t) - 2 * to_come) * log_prob
    expected = total / len(ratios)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(gradient(loss.total, model), gradient(expected, model))


def test_there_is_no_divergence_from_oneself(device: torch.device) -> None:
    model, batch = make_table(device)
    loss, _ = run(model, batch, finetune_config("rloo", kl__weight=5.0), pretrained=model)
    free, _ = run(model, batch, finetune_config("rloo"))
    assert abs(loss.facts["kl"].item()) < 1e-12
    torch.testing.assert_close(loss.total, free.total)


@pytest.mark.parametrize(("target", "factor"), [(1e9, 0.98), (1e-9, 1.02), (None, 1.0)])
def test_weight_of_the_divergence_goes_after_its_target(
    device: torch.device, target: float | None, factor: float
) -> None:
    model, batch = make_table(device)
    config = finetune_config("rloo", kl__weight=0.5, kl__target=target)
    fine_tuning = tuned(model, config, pretrained=make_table(device, seed=1)[0])
    loss = fine_tuning(batch, 0)
    assert fine_tuning.state.kl_weight.item() == 0.5
    loss.after()
    assert fine_tuning.state.kl_weight.item() == pytest.approx(0.5 * factor)


def test_weight_of_the_divergence_stays_where_it_is_at_the_target(device: torch.device) -> None:
    model, batch = make_table(device)
    held, _ = make_table(device, seed=1)
    kl = run(model, batch, finetune_config("rloo", kl__weight=0.5), pretrained=held)[0].facts["kl"].item()
    config = finetune_config("rloo", kl__weight=0.5, kl__target=kl / 1.1)
    fine_tuning = tuned(model, config, pretrained=held)
    torch.manual_seed(0)
    fine_tuning(batch, 0).after()
    assert fine_tuning.state.kl_weight.item() == pytest.approx(0.5 * 1.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_rollout_better_than_the_baseline_becomes_more_likely_and_a_worse_one_less(
    device: torch.device, method: str, value: float
) -> None:
    model, batch = make_table(device)
    batch = select(batch, [0])
    memory = model.encode(batch.sources, batch.source_lengths)
    text, length = torch.tensor([[4, 6, 4]], device=device), torch.tensor([3], device=device)
    assert not torch.equal(greedy(model, memory, MAX_TOKENS).tokens, text)

    def reward(tokens: Tensor) -> Tensor:
        one = (torch.nn.functional.pad(tokens, (0, MAX_TOKENS - tokens.shape[1])) == text).all(1).double()
        return value * one[:, None].expand(tokens.shape)

    torch.manual_seed(0)
    before = score_tokens(model, memory, text, length).log_probs.sum()
    loss = tuned(model, finetune_config(method, samples=400), Recorder(reward))(batch, 0)
    assert loss.facts["reward"] * value > 0
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, slope in zip(parameters, torch.autograd.grad(loss.total, parameters), strict=True):
            parameter.sub_(0.1 * slope)
    after = score_tokens(model, memory, text, length).log_probs.sum()
    assert (after - before) * value > 0


@pytest.mark.parametrize("method", METHODS)
def test_loss_is_advantage_times_log_prob_over_the_tokens_of_the_rollouts(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    loss, recorder = run(model, batch, finetune_config(method, samples=4))
    memory, total, tokens = model.encode(batch.sources, batch.source_lengths), 0.0, 0
    rewards = recorder.rewards[0].view(2, 4)
    for source in (0, 1):
        for j, row in enumerate(recorder.tokens[0].view(2, 4, -1)[source].tolist()):
            written = row[: row.index(END) + 1] if END in row else row
            assert all(token == PAD for token in row[len(written) :])
            others = rewards[source][[i for i in range(4) if i != j]]
            baseline = {
                "reinforce": 0.0,
                "rloo": others.mean().item(),
                "self_critical": recorder.rewards[-1].flatten()[source].item(),
                "grpo": rewards[source].mean().item(),
            }[method]
            advantage = rewards[source][j] - baseline
            if method == "grpo":
                advantage = advantage / rewards[source].std(correction=0)
            one = type(memory)._make(t[source : source + 1] for t in memory)
            scored = score_tokens(
                model, one, torch.tensor([written], device=device), torch.tensor([len(written)], device=device)
            )
            total -= advantage.item() * scored.log_probs.sum().item()
            tokens += len(written)
    assert loss.tokens == tokens
    assert loss.total.item() == pytest.approx(total / tokens, rel=1e-5)
    assert loss.facts["reward"].item() == pytest.approx(recorder.rewards[0].mean().item())
    assert loss.facts["sample_tokens"].item() == pytest.approx(tokens / 8)
    assert not any(fact.requires_grad for fact in loss.facts.values())


@pytest.mark.parametrize("method", [*METHODS, "mrt"])
def test_nothing_depends_on_the_gold_targets_but_the_reward(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    loss, recorder = run(model, batch, finetune_config(method, samples=3))
    for targets in ([[END], [END]], [[4, 4, 4, 4, END], [5, 5, 5, 5, END]]):
        ids, lengths = pad_rows(targets)
        other = move(replace(batch, targets=ids, target_lengths=lengths), device)
        other_loss, other_recorder = run(model, other, finetune_config(method, samples=3))
        assert torch.equal(other_loss.total, loss.total) and other_loss.tokens == loss.tokens
        for mine, theirs in zip(recorder.tokens, other_recorder.tokens, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("returns", ["sequence", "shaped"])
@pytest.mark.parametrize("method", METHODS)
def test_rollouts_and_baseline_are_free_running_decodings(device: torch.device, method: str, returns: str) -> None:
    model, batch = make_table(device)
    _, recorder = run(model, batch, finetune_config(method, samples=3, returns=returns), seed=5)
    torch.manual_seed(5)
    memory = model.encode(batch.sources, batch.source_lengths)
    noise = torch.rand(6, MAX_TOKENS, device=device)
    expected = [sample(model, memory, MAX_TOKENS, noise).tokens]
    if method == "self_critical":
        expected.append(greedy(model, memory, MAX_TOKENS).tokens)
    # One greedy baseline a source, however many samples; and the others ask for none.
    for mine, theirs in zip(recorder.tokens, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert all(asked is batch for asked in recorder.asked)


def test_samples_of_a_source_are_independent(device: torch.device) -> None:
    model, batch = make_table(device)
    _, recorder = run(model, select(batch, [0]), finetune_config("rloo", samples=20_000))
    first = (recorder.tokens[0][:, 0] == 4).double()
    neighbours = torch.stack([first[:-1], first[1:]])
    assert 0.1 < first.mean() < 0.9
    assert torch.corrcoef(neighbours)[0, 1].abs() < 0.03


@pytest.mark.parametrize("coverage", [True, False])
def test_log_probs_in_the_loss_are_those_of_the_distribution_sampled(device: torch.device, coverage: bool) -> None:
    model = tiny_model(SIZE, coverage=coverage).to(device)
    assert_log_probs_are_those_of_the_distribution_sampled(model, device)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_reaches_every_weight_from_the_rollouts_alone(device: torch.device, method: str) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(0, SIZE, copies=1, size=16), device)
    run(model, batch, finetune_config(method, samples=4))[0].total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.ne(0).any(), name


@pytest.mark.parametrize("returns", ["sequence", "shaped"])
@pytest.mark.parametrize("method", ["self_critical", "rloo", "grpo"])
def test_no_advantage_no_gradient(device: torch.device, method: str, returns: str) -> None:
    model, batch = make_table(device)
    same = Recorder(lambda tokens: torch.ones(tokens.shape).to(tokens.device))
    loss = tuned(model, finetune_config(method, returns=returns), same)(batch, 0)
    assert gradient(loss.total, model).abs().max() < 1e-12


# --- several epochs


def test_later_epochs_go_over_the_same_samples_and_clip(device: torch.device) -> None:
    model, batch = make_table(device)
    recorder = Recorder()
    fine_tuning = tuned(model, finetune_config("grpo", samples=50, grpo__epochs=4, grpo__clip=0.2), recorder)
    torch.manual_seed(0)
    first = fine_tuning(batch, 0)
    slope = gradient(first.total, model)
    second = fine_tuning(batch, 1)
    # The policy has not moved, so the ratio is 1.
    torch.testing.assert_close(gradient(second.total, model), slope)
    assert second.facts["clipped"] == 0 and len(recorder.tokens) == 1
    memory = model.encode(batch.sources, batch.source_lengths)
    tokens = recorder.tokens[0]
    lengths = token_lengths(tokens)
    before = score_tokens(model, memory, tokens, lengths).log_probs.detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, device=device, dtype=parameter.dtype), alpha=0.6)
    third = fine_tuning(batch, 2)
    scored = score_tokens(model, model.encode(batch.sources, batch.source_lengths), tokens, lengths)
    ratio = (scored.log_probs - before).exp()
    rewards = recorder.rewards[0].view(2, 50)
    normal = (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True, correction=0)
    advantages = normal.flatten()[scored.row]
    too_far = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    expected = -(ratio * advantages).masked_fill(too_far, 0).sum() / len(ratio)
    assert 0.1 < too_far.double().mean() < 0.9
    slope_of_third = gradient(third.total, model)
    torch.testing.assert_close(slope_of_third, gradient(expected, model), rtol=1e-4, atol=1e-7)
    # The ratio is to the policy that sampled, not to that of the epoch before.
    torch.testing.assert_close(gradient(fine_tuning(batch, 3).total, model), slope_of_third)
    # The next batch has samples of its own.
    fine_tuning(batch, 4)
    assert len(recorder.tokens) == 2


def test_other_methods_have_one_epoch(device: torch.device) -> None:
    model, batch = make_table(device)
    recorder = Recorder()
    fine_tuning = tuned(model, finetune_config("rloo", grpo__epochs=2), recorder)
    for step in range(2):
        fine_tuning(batch, step)
    assert len(recorder.tokens) == 2


def test_later_epochs_have_the_entropy_bonus_too(device: torch.device) -> None:
    model, batch = make_table(device)
    fine_tuning = tuned(model, finetune_config("grpo", grpo__epochs=2, entropy=0.3))
    first = gradient(fine_tuning(batch, 0).total, model)
    torch.testing.assert_close(gradient(fine_tuning(batch, 1).total, model), first)


# --- learning


@pytest.mark.parametrize(
    ("method", "returns"),
    [("mrt", "sequence"), *((method, kind) for method in METHODS for kind in ("sequence", "discounted", "shaped"))],
)
def test_training_finds_the_best_texts(device: torch.device, method: str, returns: str) -> None:
    model, batch = make_table(device)
    torch.manual_seed(0)
    fine_tuning = tuned(model, finetune_config(method, samples=16, returns=returns, gamma=0.95, mrt__sharpness=1.0))
    optimizer = torch.optim.Adam([*model.parameters(), *fine_tuning.state.parameters()], lr=0.2)
    tokens, _ = every_sequence(EXTENDED, MAX_TOKENS)
    best = odd_rewards(tokens[(tokens < SIZE).all(1)])[:, -1].max().item()
    before = expected_rewards(model, batch)
    for step in range(100):
        optimizer.zero_grad()
        fine_tuning(batch, step).total.backward()
        optimizer.step()
    after = expected_rewards(model, batch)
    assert before.max() < 0.7 * best and after.min() > 0.9 * best


def test_a_network_learns_from_rouge_alone_to_write_what_is_asked(
    device: torch.device, word_vocabulary: Vocabulary
) -> None:
    torch.manual_seed(0)
    texts = ["sum zorp", "mean quux", "values"]
    encoded = [word_vocabulary.encode_source(text) for text in texts]
    sources, source_lengths = pad_rows([ids for ids, _ in encoded])
    targets, target_lengths = pad_rows([[END]] * 3)
    copies = tuple(words for _, words in encoded)
    batch = move(Batch(sources, source_lengths, targets, target_lengths, (0, 1, 2), copies, tuple(texts)), device)
    config = replace(tiny_model(SIZE).config, embedding_size=16, encoder_size=16, decoder_size=32, attention_size=16)
    model = PointerGenerator(config, len(word_vocabulary)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    reward = WeightedReward(word_vocabulary, reward_config(beta=1.0), 1)
    fine_tuning = tuned(model, finetune_config("rloo", samples=16), reward, max_tokens=4)
    rewards = []
    for step in range(120):
        optimizer.zero_grad()
        loss = fine_tuning(batch, step)
        loss.total.backward()
        optimizer.step()
        rewards.append(loss.facts["reward"].item())
    # Without copying the two words that its vocabulary lacks it would get no further than 0.78.
    assert rewards[0] < 0.5 and rewards[-1] > 0.85


@pytest.mark.parametrize("average", ["token", "sequence"])
def test_the_bonus_is_the_mean_entropy_of_the_distributions_sampled_from(device: torch.device, average: str) -> None:
    model, batch = make_table(device)
    plain, recorder = run(model, batch, finetune_config("rloo", samples=5, average=average))
    loss, _ = run(model, batch, finetune_config("rloo", samples=5, average=average, entropy=0.3))
    memory, tokens = model.encode(batch.sources, batch.source_lengths), recorder.tokens[0]
    scored = score_tokens(model, memory, tokens, token_lengths(tokens))
    dense = mixture_log_probs(scored.mixture, EXTENDED)
    entropy = -(dense.exp() * dense.clamp_min(-1e9)).sum(1)
    divisor = len(entropy) if average == "token" else len(tokens)
    expected = plain.total - 0.3 * entropy.sum() / divisor
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(gradient(loss.total, model), gradient(expected, model))
    assert loss.facts["entropy"].item() == pytest.approx(entropy.mean().item())
