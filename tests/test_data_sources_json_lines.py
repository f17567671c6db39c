"""Newsroom and AESLC as JSON lines."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rlseq2seq.data.pairs import SPLITS, Pair
from rlseq2seq.data.sources import aeslc, newsroom
from rlseq2seq.errors import UserError

ARTICLE = {"url": "http://x", "title": "Head", "text": "Body\ntext", "summary": "Short", "density": 1.5}
EMAIL = {"source": "Hi", "target": "Subject", "refs": ["one", "two"]}


def write(path: Path, *rows: Any) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


def test_newsroom(tmp_path: Path) -> None:
    bare = {"text": "Body", "summary": "Short", "title": None}
    write(tmp_path / "train.jsonl.gz", ARTICLE, {**ARTICLE, "summary": None}, {**ARTICLE, "text": " "}, bare)
    write(tmp_path / "dev.jsonl", ARTICLE)
    write(tmp_path / "test.jsonl.gz", ARTICLE)
    corpus = newsroom.load(str(tmp_path))
    pairs = {split: list(corpus.splits[split]) for split in SPLITS}
    assert pairs["train"] == [
        Pair("train:1", "Body\ntext", "Short", name="Head"),
        Pair("train:4", "Body", "Short"),
    ]
    assert pairs["validation"] == [Pair("validation:1", "Body\ntext", "Short", name="Head")]
    assert corpus.facts["skipped_blank_train"] == 2
    assert corpus.notes == ["origin: a local folder (data.path)", f"terms: {newsroom.TERMS}"]


def test_aeslc_with_its_annotators_and_no_test_split(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl.gz", {"source": "Hi", "target": "S"}, {"source": "", "target": "S"})
    write(tmp_path / "validation.jsonl.gz", *({**EMAIL, "source": f"mail {i}"} for i in range(20)))
    corpus = aeslc.load(str(tmp_path))
    assert list(corpus.splits["train"]) == [Pair("train:1", "Hi", "S")]
    halves = [*corpus.splits["validation"], *corpus.splits["test"]]
    assert {pair.source for pair in halves} == {f"mail {i}" for i in range(20)} and len(halves) == 20
    assert {pair.references for pair in halves} == {("one", "two")}
    assert corpus.notes[1] == "terms: CC BY-NC-SA 4.0" and "halved" in corpus.notes[2]


@pytest.mark.parametrize(
    ("load", "row", "told"),
    [
        (newsroom.load, {"text": "a"}, r"line 2 has no summary: it needs text and summary"),
        (newsroom.load, {**ARTICLE, "text": 3}, r"line 2: text must be a text, and is 3"),
        (newsroom.load, {**ARTICLE, "title": ["x"]}, r'line 2: title must be a text, and is \["x"\]'),
        (newsroom.load, {**ARTICLE, "text": "\ud800"}, r"line 2: text has half a character"),
        (newsroom.load, [1], r"line 2 is not an object"),
        (aeslc.load, {"source": "a"}, r"line 2 has no target"),
        (aeslc.load, {**EMAIL, "refs": "one"}, r'line 2: refs must be a list of texts, and is "one"'),
        (aeslc.load, {**EMAIL, "refs": [" "]}, r"line 2: refs is empty"),
    ],
)
def test_a_bad_line_is_named(load: Any, row: Any, told: str, tmp_path: Path) -> None:
    good = {**ARTICLE, **EMAIL}
    write(tmp_path / "train.jsonl.gz", good, row)
    write(tmp_path / "validation.jsonl.gz", good)
    corpus = load(str(tmp_path))
    with pytest.raises(UserError, match=rf"train\.jsonl\.gz, {told}"):
        list(corpus.splits["train"])


def test_a_truncated_file(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl.gz", *({**ARTICLE, "text": f"{n * n * n}"} for n in range(999)))
    write(tmp_path / "dev.jsonl.gz", ARTICLE)
    whole = (tmp_path / "train.jsonl.gz").read_bytes()
    (tmp_path / "train.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"train\.jsonl\.gz is no whole gzip file \(after line"):
        list(newsroom.load(str(tmp_path)).splits["train"])


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.jsonl\.gz, dev\.jsonl\.gz and test\.jsonl\.gz: name"):
        newsroom.load(str(tmp_path))
    with pytest.raises(UserError, match=r"has no parquet files named by split"):
        aeslc.load(str(tmp_path))
