from dataclasses import dataclass, field, replace

import pytest
import torch
from tiny import TableModel, every_sequence, move, random_batch, reward_config, select, tiny_model
from torch import Tensor

from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.training import CoverageConfig, OptimizerConfig, ValidationConfig
from rlseq2seq.data.batches import Batch, pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.decoding.single_path import greedy, sample
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood, score_tokens
from rlseq2seq.objectives.policy_gradient import (
    leave_one_out_advantages,
    policy_gradient,
    self_critical_advantages,
)
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.token_ids import END, PAD

METHODS = ["rloo", "self_critical"]
SIZE, EXTENDED, MAX_TOKENS = 6, 7, 3


def make_config(method: str, samples: int = 2, eta: float = 1.0, coverage_weight: float = 1.0) -> FinetuneConfig:
    return FinetuneConfig(
        seed=0,
        method=method,
        samples=samples,
        eta=eta,
        updates=1,
        batch_size=1,
        learning_rate=0.1,
        reward=reward_config(),
        optimizer=OptimizerConfig(name="adam", warmup_steps=0, decay="constant", gradient_clip=1.0),
        coverage=CoverageConfig(weight=coverage_weight, from_step=None),
        validation=ValidationConfig(every=1, pairs=1, metric="loss", patience=1),
    )


def odd_reward(tokens: Tensor) -> Tensor:
    """Rewards [N] in [0, 1) without rhyme or reason, of tokens of which padding counts nothing."""
    weights = torch.tensor([0.731, 0.377, 0.193], dtype=torch.float64, device=tokens.device)
    return (tokens * weights).sum(1) % 1


@dataclass
class Recorder:
    """A reward function that remembers what it was asked."""

    tokens: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    asked: list[Batch] = field(default_factory=list)

    def __call__(self, tokens: Tensor, batch: Batch) -> Tensor:
        self.tokens.append(tokens)
        self.rewards.append(odd_reward(torch.nn.functional.pad(tokens, (0, MAX_TOKENS - tokens.shape[1]))))
        self.asked.append(batch)
        return self.rewards[-1]


def make_table(device: torch.device) -> tuple[TableModel, Batch]:
    """A model that can write 259 texts, and two sources, one with a word to copy."""
    batch = replace(
        random_batch(0, SIZE, size=2, width=2, copies=1),
        sources=torch.tensor([[6, 4], [5, PAD]]),
        source_lengths=torch.tensor([2, 1]),
    )
    return TableModel(SIZE, width=2).to(device), move(batch, device)


def run(
    model: TableModel | PointerGenerator, batch: Batch, config: FinetuneConfig, seed: int = 0
) -> tuple[Loss, Recorder]:
    torch.manual_seed(seed)
    recorder = Recorder()
    return policy_gradient(model, batch, MAX_TOKENS, recorder, config), recorder


def expected_rewards(model: TableModel, batch: Batch) -> Tensor:
    """The exact expectation [B] of the reward, by writing everything that can be written."""
    tokens, lengths = (t.to(batch.sources.device) for t in every_sequence(EXTENDED, MAX_TOKENS))
    memory = model.encode(batch.sources, batch.source_lengths)
    everything = tokens.repeat(len(batch.rows), 1), lengths.repeat(len(batch.rows))
    # Impossible texts, copies of what a source lacks, have a finite log-probability next to nothing.
    scored = score_tokens(model, memory, *everything)
    log_probs = scored.log_probs.new_zeros(len(everything[0])).index_add(0, scored.row, scored.log_probs)
    probs = log_probs.exp().view(len(batch.rows), -1)
    torch.testing.assert_close(probs.sum(1), torch.ones_like(probs[:, 0]))
    return (probs * odd_reward(tokens)).sum(1)


# --- advantages


def test_leave_one_out_compares_a_reward_with_the_mean_of_the_others() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.5], [2.0, 2.0, 2.0]])
    expected = [[1 - 0.25, 0 - 0.75, 0.5 - 0.5], [0, 0, 0]]
    torch.testing.assert_close(leave_one_out_advantages(rewards), torch.tensor(expected))


