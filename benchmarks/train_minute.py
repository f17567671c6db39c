"""The default model, trained for a minute on a task that needs no corpus: python -m benchmarks.train_minute

Maximum likelihood on reversing half of the source, then policy gradient on how much of it is right. Both must learn: a
way to see in a minute that a device trains.
"""

import sys
import time

import torch

from benchmarks.timing import DEVICE
from rlseq2seq.config.base import load
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.models.saved import new_model
from rlseq2seq.objectives.fine_tuning import FineTuning
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.setting import Setting
from rlseq2seq.token_ids import END

SECONDS, PAIRS, SOURCE, TARGET, VOCABULARY = 30.0, 64, 24, 12, 4000


def make_batch() -> Batch:
    sources = torch.randint(4, VOCABULARY, (PAIRS, SOURCE), device=DEVICE)
    ends = torch.full((PAIRS, 1), END, device=DEVICE)
    targets = torch.cat([sources[:, :TARGET].flip(1), ends], 1)
    lengths = [torch.full((PAIRS,), n, device=DEVICE) for n in (SOURCE, TARGET + 1)]
    return Batch(sources, lengths[0], targets, lengths[1], tuple(range(PAIRS)), ([],) * PAIRS, ("",) * PAIRS)


class Right:
    """The share of the tokens that are the target's."""

    def __call__(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self._right(tokens, batch).sum(1) / TARGET

    def prefixes(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self._right(tokens, batch).cumsum(1) / TARGET

    def _right(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        golds = batch.targets[:, : tokens.shape[1]].repeat_interleave(len(tokens) // PAIRS, 0)
        return ((tokens == golds) & (tokens != END)).float()


def main() -> None:
    torch.manual_seed(0)
    model = new_model(load(ModelConfig, "model"), VOCABULARY, load(TokenizationConfig, "tokenization")).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    setting = Setting(model, None, Right(), SOURCE, TARGET + 1, DEVICE, DEVICE)
    fine_tuning = FineTuning(setting, load(FinetuneConfig, "finetune"))

    def likelihood() -> tuple[Loss, torch.Tensor]:
        batch = make_batch()
        memory = model.encode(batch.sources, batch.source_lengths)
        loss = maximum_likelihood(model, memory, batch, 0.0)
        return loss, -loss.total.detach()

    def reinforcement() -> tuple[Loss, torch.Tensor]:
        batch = make_batch()

        loss = fine_tuning(batch, 0)
        return loss, loss.facts["reward"]

    for name, objective in (("maximum likelihood", likelihood), ("policy gradient", reinforcement)):
        if objective is reinforcement:
            model.dropout.p = 0.0  # as in fine-tuning
        scores: list[torch.Tensor] = []
        tokens, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            loss, score = objective()
            optimizer.zero_grad()
            torch.autograd.backward(loss.total)
            optimizer.step()
            scores.append(score)
            tokens += loss.tokens
        tenth = max(1, len(scores) // 10)
        first, last = (torch.stack(part).mean().item() for part in (scores[:tenth], scores[-tenth:]))
        speed = tokens / (time.perf_counter() - start)
        print(f"{name}: {len(scores)} steps, {speed:,.0f} tokens/s, score {first:.3f} at first and {last:.3f} at last")
        solved = 0.9  # of the reward, at most 1; beyond it, what is left to learn is noise
        if not last > min(first, solved):
            sys.exit(f"{name} has not learnt")


if __name__ == "__main__":
    main()
