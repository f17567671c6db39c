"""Rewards, parameters and models of which everything can be enumerated, for tests of objectives."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from tiny import TableModel, every_sequence, move, random_batch
from torch import Tensor, nn

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.single_path import sample
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.objectives.fine_tuning import FineTuning
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.objectives.setting import Setting
from rlseq2seq.token_ids import PAD

SIZE, EXTENDED, MAX_TOKENS = 6, 7, 3


def finetune_config(method: str, **changes: Any) -> FinetuneConfig:
    """The parameters of the project, but for pure reinforcement by ``method`` with 2 samples, and ``changes``; of a
    dotted key, with dots written as two underscores."""
    values = read_params()["finetune"] | {"method": method, "samples": 2}
    values["eta"] = {"schedule": "constant", "start": 1.0, "end": 1.0, "steps": 1}
    for key, value in changes.items():
        *path, name = key.split("__")
        mapping = values
        for part in path:
            mapping = mapping[part]
        mapping[name] = value
    return parse(FinetuneConfig, values, "finetune")


def odd_rewards(tokens: Tensor) -> Tensor:
    """Rewards [N, T] in [0, 1) of prefixes, without rhyme or reason; padding counts nothing."""
    weights = torch.tensor([0.731, 0.377, 0.193], dtype=torch.float64, device=tokens.device)
    return (tokens * weights[: tokens.shape[1]]).cumsum(1) % 1


@dataclass
class Recorder:
    """A reward that remembers what it was asked."""

    of_prefixes: Callable[[Tensor], Tensor] = odd_rewards
    tokens: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    asked: list[Batch] = field(default_factory=list)

    def __call__(self, tokens: Tensor, batch: Batch) -> Tensor:
        return self.prefixes(tokens, batch)[:, -1]

    def prefixes(self, tokens: Tensor, batch: Batch) -> Tensor:
        found = self.of_prefixes(tokens)
        self.tokens.append(tokens)
        self.rewards.append(found[:, -1])
        self.asked.append(batch)
        return found


def make_table(device: torch.device, seed: int = 0, contexts: int = 61) -> tuple[TableModel, Batch]:
    """A model that can write 259 texts, and two sources, one with a word to copy."""
    batch = replace(
        random_batch(0, SIZE, size=2, width=2, copies=1),
        sources=torch.tensor([[6, 4], [5, PAD]]),
        source_lengths=torch.tensor([2, 1]),
    )
    return TableModel(SIZE, width=2, seed=seed, contexts=contexts).to(device), move(batch, device)


def tuned(
    model: Any, config: FinetuneConfig, reward: Any = None, pretrained: Any = None, max_tokens: int = MAX_TOKENS
) -> FineTuning:
    """The loss of fine-tuning ``model``, what it remembers in the model's type and on its device."""
    fine_tuning = FineTuning(make_setting(model, reward, pretrained, max_tokens), config)
    fine_tuning.state.to(next(model.parameters()))
    return fine_tuning


def make_setting(model: Any, reward: Any = None, pretrained: Any = None, max_tokens: int = MAX_TOKENS) -> Setting:
    device = next(model.parameters()).device
    return Setting(model, pretrained, reward or Recorder(), 20, max_tokens, device, device)


def run(model: Any, batch: Batch, config: FinetuneConfig, seed: int = 0, **others: Any) -> tuple[Loss, Recorder]:
    torch.manual_seed(seed)
    recorder = Recorder()
    return tuned(model, config, recorder, **others)(batch, 0), recorder


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """All of it, in one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def everything(model: TableModel, batch: Batch, max_tokens: int = MAX_TOKENS) -> tuple[Tensor, Tensor]:
    """All that can be written, [M, T], and its log-probabilities [B, M]."""
    tokens, lengths = (t.to(batch.sources.device) for t in every_sequence(EXTENDED, max_tokens))
    memory = model.encode(batch.sources, batch.source_lengths)
    # Impossible texts, copies of what a source lacks, have a finite log-probability next to nothing.
    rows = len(batch.rows)
    scored = score_tokens(model, memory, tokens.repeat(rows, 1), lengths.repeat(rows))
    log_probs = scored.of_sequences(scored.log_probs, rows * len(tokens)).view(rows, -1)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones_like(log_probs[:, 0]))
    return tokens, log_probs


def expected_rewards(model: TableModel, batch: Batch, max_tokens: int = MAX_TOKENS) -> Tensor:
    """The exact expectation [B] of the reward."""
    tokens, log_probs = everything(model, batch, max_tokens)
    return (log_probs.exp() * odd_rewards(tokens)[:, -1]).sum(1)


def assert_log_probs_are_those_of_the_distribution_sampled(model: PointerModel, device: torch.device) -> None:
    batch = move(random_batch(0, SIZE, copies=1, empty=True), device)
    loss, recorder = run(model, batch, finetune_config("rloo", samples=3), seed=2)
    torch.manual_seed(2)
    memory = model.encode(batch.sources, batch.source_lengths)
    rollouts = sample(model, memory, MAX_TOKENS, torch.rand(12, MAX_TOKENS, device=device))
    assert torch.equal(rollouts.tokens, recorder.tokens[0])
    scored = score_tokens(model, memory, rollouts.tokens, rollouts.lengths)
    sums = scored.of_sequences(scored.log_probs, 12)
    # The ratio of the two policies is 1 before the first update.
    torch.testing.assert_close((sums - rollouts.scores).exp(), torch.ones_like(sums), atol=1e-9, rtol=0)
    assert loss.facts["entropy"].item() == pytest.approx(-rollouts.scores.sum().item() / loss.tokens)
