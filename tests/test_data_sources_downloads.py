"""The record of what was fetched: written once, when all is there, and held to from then on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from rlseq2seq.data.sources import fetch
from rlseq2seq.data.sources.downloads import RECORD, Listing, download
from rlseq2seq.data.sources.fetch import Content
from rlseq2seq.errors import UserError

FILES = {"one/train.gz": b"first" * 200, "val.gz": b"second" * 100}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        server.files = {f"commit1/{name}": content for name, content in FILES.items()}
        yield server


def get(server: FileServer, revision: str = "commit1") -> Path:
    listing = Listing(revision, dict.fromkeys(FILES, Content()), "free")
    folder, _ = download("some/corpus", lambda: listing, lambda revision, name: server.url(f"{revision}/{name}"))
    return folder


def test_the_first_time_is_recorded_and_then_nothing_is_asked(
    server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = get(server)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert "some/corpus: recorded in data-revisions.json, which belongs in git\n" in capsys.readouterr().out
    recorded = json.loads(RECORD.read_text())["some/corpus"]
    assert recorded.keys() == {"fetched", "revision", "terms", "files"}
    assert (recorded["revision"], recorded["terms"]) == ("commit1", "free")
    assert recorded["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in FILES.items()
    }
    before = RECORD.read_bytes()
    server.asked()
    assert get(server, "commit2") == folder  # what the publisher has by now does not matter
    assert server.asked() == [] and RECORD.read_bytes() == before
    assert capsys.readouterr().out == ""


def test_something_else_under_the_recorded_revision_is_an_error_that_names_both(server: FileServer) -> None:
    folder = get(server)
    before = RECORD.read_bytes()
    (folder / "val.gz").unlink()
    other = FILES["val.gz"][::-1]
    server.files["commit1/val.gz"] = other
    with pytest.raises(UserError, match=r"has 600 bytes, sha256 .*, and should have 600 bytes, sha256 ") as caught:
        get(server, "commit2")
    for content in (other, FILES["val.gz"]):
        assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert "to have what is there now, take 'some/corpus' (revision commit1, fetched 2" in str(caught.value)
    assert str(caught.value).endswith(") out of data-revisions.json")
    assert not (folder / "val.gz").exists() and RECORD.read_bytes() == before


def test_a_revision_that_is_gone_is_named_with_its_entry(server: FileServer) -> None:
    folder = get(server)
    (folder / "val.gz").unlink()
    server.files.clear()
    with pytest.raises(UserError, match=r"commit1/val\.gz cannot be had \(404 .*take 'some/corpus' \(revision commit1"):
        get(server)


def test_what_was_cut_off_is_not_recorded_and_goes_on(server: FileServer) -> None:
    server.faults.drop_after = [1000, 100, 0, 0, 0, 0, 0]
    with pytest.raises(UserError, match="stopped after 100 bytes"):
        get(server)
    assert not RECORD.exists()
    server.asked()
    server.faults.drop_after = []
    folder = get(server)
    assert server.asked() == [("commit1/val.gz", "bytes=100-")]
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_another_corpus_is_recorded_beside(server: FileServer) -> None:
    get(server)
    listing = Listing("commit1", {"val.gz": Content()})
    download("another", lambda: listing, lambda revision, name: server.url(f"{revision}/{name}"))
    assert list(json.loads(RECORD.read_text())) == ["another", "some/corpus"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", r"data-revisions\.json is not JSON"),
        ("[]", r"data-revisions\.json.corpora is \[\]: must be a mapping"),
        ('{"a": {"fetched": "now"}}', r"data-revisions\.json\.corpora\.a\.revision is missing"),
    ],
)
def test_a_record_that_is_none(server: FileServer, text: str, told: str) -> None:
    RECORD.write_text(text)
    with pytest.raises(UserError, match=told):
        get(server)
    assert server.asked() == []


@pytest.mark.parametrize("name", ["../val.gz", "a/../../val.gz", "/etc/val.gz"])
def test_a_file_outside_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="outside its folder"):
        Listing("commit1", {name: Content()})
