"""The corpora themselves, where RLSEQ2SEQ_REAL_DATA names a folder that has them."""

import os
from pathlib import Path

import pytest

from rlseq2seq.config.data import Multi30kConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, Pair
from rlseq2seq.data.sources import aeslc, cnn_dailymail, multi30k


def folder(name: str) -> str:
    place = os.environ.get("RLSEQ2SEQ_REAL_DATA")
    if place is None:
        pytest.skip("RLSEQ2SEQ_REAL_DATA names no folder of real corpora")
    return str(Path(place) / name)


def checked(corpus: Corpus) -> dict[str, list[Pair]]:
    """The pairs, which have texts and names of their own, and of which those held out share no source."""
    pairs = {split: list(corpus.splits[split]) for split in SPLITS}
    for found in pairs.values():
        assert all(pair.source.strip() and pair.target.strip() for pair in found)
        assert len({pair.id for pair in found}) == len(found) > 400
    return pairs


def halved(corpus: Corpus, pairs: dict[str, list[Pair]]) -> int:
    """How many pairs there are in both halves of a validation split."""
    assert "halved" in corpus.notes[-1]
    assert not {pair.source for pair in pairs["validation"]} & {pair.source for pair in pairs["test"]}
    assert 0.8 < len(pairs["test"]) / len(pairs["validation"]) < 1.25
    return len(pairs["validation"]) + len(pairs["test"])


def test_cnn_dailymail() -> None:
    corpus = cnn_dailymail.load(folder("cnn_dailymail"))
    pairs = checked(corpus)
    assert not any("\n" in pair.target for found in pairs.values() for pair in found)
    assert all(len(pair.id) == 40 for found in pairs.values() for pair in found)
    assert sum(len(pair.source) > 2 * len(pair.target) for pair in pairs["train"]) > 0.99 * len(pairs["train"])
    if "halved" in corpus.notes[-1]:
        halved(corpus, pairs)


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de", "en")])
def test_multi30k(source: str, target: str) -> None:
    config = Multi30kConfig(source, target, "test_2016_flickr")  # type: ignore[arg-type]
    pairs = checked(multi30k.load(config, folder("multi30k")))
    assert {split: len(found) for split, found in pairs.items()} == {"train": 29000, "validation": 1014, "test": 1000}


def test_aeslc() -> None:
    corpus = aeslc.load(folder("aeslc"))
    pairs = checked(corpus)
    skipped = sum(corpus.facts[f"skipped_blank_{split}"] for split in ("validation", "test"))
    assert len(pairs["train"]) + corpus.facts["skipped_blank_train"] == 14436
    if "halved" in corpus.notes[-1]:
        assert halved(corpus, pairs) + skipped == 1960
        assert any(len(pair.references) > 1 for pair in pairs["test"])
