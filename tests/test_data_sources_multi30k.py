"""Multi30k: from its folder, and from a server that has the repository's files."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer, serving

from rlseq2seq.config.data import Multi30kConfig
from rlseq2seq.data.pairs import SPLITS
from rlseq2seq.data.sources import fetch, multi30k
from rlseq2seq.errors import UserError

CONFIG = Multi30kConfig("en", "de", "test_2016_flickr")
SHA = "5" * 40
STEMS = ("train", "val", "test_2016_flickr")


def text(stem: str, language: str) -> str:
    # Not `splitlines`: U+2028 is in captions, and ends no line.
    return "".join(f"{stem} \u2028 {language} {i}\n" for i in range(4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem in STEMS:
        for language in ("en", "de", "fr"):
            (tmp_path / f"{stem}.{language}.gz").write_bytes(gzip.compress(text(stem, language).encode()))
    return tmp_path


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    with serving() as server:
        monkeypatch.setattr(multi30k, "COMMITS", server.url("commits/master"))
        monkeypatch.setattr(multi30k, "RAW", server.url("raw"))
        server.files["commits/master"] = json.dumps({"sha": SHA, "commit": {}}).encode()
        for path in folder.glob("*.gz"):
            server.files[f"raw/{SHA}/data/task1/raw/{path.name}"] = path.read_bytes()
        yield server


def pairs(corpus: Any) -> dict[str, list[tuple[str, str]]]:
    return {split: [(pair.source, pair.target) for pair in corpus.splits[split]] for split in SPLITS}


def expected(source: str, target: str) -> dict[str, list[tuple[str, str]]]:
    return {
        split: [(f"{stem} \u2028 {source} {i}", f"{stem} \u2028 {target} {i}") for i in range(4)]
        for split, stem in zip(SPLITS, STEMS, strict=True)
    }


def test_a_folder_in_either_direction(folder: Path) -> None:
    assert pairs(multi30k.load(CONFIG, str(folder))) == expected("en", "de")
    assert pairs(multi30k.load(Multi30kConfig("fr", "en", "test_2016_flickr"), str(folder))) == expected("fr", "en")


def test_plain_files(folder: Path) -> None:
    for path in folder.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert pairs(multi30k.load(CONFIG, str(folder))) == expected("en", "de")


def test_a_fetch_and_one_that_was_cut_off(server: FileServer) -> None:
    server.faults.drop_after = [1000, 5, 0, 0, 0, 0, 0]
    with pytest.raises(UserError, match=r"train\.en\.gz stopped after 5 bytes"):
        multi30k.load(CONFIG, None)
    server.asked()
    server.faults.drop_after = []
    corpus = multi30k.load(CONFIG, None)
    assert pairs(corpus) == expected("en", "de")
    asked = server.asked()
    assert asked[1] == (f"raw/{SHA}/data/task1/raw/train.en.gz", "bytes=5-") and len(asked) == 7
    assert corpus.notes[0].startswith(f"origin: github.com/multi30k/dataset at revision {SHA}, fetched 2")
    assert pairs(multi30k.load(CONFIG, None)) == expected("en", "de") and server.asked() == []


def test_a_folder_without_the_test_set_halves_validation(folder: Path) -> None:
    for path in folder.glob("test_*"):
        path.unlink()
    corpus = multi30k.load(CONFIG, str(folder))
    found = pairs(corpus)
    assert sorted(found["validation"] + found["test"]) == expected("en", "de")["validation"]
    assert "halved" in corpus.notes[-1]


def test_another_test_set_is_not_made_of_the_validation_split(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no test_2017_mscoco\.en\.gz: put it there, or name another folder"):
        multi30k.load(Multi30kConfig("en", "de", "test_2017_mscoco"), str(folder))


def test_a_file_that_is_missing_short_or_damaged(folder: Path) -> None:
    target = folder / "train.de.gz"
    content = target.read_bytes()
    target.write_bytes(gzip.compress(b"only one\n"))
    with pytest.raises(UserError, match=r"train\.de\.gz ends before line 2 of .*train\.en\.gz"):
        pairs(multi30k.load(CONFIG, str(folder)))
    target.write_bytes(content[:-9])
    with pytest.raises(UserError, match=r"train\.de\.gz is no whole gzip file"):
        pairs(multi30k.load(CONFIG, str(folder)))
    (folder / "test_2016_flickr.de.gz").unlink()
    with pytest.raises(UserError, match=r"has no test_2016_flickr\.de\.gz: put it there, or name another folder"):
        multi30k.load(CONFIG, str(folder))
