"""Samples of what a critic remembers, and what that takes: python -m benchmarks.replay

100,000 transitions of 256-dimensional states in half precision, of sources of 64 tokens. A sample has 1,000 of them and
what followed each; when it is prioritized, the benchmark tells it new errors between samples. No package that the
project compares with has such a memory: the bars are a millisecond and 96 MiB, and a ratio is how many times a sample
or the memory would fit in.
"""

import torch

from benchmarks.timing import DEVICE, Row, medians, print_rows
from rlseq2seq.config.critic import ReplayConfig
from rlseq2seq.config.training import ProbabilityConfig
from rlseq2seq.objectives.replay import Replay, Transitions

REPETITIONS = 300
CAPACITY, FEATURES, SOURCE_TOKENS, VOCABULARY = 100_000, 256, 64, 8000
ROLLOUTS, TOKENS, SAMPLE = 500, 20, 1000
SECONDS, BYTES = 1e-3, 96 * 2**20


def transitions() -> Transitions:
    """Rollouts of 20 tokens."""
    rows = ROLLOUTS * TOKENS
    rewards = torch.rand(ROLLOUTS, TOKENS)
    return Transitions(
        features=torch.randn(rows, FEATURES),
        gate_logits=torch.randn(rows),
        attention=torch.randn(rows, SOURCE_TOKENS).softmax(-1),
        source_ids=torch.randint(4, VOCABULARY, (rows, SOURCE_TOKENS)),
        tokens=torch.randint(4, VOCABULARY, (rows,)),
        rewards=rewards.flatten(),
        returns=rewards.flip(1).cumsum(1).flip(1).flatten(),
        last=torch.arange(rows) % TOKENS == TOKENS - 1,
    )


def full(sampling: str) -> Replay:
    importance = ProbabilityConfig("constant", 0.5, 0.5, 1)
    replay = Replay(FEATURES, SOURCE_TOKENS, ReplayConfig(CAPACITY, sampling, 0.6, importance, half_precision=True))
    for _ in range(CAPACITY // (ROLLOUTS * TOKENS)):
        replay.push(transitions())
    replay.set_errors(torch.arange(CAPACITY), torch.randn(CAPACITY))
    return replay


def rows() -> list[Row]:
    torch.manual_seed(0)
    table = []
    for sampling in ("uniform", "prioritized"):
        replay = full(sampling)
        of = f"of {CAPACITY:,} transitions, {sampling}"
        work = f"replay, a sample of {SAMPLE:,} {of}"
        contenders = {
            "ours": lambda replay=replay: replay.sample(SAMPLE, 0.5, DEVICE),
            # In turns with the samples, so that none finds in the cache what the last one left there.
            "errors": lambda replay=replay: replay.set_errors(torch.randint(CAPACITY, (SAMPLE,)), torch.randn(SAMPLE)),
        }
        times = medians(work, contenders, REPETITIONS)
        print(f"{times['ours'] * 1e3:9.3f} ms  {work}; {times['errors'] * 1e3:.3f} ms to tell its errors")
        table.append(Row(work=work, peer="1 ms", ratio=SECONDS / times["ours"], bar=1.0))
        taken = sum(x.nbytes for x in replay.parameters())
        print(f"{taken / 2**20:9.1f} MiB  replay {of}")
        table.append(Row(work=f"replay {of}: memory", peer="96 MiB", ratio=BYTES / taken, bar=1.0))
    return table


if __name__ == "__main__":
    print_rows(rows())
