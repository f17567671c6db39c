"""The hub: its answers, its files, and folders of the same layout."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer, serving
from parquet_files import write_parquet

from rlseq2seq.config.data import HubConfig
from rlseq2seq.data.pairs import SPLITS
from rlseq2seq.data.sources import aeslc, cnn_dailymail, fetch, hub, published
from rlseq2seq.errors import UserError

DATASET = HubConfig("owner/name", "text", "summary", None, None)
SHA = "0123456789abcdef" * 2 + "01234567"
NAMES = ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with serving() as server:
        monkeypatch.setattr(hub, "HUB", server.address)
        yield server


def publish(
    server: FileServer, files: dict[str, bytes], name: str = "owner/name", revision: str = "main", sha: str = SHA
) -> None:
    """What the hub has of a dataset, answered as the hub does."""
    siblings: list[dict[str, Any]] = [{"rfilename": "README.md", "size": 9, "blobId": "0" * 40}]
    for path, content in files.items():
        lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        siblings.append({"rfilename": path, "size": len(content), "blobId": "1" * 40, "lfs": lfs})
        server.files[f"datasets/{name}/resolve/{sha}/{path}"] = content
    answer = {"id": name, "sha": sha, "cardData": {"license": ["mit", "other"]}, "siblings": siblings}
    server.files[f"api/datasets/{name}/revision/{revision}?blobs=true"] = json.dumps(answer).encode()


def parquet_files(
    folder: Path, around: str = "data/", source: str = "text", target: str = "summary"
) -> dict[str, bytes]:
    return {
        f"{around}{name}.parquet": write_parquet(
            folder / f"{around}{name}.parquet",
            **{source: [f"{name} {i}" for i in range(5)], target: [f"{i}" for i in range(5)]},
        )
        for name in NAMES
    }


def pairs(corpus: Any) -> dict[str, list[tuple[str, str]]]:
    return {split: [(pair.source, pair.target) for pair in corpus.splits[split]] for split in SPLITS}


def expected(*names: str) -> list[tuple[str, str]]:
    return [(f"{name} {i}", f"{i}") for name in names for i in range(5)]


WHOLE = {"train": expected(*NAMES[:2]), "validation": expected(NAMES[2]), "test": expected(NAMES[3])}


def test_a_dataset_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    publish(server, parquet_files(tmp_path))
    corpus = hub.load(DATASET, None)
    assert pairs(corpus) == WHOLE
    assert corpus.notes[1] == "terms: as the hub says: mit, other"
    assert corpus.notes[0].startswith(f"origin: {server.address}/datasets/owner/name at revision {SHA}, fetched 2")
    assert len(server.asked()) == 5  # what there is, and four files
    again = hub.load(DATASET, None)
    assert pairs(again) == WHOLE and again.notes == corpus.notes
    assert server.asked() == []


def test_a_file_that_is_not_what_the_hub_says(server: FileServer, tmp_path: Path) -> None:
    publish(server, parquet_files(tmp_path))
    name = f"datasets/owner/name/resolve/{SHA}/data/{NAMES[2]}.parquet"
    server.files[name] = server.files[name][::-1]
    with pytest.raises(
        UserError, match=r"validation.*sha256 .*, and should have .* sha256 .*name a folder that has the"
    ):
        hub.load(DATASET, None)
    assert not Path("data-revisions.json").exists()


def test_the_hub_s_own_conversion_where_the_publisher_has_no_parquet(server: FileServer, tmp_path: Path) -> None:
    publish(server, {})
    sources = ["a", "b", "c"]
    files = {
        f"default/{split}/0000.parquet": write_parquet(tmp_path / split, text=sources, summary=sources)
        for split in SPLITS
    }
    publish(server, files, revision="refs%2Fconvert%2Fparquet", sha=SHA[::-1])
    assert pairs(hub.load(DATASET, None)) == {split: [(text, text) for text in sources] for split in SPLITS}


def test_a_conversion_that_has_but_the_beginning_is_told(tmp_path: Path) -> None:
    for split in ("partial-train", "validation", "test"):
        write_parquet(tmp_path / "default" / split / "0000.parquet", text=["a"], summary=["b"])
    corpus = hub.load(DATASET, str(tmp_path))
    assert pairs(corpus) == {split: [("a", "b")] for split in SPLITS}
    assert "converted the beginning of this dataset alone" in corpus.notes[-1]


def test_a_dataset_of_several_versions(server: FileServer, tmp_path: Path) -> None:
    files = parquet_files(tmp_path, "1.0.0/", target="old") | parquet_files(tmp_path, "2.0.0/")
    publish(server, files)
    for path in (None, str(tmp_path)):
        with pytest.raises(
            UserError, match=r"owner/name comes in several versions: set .*config to one of 1.0.0, 2.0.0"
        ):
            hub.load(DATASET, path)
        assert pairs(hub.load(replace(DATASET, config="2.0.0"), path)) == WHOLE
    assert not any("1.0.0" in path for path, _ in server.asked())
    with pytest.raises(UserError, match=r"versions"):
        hub.load(replace(DATASET, config="3.0.0"), None)


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    parquet_files(tmp_path, "1.0.0/")
    with pytest.raises(UserError, match=r"owner/name has no version '3\.0\.0': it has 1\.0\.0"):
        hub.load(replace(DATASET, config="3.0.0"), str(tmp_path))


def test_a_revision_has_an_entry_of_its_own(server: FileServer, tmp_path: Path) -> None:
    publish(server, parquet_files(tmp_path))
    hub.load(DATASET, None)
    files = {name.replace("data/", ""): content for name, content in parquet_files(tmp_path).items()}
    publish(server, files, revision="v2", sha="f" * 40)
    assert pairs(hub.load(replace(DATASET, revision="v2"), None)) == WHOLE
    record = json.loads(Path("data-revisions.json").read_text())
    assert {key: entry["revision"] for key, entry in record.items()} == {
        "datasets/owner/name": SHA,
        "datasets/owner/name@v2": "f" * 40,
    }


def test_a_name_that_the_hub_lacks(server: FileServer) -> None:
    with pytest.raises(UserError, match=r"/api/datasets/owner/name/.* cannot be had \(404 .*: check its name"):
        hub.load(DATASET, None)


def test_a_dataset_that_is_no_parquet_at_all(server: FileServer) -> None:
    publish(server, {})
    publish(server, {}, revision="refs%2Fconvert%2Fparquet")
    with pytest.raises(UserError, match="has no parquet files named by split on the hub: download it by hand"):
        hub.load(DATASET, None)


def test_a_revision_without_parquet_is_not_replaced_by_a_conversion_of_another(
    server: FileServer, tmp_path: Path
) -> None:
    publish(server, {}, revision="v1")
    publish(server, parquet_files(tmp_path), revision="refs%2Fconvert%2Fparquet")
    with pytest.raises(UserError, match="has no parquet files named by split on the hub"):
        hub.load(replace(DATASET, revision="v1"), None)


def test_a_column_that_is_missing_is_told_when_it_is_read(tmp_path: Path) -> None:
    parquet_files(tmp_path, target="other")
    corpus = hub.load(DATASET, str(tmp_path))
    with pytest.raises(UserError, match=r"has no column 'summary': it has text, other"):
        list(corpus.splits["train"])


def test_a_folder_without_parquet(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").touch()
    with pytest.raises(UserError, match=r"has no parquet files named by split, such as train-00000-of-00001\.parquet"):
        hub.load(DATASET, str(tmp_path))


def test_without_a_test_split_validation_is_halved(tmp_path: Path) -> None:
    parquet_files(tmp_path)
    (tmp_path / "data" / f"{NAMES[3]}.parquet").unlink()
    corpus = hub.load(DATASET, str(tmp_path))
    found = pairs(corpus)
    assert sorted(found["validation"] + found["test"]) == WHOLE["validation"]
    assert "halved" in corpus.notes[-1]


@pytest.mark.parametrize(
    ("load", "name", "source", "target", "config"),
    [
        (cnn_dailymail.load, "abisee/cnn_dailymail", "article", "highlights", "3.0.0"),
        (published.load_xsum, "EdinburghNLP/xsum", "document", "summary", "default"),
        (published.load_gigaword, "Harvard/gigaword", "document", "summary", "default"),
        (aeslc.load, "Yale-LILY/aeslc", "email_body", "subject_line", "default"),
    ],
)
def test_datasets_with_a_name_of_their_own(
    load: Any, name: str, source: str, target: str, config: str, server: FileServer, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    publish(server, parquet_files(folder, f"{config}/", source, target), name)
    for path in (None, str(folder)):
        corpus = load(path)
        assert pairs(corpus) == WHOLE
        assert [note.split(":")[0] for note in corpus.notes] == ["origin", "terms"]