def test_a_sample_better_than_greedy_has_a_positive_advantage() -> None:
    found = self_critical_advantages(torch.tensor([[0.9, 0.1], [0.2, 0.4]]), torch.tensor([0.5, 0.3]))
    torch.testing.assert_close(found, torch.tensor([[0.4, -0.4], [-0.1, 0.1]]))


# --- the objective


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("samples", [2, 5])
def test_gradient_is_that_of_the_expected_reward(device: torch.device, method: str, samples: int) -> None:
    model, batch = make_table(device)
    parameters = list(model.parameters())
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(expected_rewards(model, batch).mean(), parameters)])
    copies = 30_000 // samples
    loss, _ = run(model, select(batch, [0] * copies + [1] * copies), make_config(method, samples))
    # A loss a token, times the tokens, over the rollouts: the gradient of the reward of a rollout.
    found = torch.autograd.grad(-loss.total * loss.tokens / (2 * copies * samples), parameters)
    estimate = torch.cat([g.flatten() for g in found])
    assert (estimate - exact).norm() / exact.norm() < 0.1
    assert (estimate @ exact / (exact @ exact)).item() == pytest.approx(1, abs=0.05)


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

    def reward(tokens: Tensor, *_: object) -> Tensor:
        return value * (torch.nn.functional.pad(tokens, (0, MAX_TOKENS - tokens.shape[1])) == text).all(1).double()

    torch.manual_seed(0)
    before = score_tokens(model, memory, text, length).log_probs.sum()
    loss = policy_gradient(model, batch, MAX_TOKENS, reward, make_config(method, samples=400))
    assert loss.facts["reward"] * value > 0
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss.total, parameters), strict=True):
            parameter.sub_(gradient)
    after = score_tokens(model, memory, text, length).log_probs.sum()
    assert (after - before) * value > 0


