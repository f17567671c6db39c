"""Stage 2: learn the vocabulary from the training split, and encode training and validation pairs once.

The test split is not read: evaluation starts from its texts.
"""

import json

from tqdm import tqdm

from rlseq2seq.config.base import load
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.data.store import write_store
from rlseq2seq.data.vocabulary import Vocabulary
from stages.common import RAW, REPORTS, TOKENS, run, write_text_whole, written_whole


def main() -> None:
    config = load(TokenizationConfig, "tokenization")
    train = RAW / "train.jsonl"
    print(f"learning {config.vocabulary_size:,} {config.type} pieces")
    vocabulary = Vocabulary.train(
        (pair.source for pair in read_pairs(train)), (pair.target for pair in read_pairs(train)), config
    )
    facts: dict[str, object] = {"vocabulary": len(vocabulary)}
    with written_whole(TOKENS) as folder:
        vocabulary.save(folder)
        for split in ("train", "validation"):
            pairs = tqdm(read_pairs(RAW / f"{split}.jsonl"), desc=f"encode {split}", unit="pair", delay=2)
            facts[split] = write_store(folder, split, pairs, vocabulary)
    write_text_whole(REPORTS / "tokenization.json", json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
