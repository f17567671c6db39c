"""Stage 1: pairs of texts, as JSON lines."""

import json

from rlseq2seq.config.base import load
from rlseq2seq.config.data import DataConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, write_pairs
from rlseq2seq.data.sources import (
    aeslc,
    cnn_dailymail,
    files,
    hub,
    multi30k,
    newsroom,
    published,
    python_docstrings,
    tf_bin,
)
from rlseq2seq.errors import UserError
from stages.common import RAW, REPORTS, run, write_text_whole, written_whole


def main() -> None:
    config = load(DataConfig, "data")
    corpus = load_corpus(config)
    for note in corpus.notes:
        print(note)
    with written_whole(RAW) as folder:
        counts = {split: write_pairs(folder / f"{split}.jsonl", corpus.splits[split]) for split in SPLITS}
        for split, count in counts.items():
            if not count:
                raise UserError(f"data.source {config.source} gave no {split} pairs: give it more ({corpus.facts})")
    facts = {"pairs": counts, "facts": corpus.facts, "notes": list(corpus.notes)}
    write_text_whole(REPORTS / "corpus.json", json.dumps(facts, indent=2) + "\n")
    print("pairs: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))


def load_corpus(config: DataConfig) -> Corpus:
    path = config.path
    match config.source:
        case "python_docstrings":
            return python_docstrings.load(config.python_docstrings)
        case "files":
            return files.load(config.files)
        case "cnn_dailymail":
            return cnn_dailymail.load(path)
        case "xsum":
            return published.load_xsum(path)
        case "gigaword":
            return published.load_gigaword(path)
        case "aeslc":
            return aeslc.load(path)
        case "multi30k":
            return multi30k.load(config.multi30k, path)
        case "hub":
            return hub.load(config.hub, path)
        case "newsroom":
            return newsroom.load(str(path))  # newsroom and tf_bin have one: the configuration sees to that
        case "tf_bin":
            return tf_bin.load(str(path))


if __name__ == "__main__":
    run(main)
