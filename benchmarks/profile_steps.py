"""Where the time of training goes: a maximum likelihood step, a rollout and a policy gradient update.

    python -m benchmarks.profile_steps

Shapes are those of params.yaml on random ids, so no corpus is needed. For each piece of work: the median time of seven
runs, and the operators that took most of it (self time, from one profiled run).
"""

import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from rlseq2seq.config.base import load
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.single_path import sample
from rlseq2seq.models.saved import new_model
from rlseq2seq.objectives.fine_tuning import FineTuning
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.objectives.setting import Setting

RUNS = 7
# Mean length of the targets of the default corpus.
TARGET_TOKENS = 14


class RandomReward:
    """Rewards take 1 ms and need texts; random ones leave the rest of the update as it is."""

    def __call__(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        return torch.rand(len(tokens))

    def prefixes(self, tokens: torch.Tensor, batch: Batch) -> torch.Tensor:
        return torch.rand(tokens.shape)


def main() -> None:
    model_config, tokenization = load(ModelConfig, "model"), load(TokenizationConfig, "tokenization")
    pretrain, finetune = load(PretrainConfig, "pretrain"), load(FinetuneConfig, "finetune")
    torch.manual_seed(0)
    model = new_model(model_config, tokenization.vocabulary_size, tokenization)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    max_tokens = tokenization.max_target_tokens
    cpu = torch.device("cpu")
    limits = tokenization.max_source_tokens, max_tokens
    fine_tuning = FineTuning(Setting(model, None, RandomReward(), *limits, cpu, cpu), finetune)
    batches = {count: _batch(count, tokenization) for count in (pretrain.batch_size, finetune.batch_size)}

    def update(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    def likelihood() -> None:
        batch = batches[pretrain.batch_size]
        memory = model.encode(batch.sources, batch.source_lengths)
        update(maximum_likelihood(model, memory, batch, 0.0).total)

    def rollout() -> None:
        batch = batches[finetune.batch_size]
        with torch.no_grad():
            memory = model.encode(batch.sources, batch.source_lengths)
        sample(model, memory, max_tokens, torch.rand(finetune.samples * finetune.batch_size, max_tokens))

    def reinforcement() -> None:
        update(fine_tuning(batches[finetune.batch_size], 0).total)

    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    _report(f"maximum likelihood, {pretrain.batch_size} pairs", likelihood)
    model.dropout.p = 0.0  # as in fine-tuning
    _report(f"rollout, {finetune.samples} samples of {finetune.batch_size} sources, {max_tokens} steps", rollout)
    _report(f"policy gradient update, {finetune.samples} samples of {finetune.batch_size} sources", reinforcement)


def _batch(count: int, tokenization: TokenizationConfig) -> Batch:
    def ids(length: int) -> torch.Tensor:
        return torch.randint(4, tokenization.vocabulary_size, (count, length))

    lengths = [torch.full((count,), length) for length in (tokenization.max_source_tokens, TARGET_TOKENS)]
    sources, targets = ids(tokenization.max_source_tokens), ids(TARGET_TOKENS)
    return Batch(sources, lengths[0], targets, lengths[1], tuple(range(count)), ([],) * count, ("",) * count)


def _report(title: str, work: Callable[[], None]) -> None:
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    print(f"\n{title}: median {1000 * statistics.median(times):.0f} ms of {RUNS}")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:12]:
        print(f"  {event.self_cpu_time_total / total:6.1%}  {event.count:5d} calls  {event.key}")


if __name__ == "__main__":
    main()
