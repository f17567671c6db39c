"""ROUGE rewards of sampled ids, as words put together on the device and by way of texts: python -m benchmarks.rewards

In turns, medians over repetitions, by the CPU time of the process, which may use one thread.
"""

import random
import statistics
import time

import torch

from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.rewards.rouge import RougeReward, rouge_l_of_texts
from rlseq2seq.token_ids import END

REPETITIONS = 25
SOURCES = 32


def made_up_vocabulary(draw: random.Random) -> Vocabulary:
    """Sentencepiece units of words made of syllables, the frequent ones being short."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=1 + i // 400)) for i in range(1200)]
    weights = [1 / (1 + i) for i in range(len(words))]
    texts = [" ".join(draw.choices(words, weights, k=20)) + "." for _ in range(4000)]
    config = TokenizationConfig("unigram", 1000, True, False, 100, 100)
    return Vocabulary.train(texts, texts, config)


def main() -> None:
    """Compare the two ways at the two sizes that finetune and a summarizer have."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    vocabulary = made_up_vocabulary(draw)
    reward = RougeReward(vocabulary, "rouge_l", "fmeasure", "surface")
    copies = [["\u2581zorp"]] * SOURCES

    def ids(rows: int, columns: int) -> list[list[int]]:
        return [draw.choices(range(END + 1, len(vocabulary)), k=columns) for _ in range(rows)]

    for rows, columns in ((128, 24), (320, 100)):
        tokens, targets = torch.tensor(ids(rows, columns)), [vocabulary.decode(row) for row in ids(SOURCES, columns)]

        def by_texts(tokens: torch.Tensor = tokens, targets: list[str] = targets) -> object:
            return rouge_l_of_texts(vocabulary.decode_rows(tokens.tolist(), copies), targets, "surface").fmeasure

        ways = {
            "whole, from ids": lambda x=tokens, y=targets: reward(x, copies, y),
            "every prefix, from ids": lambda x=tokens, y=targets: reward.prefixes(x, copies, y),
            "whole, by way of texts": by_texts,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPETITIONS):
            for name, way in ways.items():
                start = time.process_time()
                way()
                seconds[name].append(time.process_time() - start)
        print(f"\nROUGE-L reward of {rows} samples of {columns} ids")
        for name, times in seconds.items():
            print(f"  {name:<30}{1000 * statistics.median(times):8.3f} ms")


if __name__ == "__main__":
    main()
