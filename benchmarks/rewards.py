"""Rewards of sampled ids, each term by itself, and ROUGE-L by way of texts: python -m benchmarks.rewards

Medians over repetitions, with one thread here and two processes for a function of one's own, which costs what is told
beside what it takes itself. Stems are of words that were seen before, as most are after the first steps of a run.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from rlseq2seq.config.base import load
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.reward import RewardConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.batches import Batch, pad_rows
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.rewards.rouge import rouge_l_of_texts
from rlseq2seq.token_ids import END

REPETITIONS = 25
SOURCES = 32
SOURCE_TOKENS = 48
FUNCTION = "benchmarks.rewards:letters"


def letters(hypotheses: list[str], references: list[str], sources: list[str]) -> list[float]:
    """A user's function that takes no time to speak of."""
    return [float(len(text)) for text in hypotheses]


def made_up_vocabulary(draw: random.Random) -> Vocabulary:
    """Sentencepiece units of words made of syllables, the frequent ones being short."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=1 + i // 400)) for i in range(1200)]
    weights = [1 / (1 + i) for i in range(len(words))]
    texts = [" ".join(draw.choices(words, weights, k=20)) + "." for _ in range(4000)]
    config = TokenizationConfig("unigram", 1000, None, True, False, True, 100, 100, None)
    return Vocabulary.train(texts, texts, config)


def rewards(vocabulary: Vocabulary) -> dict[str, WeightedReward]:
    config = replace(load(FinetuneConfig, "finetune").reward, metric="rouge_l", function=None)
    terms = ("rouge_1", "rouge_2", "rouge_l", "bleu", "chrf", "length", "repetition", "novelty", "copy_rate")

    def made(changed: RewardConfig) -> WeightedReward:
        return WeightedReward(vocabulary, changed, 2)

    found = {term: made(replace(config, metric=term)) for term in terms}
    found |= {f"rouge_l of {words}": made(replace(config, words=words)) for words in ("stemmed", "pieces")}
    return found | {"function, that takes no time": made(replace(config, metric="function", function=FUNCTION))}


def made_up_batch(vocabulary: Vocabulary, draw: random.Random, columns: int) -> Batch:
    def ids(length: int) -> list[list[int]]:
        return [draw.choices(range(END + 1, len(vocabulary)), k=length) for _ in range(SOURCES)]

    sources, targets = ids(SOURCE_TOKENS), ids(columns - 1)
    texts = tuple(vocabulary.decode(row) for row in targets)
    target_ids = pad_rows([[*row, END] for row in targets])
    return Batch(*pad_rows(sources), *target_ids, tuple(range(SOURCES)), (["\u2581zorp"],) * SOURCES, texts)


def main() -> None:
    """Time each at the two sizes that finetune and a summarizer have."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    vocabulary = made_up_vocabulary(draw)
    all_rewards = rewards(vocabulary)
    for rows, columns in ((128, 24), (320, 100)):
        batch = made_up_batch(vocabulary, draw, columns)
        tokens = torch.tensor([draw.choices(range(END + 1, len(vocabulary)), k=columns) for _ in range(rows)])
        print(f"\n{rows} samples of {columns} ids: ms for the whole texts, and for all prefixes")
        for name, reward in all_rewards.items():
            ways: list[Callable[[], object]] = [
                lambda x=tokens, y=batch, r=reward: r(x, y),
                lambda x=tokens, y=batch, r=reward: r.prefixes(x, y),
            ]
            print(f"  {name:<30}" + "".join(f"{milliseconds(way):10.2f}" for way in ways))

        def by_texts(tokens: torch.Tensor = tokens, batch: Batch = batch) -> object:
            return rouge_l_of_texts(
                vocabulary.decode_rows(tokens.tolist(), batch.copies), batch.target_texts, "surface"
            )

        print(f"  {'rouge_l by way of texts':<30}{milliseconds(by_texts):10.2f}")


def milliseconds(way: Callable[[], object]) -> float:
    """The median, after a first time that is not counted."""
    way()
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main()