@pytest.mark.parametrize("method", METHODS)
def test_loss_is_advantage_times_log_prob_over_the_tokens_of_the_rollouts(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    loss, recorder = run(model, batch, make_config(method, samples=4))
    memory, total, tokens = model.encode(batch.sources, batch.source_lengths), 0.0, 0
    rewards = recorder.rewards[0].view(2, 4).tolist()
    for source in (0, 1):
        for j, row in enumerate(recorder.tokens[0].view(2, 4, -1)[source].tolist()):
            written = row[: row.index(END) + 1] if END in row else row
            assert all(token == PAD for token in row[len(written) :])
            if method == "rloo":
                baseline = sum(r for i, r in enumerate(rewards[source]) if i != j) / 3
            else:
                baseline = recorder.rewards[1][source].item()
            one = type(memory)._make(t[source : source + 1] for t in memory)
            scored = score_tokens(
                model, one, torch.tensor([written], device=device), torch.tensor([len(written)], device=device)
            )
            total -= (rewards[source][j] - baseline) * scored.log_probs.sum().item()
            tokens += len(written)
    assert loss.tokens == tokens
    assert loss.total.item() == pytest.approx(total / tokens)
    assert loss.facts["reward"].item() == pytest.approx(recorder.rewards[0].mean().item())
    assert loss.facts["sample_tokens"].item() == pytest.approx(tokens / 8)
    assert not any(fact.requires_grad for fact in loss.facts.values())


@pytest.mark.parametrize("method", METHODS)
def test_nothing_depends_on_the_gold_targets_but_the_reward(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    loss, recorder = run(model, batch, make_config(method, samples=3))
    for targets in ([[END], [END]], [[4, 4, 4, 4, END], [5, 5, 5, 5, END]]):
        ids, lengths = pad_rows(targets)
        other = move(replace(batch, targets=ids, target_lengths=lengths), device)
        other_loss, other_recorder = run(model, other, make_config(method, samples=3))
        assert torch.equal(other_loss.total, loss.total) and other_loss.tokens == loss.tokens
        for mine, theirs in zip(recorder.tokens, other_recorder.tokens, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("method", METHODS)
def test_rollouts_and_baseline_are_free_running_decodings(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    _, recorder = run(model, batch, make_config(method, samples=3), seed=5)
    torch.manual_seed(5)
    memory = model.encode(batch.sources, batch.source_lengths)
    noise = torch.rand(6, MAX_TOKENS, device=device)
    expected = [sample(model, memory, MAX_TOKENS, noise).tokens]
    if method == "self_critical":
        expected.append(greedy(model, memory, MAX_TOKENS).tokens)
    # One greedy baseline a source, however many samples; and rloo asks for none.
    for mine, theirs in zip(recorder.tokens, expected, strict=True):
        assert torch.equal(mine, theirs)
    assert all(asked is batch for asked in recorder.asked)


def test_samples_of_a_source_are_independent(device: torch.device) -> None:
    model, batch = make_table(device)
    _, recorder = run(model, select(batch, [0]), make_config("rloo", samples=20_000))
    first = (recorder.tokens[0][:, 0] == 4).double()
    neighbours = torch.stack([first[:-1], first[1:]])
    assert 0.1 < first.mean() < 0.9
    assert torch.corrcoef(neighbours)[0, 1].abs() < 0.03


@pytest.mark.parametrize("coverage", [True, False])
def test_log_probs_in_the_loss_are_those_of_the_distribution_sampled(device: torch.device, coverage: bool) -> None:
    model = tiny_model(SIZE, coverage=coverage).to(device)
    batch = move(random_batch(0, SIZE, copies=1, empty=True), device)
    loss, recorder = run(model, batch, make_config("rloo", samples=3), seed=2)
    torch.manual_seed(2)
    memory = model.encode(batch.sources, batch.source_lengths)
    rollouts = sample(model, memory, MAX_TOKENS, torch.rand(12, MAX_TOKENS, device=device))
    assert torch.equal(rollouts.tokens, recorder.tokens[0])
    scored = score_tokens(model, memory, rollouts.tokens, rollouts.lengths)
    sums = scored.log_probs.new_zeros(12).index_add(0, scored.row, scored.log_probs)
    # The ratio of the two policies is 1 before the first update.
    torch.testing.assert_close((sums - rollouts.scores).exp(), torch.ones_like(sums), atol=1e-9, rtol=0)
    assert loss.facts["entropy"].item() == pytest.approx(-rollouts.scores.sum().item() / loss.tokens)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_eta_mixes_in_maximum_likelihood(device: torch.device, method: str, eta: float) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    rl, _ = run(model, batch, make_config(method, eta=1.0))
    mle = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 0.25)
    loss, _ = run(model, batch, make_config(method, eta=eta, coverage_weight=0.25))
    torch.testing.assert_close(loss.total, eta * rl.total + (1 - eta) * mle.total)
    assert loss.tokens == rl.tokens + (mle.tokens if eta < 1 else 0)
    assert ("nll" in loss.facts) == (eta < 1)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_reaches_every_weight_from_the_rollouts_alone(device: torch.device, method: str) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(0, SIZE, copies=1, size=16), device)
    run(model, batch, make_config(method, samples=4))[0].total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.ne(0).any(), name


@pytest.mark.parametrize("method", METHODS)
def test_no_advantage_no_gradient(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    loss = policy_gradient(
        model,
        batch,
        MAX_TOKENS,
        lambda tokens, *_: torch.ones(len(tokens)).to(tokens.device),
        make_config(method),
    )
    assert all(g.eq(0).all() for g in torch.autograd.grad(loss.total, list(model.parameters())))


@pytest.mark.parametrize("method", METHODS)
def test_training_finds_the_best_texts(device: torch.device, method: str) -> None:
    model, batch = make_table(device)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    tokens, _ = every_sequence(EXTENDED, MAX_TOKENS)
    best = odd_reward(tokens[(tokens < SIZE).all(1)]).max().item()
    before = expected_rewards(model, batch)
    for _ in range(100):
        optimizer.zero_grad()
        policy_gradient(model, batch, MAX_TOKENS, Recorder(), make_config(method, samples=16)).total.backward()
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
    reward = WeightedReward(word_vocabulary, reward_config(), 1)
    rewards = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = policy_gradient(model, batch, 4, reward, make_config("rloo", samples=16))
        loss.total.backward()
        optimizer.step()
        rewards.append(loss.facts["reward"].item())
    # Without copying the two words that its vocabulary lacks it would get no further than 0.78.
    assert rewards[0] < 0.5 and rewards[-1] > 0.85
