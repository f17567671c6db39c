"""Stage 2: learn the vocabulary from the training split, and encode training and validation pairs once.

The test split is not read: evaluation starts from its texts.
"""

import json
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from rlseq2seq.config.base import load
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.data.store import write_store
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.data.word_vectors import read_word_vectors
from stages.common import RAW, REPORTS, TOKENS, run, write_text_whole, written_whole


def main() -> None:
    config = load(TokenizationConfig, "tokenization")
    vocabulary = learn_vocabulary(RAW / "train.jsonl", config)
    facts: dict[str, object] = {"vocabulary": len(vocabulary)}
    with written_whole(TOKENS) as folder:
        vocabulary.save(folder)
        if config.word_vectors is not None:
            vectors = read_word_vectors(Path(config.word_vectors), vocabulary.piece_texts())
            vectors.save(folder)
            found, share = len(vectors.ids), len(vectors.ids) / len(vocabulary)
            facts["word_vectors"] = {"size": vectors.vectors.shape[1], "found": found, "share": round(share, 4)}
            print(f"word vectors of {found:,} of {len(vocabulary):,} pieces ({share:.1%})")
        for split in ("train", "validation"):
            pairs = tqdm(read_pairs(RAW / f"{split}.jsonl"), desc=f"encode {split}", unit="pair", delay=2)
            facts[split] = write_store(folder, split, pairs, vocabulary)
    write_text_whole(REPORTS / "tokenization.json", json.dumps(facts, indent=2) + "\n")


def learn_vocabulary(train: Path, config: TokenizationConfig) -> Vocabulary:
    """Learn the pieces while a clock runs: sentencepiece does not tell how far it is."""
    sources = (pair.source for pair in read_pairs(train))
    targets = (pair.target for pair in read_pairs(train))
    title = f"learn {config.vocabulary_size:,} {config.type} pieces"
    with ThreadPoolExecutor(1) as pool, tqdm(desc=title, bar_format="{desc}: {elapsed}") as clock:
        learned = pool.submit(Vocabulary.train, sources, targets, config)
        while not wait([learned], timeout=0.5).done:
            clock.refresh()
        return learned.result()


if __name__ == "__main__":
    run(main)
