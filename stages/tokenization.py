"""Stage 2: learn the vocabulary from the training split, and encode training and validation pairs once.

The test split is not read: evaluation starts from its texts.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import tee
from pathlib import Path

from tqdm import tqdm

from rlseq2seq.config.base import load
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.data.store import write_store
from rlseq2seq.data.vocabulary import Vocabulary, normalizer
from rlseq2seq.data.vocabulary_file import read_words
from rlseq2seq.data.word_vectors import read_word_vectors
from rlseq2seq.token_ids import END
from stages.common import RAW, REPORTS, TOKENS, run, write_text_whole, written_whole


def main() -> None:
    config = load(TokenizationConfig, "tokenization")
    workers = load(RuntimeConfig, "runtime").workers or os.cpu_count() or 1
    facts: dict[str, object] = {}
    if config.vocabulary_file is None:
        vocabulary = learn_vocabulary(RAW / "train.jsonl", config, workers)
    else:
        given = read_words(Path(config.vocabulary_file), config.vocabulary_size - END - 1, normalizer(config))
        vocabulary = Vocabulary.of_words(given.words, config)
        print(f"{len(given.words):,} words of {config.vocabulary_file}; {given.skipped:,} others can stand in no text")
        facts["vocabulary_file"] = {"words": len(given.words), "skipped": given.skipped}
    facts["vocabulary"] = len(vocabulary)
    with written_whole(TOKENS) as folder:
        vocabulary.save(folder)
        if config.word_vectors is not None:
            vectors = read_word_vectors(Path(config.word_vectors), vocabulary.piece_texts())
            vectors.save(folder)
            found, share = len(vectors.ids), len(vectors.ids) / len(vocabulary)
            facts["word_vectors"] = {"size": vectors.vectors.shape[1], "found": found, "share": round(share, 4)}
            print(f"word vectors of {found:,} of {len(vocabulary):,} pieces ({share:.1%})")
        for split in ("train", "validation"):
            facts[split] = write_store(folder, split, read_pairs(RAW / f"{split}.jsonl"), vocabulary, workers)
    write_text_whole(REPORTS / "tokenization.json", json.dumps(facts, indent=2) + "\n")


def learn_vocabulary(train: Path, config: TokenizationConfig, workers: int) -> Vocabulary:
    """Learn the pieces while a clock runs: sentencepiece does not tell how far it is."""
    of_sources, of_targets = tee(read_pairs(train))  # read in step: no more than a pair is kept
    sources, targets = (pair.source for pair in of_sources), (pair.target for pair in of_targets)
    title = f"learn {config.vocabulary_size:,} {config.type} pieces"
    with ThreadPoolExecutor(1) as pool, tqdm(desc=title, bar_format="{desc}: {elapsed}") as clock:
        learned = pool.submit(Vocabulary.train, sources, targets, config, workers)
        while not wait([learned], timeout=0.5).done:
            clock.refresh()
        return learned.result()


if __name__ == "__main__":
    run(main)
