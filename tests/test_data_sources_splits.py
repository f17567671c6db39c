"""Splits by name, and the halves of a validation split that has to do for two."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq2seq.data.pairs import SPLITS, Pair
from rlseq2seq.data.sources.splits import assemble, by_split, split_named_in
from rlseq2seq.errors import UserError


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("3.0.0/train-00000-of-00003.parquet", "train"),
        ("default/train/0000.parquet", "train"),
        ("default/partial-train/0000.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("xsum-test.parquet", "test"),
        ("test_000.bin", "test"),
        ("val.bin", "validation"),
        ("dev.jsonl.gz", "validation"),
        ("valid.jsonl", "validation"),
        ("TRAIN.jsonl", "train"),
        ("test/train-0.parquet", "train"),  # the nearest name counts
        ("my-test-train.parquet", "train"),
        ("contest/trainer.parquet", None),
        ("evaluation.parquet", None),
        ("latest-00000.parquet", None),
    ],
)
def test_the_split_that_a_path_names(path: str, split: str | None) -> None:
    assert split_named_in(path) == split


def test_folders_around_the_corpus_name_no_split() -> None:
    folder = Path("/data/test")
    paths = [folder / name for name in ("train-1.parquet", "train-0.parquet", "dev.parquet", "notes.parquet")]
    assert by_split(paths, folder) == {"train": [paths[1], paths[0]], "validation": [paths[2]]}


def test_a_file_that_is_there_packed_and_unpacked_is_read_once() -> None:
    folder = Path("/data")
    paths = [folder / name for name in ("train.jsonl", "train.jsonl.gz", "train-2.jsonl.gz", "test.jsonl.gz")]
    assert by_split(iter(paths), folder) == {"train": [paths[2], paths[0]], "test": [paths[3]]}


def rows(*texts: tuple[str | None, str | None], **more: str) -> Any:
    return lambda: iter([{"source": source, "target": target, **more} for source, target in texts])


def split(readers: dict[str, Any]) -> tuple[dict[str, list[Pair]], dict[str, int], str]:
    corpus = assemble(readers, "the corpus", ["origin: here"])
    pairs = {name: list(corpus.splits[name]) for name in SPLITS}
    return pairs, corpus.facts, "; ".join(corpus.notes)


def test_published_splits_stay_what_they_are() -> None:
    readers = {"train": rows(("a", "b")), "validation": rows(("c", "d")), "test": rows(("e", "f"), id="7")}
    pairs, facts, notes = split(readers)
    assert pairs == {
        "train": [Pair("train:1", "a", "b")],
        "validation": [Pair("validation:1", "c", "d")],
        "test": [Pair("7", "e", "f")],
    }
    assert facts == dict.fromkeys(("skipped_blank_train", "skipped_blank_validation", "skipped_blank_test"), 0)
    assert notes == "origin: here"


def test_a_row_whose_id_is_none_gets_one() -> None:
    readers: dict[str, Any] = {name: rows(("a", "b")) for name in SPLITS}
    readers["train"] = lambda: iter([{"source": "a", "target": "b", "id": None}])
    assert split(readers)[0]["train"] == [Pair("train:1", "a", "b")]


def test_rows_that_lack_a_text_are_left_out_and_counted() -> None:
    readers = {name: rows(("a", "b")) for name in SPLITS}
    readers["train"] = rows(("a", "b"), ("", "c"), ("d", " \n"), (None, "e"), ("f", None), ("g", "h"))
    pairs, facts, _ = split(readers)
    assert [(pair.id, pair.source) for pair in pairs["train"]] == [("train:1", "a"), ("train:6", "g")]
    assert facts["skipped_blank_train"] == 4


TEXTS = st.lists(st.tuples(st.text(max_size=4), st.text(min_size=1, max_size=4)), max_size=60)


@given(TEXTS, st.randoms())
def test_the_halves_of_a_validation_split(texts: list[tuple[str, str]], chooser: Any) -> None:
    pairs, facts, notes = split({"train": rows(("a", "b")), "validation": rows(*texts)})
    halves = {name: [(pair.source, pair.target) for pair in pairs[name]] for name in ("validation", "test")}
    kept = [(source, target) for source, target in texts if source.strip() and target.strip()]
    assert sorted(halves["validation"] + halves["test"]) == sorted(kept)  # all, once each
    assert not {source for source, _ in halves["validation"]} & {source for source, _ in halves["test"]}
    assert facts["skipped_blank_validation"] + facts["skipped_blank_test"] == len(texts) - len(kept)
    assert "there is no test split, so the validation split is halved by a hash of the source" in notes
    chooser.shuffle(texts)
    again, _, _ = split({"train": rows(("a", "b")), "validation": rows(*texts, ("one more", "x"))})
    for name, half in halves.items():  # where a source goes does not depend on the others
        assert set(half) <= {(pair.source, pair.target) for pair in again[name]}


def test_the_halves_are_of_a_size() -> None:
    pairs, _, _ = split({"train": rows(("a", "b")), "validation": rows(*((f"text {i}", "x") for i in range(2000)))})
    assert 900 < len(pairs["test"]) < 1100  # four and a half standard deviations


def test_nothing_is_read_before_it_is_asked_for_and_nothing_is_kept() -> None:
    read = []

    def many() -> Iterator[dict[str, str]]:
        for i in range(1000):
            read.append(i)
            yield {"source": str(i), "target": "x"}

    corpus = assemble({"train": many, "validation": many}, "the corpus")
    assert read == []
    next(iter(corpus.splits["train"]))
    assert len(read) == 1


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_split_that_is_missing_is_named(missing: str) -> None:
    readers = {name: rows(("a", "b")) for name in SPLITS if name != missing}
    others = ", ".join(readers)
    with pytest.raises(UserError, match=rf"^the corpus has no {missing} split \(it has {others}\): make one, in files"):
        assemble(readers, "the corpus")
