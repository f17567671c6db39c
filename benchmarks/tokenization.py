"""What tokenization and batches cost on a corpus: python -m benchmarks.tokenization data/raw

The folder is what the stage `download` wrote. For the tokenization of params.yaml, and for 50,000 words with texts cut
as is usual for CNN/DailyMail: seconds and peak memory of each step, how fast the store opens, how much of batches is
padding, and how much of a training step of the default model is waiting for its batch.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from benchmarks.timing import DEVICE
from rlseq2seq.config.base import load
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.batches import BatchOrder, make_batch
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.data.store import TokenStore, write_store
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.models.saved import new_model
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from stages.tokenization import learn_vocabulary

WORKERS = os.cpu_count() or 1
BATCH_SIZES = (16, 32)
STEPS = 8


def main() -> None:
    train = Path(sys.argv[1]) / "train.jsonl"
    default = load(TokenizationConfig, "tokenization")
    words = replace(default, type="word", vocabulary_size=50_000, vocabulary_file=None, split_identifiers=False)
    for config in (default, *(replace(words, max_source_tokens=cut, max_target_tokens=100) for cut in (400, 800))):
        limits = f"{config.max_source_tokens}/{config.max_target_tokens}"
        print(f"\n{config.vocabulary_size:,} {config.type} pieces, texts cut at {limits}, {WORKERS} processes")
        with TemporaryDirectory() as folder:
            vocabulary, store = tokenize(train, config, Path(folder))
            for batch_size in BATCH_SIZES:
                print_padding(store, batch_size)
                print_waiting(store, vocabulary, batch_size)


def tokenize(train: Path, config: TokenizationConfig, folder: Path) -> tuple[Vocabulary, TokenStore]:
    with measured() as learning:
        vocabulary = learn_vocabulary(train, config, WORKERS)
    with measured() as encoding:
        pairs = write_store(folder, "train", read_pairs(train), vocabulary, WORKERS)["pairs"]
    for name, (seconds, worked, own, everyone) in (("learn", learning), ("encode", encoding)):
        print(
            f"  {name}: {seconds:.1f} s; of all processors {worked:.1f} s, {worked / pairs * 100_000:.0f} s per "
            f"100,000 pairs; peak memory {own:.0f} MiB, {everyone:.0f} with the processes"
        )
    start = time.perf_counter()
    store = TokenStore(folder, "train")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"  store: {size / 1e6:.0f} MB, opened in {1000 * (time.perf_counter() - start):.1f} ms")
    return vocabulary, store


@contextmanager
def measured() -> Iterator[list[float]]:
    """Seconds, those of all processors, and the peak of MiB resident in this process, and with its children."""
    result, done = [0.0] * 4, threading.Event()
    start, worked = time.perf_counter(), sum(os.times()[:4])

    def watch() -> None:
        own = psutil.Process()
        while not done.wait(0.1):
            sizes = [own.memory_info().rss]
            for child in own.children(recursive=True):
                try:
                    sizes.append(child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            result[2:] = max(result[2], sizes[0] / 2**20), max(result[3], sum(sizes) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield result
    result[:2] = time.perf_counter() - start, sum(os.times()[:4]) - worked
    done.set()
    watcher.join()


def print_padding(store: TokenStore, batch_size: int) -> None:
    order = BatchOrder(store, batch_size, seed=0)
    shares = []
    for lengths in (store.sources.lengths, store.targets.lengths):
        batches = [lengths[order.rows(step)] for step in range(order.batches_per_epoch)]
        shares.append(1 - lengths.sum() / sum(batch.max() * len(batch) for batch in batches))
    print(f"  batches of {batch_size}: padding is {shares[0]:.1%} of sources, {shares[1]:.1%} of targets")


def print_waiting(store: TokenStore, vocabulary: Vocabulary, batch_size: int) -> None:
    torch.manual_seed(0)
    model = new_model(load(ModelConfig, "model"), len(vocabulary), vocabulary.config).to(DEVICE)
    order, times = BatchOrder(store, batch_size, seed=0), []
    for step in range(STEPS + 1):
        start = time.perf_counter()
        batch = make_batch(store, order.rows(step), DEVICE)
        made = time.perf_counter()
        loss = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 0.0)
        loss.total.backward()
        model.zero_grad()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        times.append((made - start, time.perf_counter() - made))
    making, training = np.array(times[1:]).sum(0)  # the first shuffles the epoch, and warms up
    print(
        f"  batches of {batch_size}: made in {1000 * making / STEPS:.2f} ms, trained on in {training / STEPS:.2f} s: "
        f"{making / (making + training):.2%} is waiting"
    )


if __name__ == "__main__":
    main()
