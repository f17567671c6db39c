"""Stage 1: pairs of texts, as JSON lines."""

import json

from rlseq2seq.config.base import load
from rlseq2seq.config.data import DataConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, write_pairs
from rlseq2seq.data.sources import files, python_docstrings
from rlseq2seq.errors import UserError
from stages.common import RAW, REPORTS, run, write_text_whole, written_whole


def main() -> None:
    config = load(DataConfig, "data")
    corpus = load_corpus(config)
    with written_whole(RAW) as folder:
        counts = {split: write_pairs(folder / f"{split}.jsonl", corpus.splits[split]) for split in SPLITS}
        for split, count in counts.items():
            if not count:
                raise UserError(f"data.source {config.source} gave no {split} pairs: give it more ({corpus.facts})")
    facts = {"pairs": counts, "facts": corpus.facts}
    write_text_whole(REPORTS / "corpus.json", json.dumps(facts, indent=2) + "\n")
    print("pairs: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))


def load_corpus(config: DataConfig) -> Corpus:
    if config.source == "files":
        return files.load(config.files)
    return python_docstrings.load(config.python_docstrings)


if __name__ == "__main__":
    run(main)
