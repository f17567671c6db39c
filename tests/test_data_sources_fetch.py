"""Getting files from a server that drops connections, forgets ranges, and has something else."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import FileServer, serving

from rlseq2seq.data.sources import fetch as module
from rlseq2seq.data.sources.fetch import Content, fetch, fetch_commit
from rlseq2seq.errors import UserError

CONTENT = bytes(range(256)) * 40
WHOLE = Content(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
REMEDY = "name a folder"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with serving() as server:
        server.files["file"] = CONTENT
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file"


def part(path: Path) -> Path:
    return path.with_name("file.part")


def refused(server: FileServer, path: Path, expected: Content = WHOLE) -> str:
    """What is told; nothing of it may look like the file."""
    with pytest.raises(UserError) as caught:
        fetch(server.url("file"), path, expected, REMEDY)
    assert not path.exists()
    text = str(caught.value)
    assert "\n" not in text
    assert server.url("file") in text or str(path) in text
    return text


@pytest.mark.parametrize("expected", [Content(), WHOLE, Content(bytes=WHOLE.bytes), Content(sha256=WHOLE.sha256)])
@pytest.mark.parametrize("length", [True, False])
def test_a_file_is_got_and_told(server: FileServer, path: Path, expected: Content, length: bool) -> None:
    server.faults.length = length
    assert fetch(server.url("file"), path, expected, REMEDY) == WHOLE
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert server.asked() == [("file", None)]


@pytest.mark.parametrize("length", [True, False])
def test_a_dropped_connection_is_taken_up_where_it_was(server: FileServer, path: Path, length: bool) -> None:
    server.faults.length = length
    server.faults.drop_after = [1000, 2000, 0, 0, 0, 500]
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE
    ranges = ["bytes=1000-", "bytes=3000-", "bytes=3000-", "bytes=3000-", "bytes=3000-", "bytes=3500-"]
    assert server.asked() == [("file", None), *(("file", asked) for asked in ranges)]


def test_what_a_run_got_before_it_gave_up_is_not_asked_for_again(server: FileServer, path: Path) -> None:
    server.faults.drop_after = [4000, 0, 0, 0, 0, 0]
    told = refused(server, path)
    assert f"{server.url('file')} stopped after 4,000 bytes (the connection was dropped): see to the network" in told
    assert told.endswith(f"run again, which goes on from there, or {REMEDY}")
    assert part(path).read_bytes() == CONTENT[:4000]
    server.asked()
    server.faults.drop_after = []
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE
    assert server.asked() == [("file", "bytes=4000-")]


def test_a_server_without_ranges_gives_it_from_the_start(server: FileServer, path: Path) -> None:
    server.faults.ranges = False
    server.faults.drop_after = [1000]
    assert fetch(server.url("file"), path, Content(), REMEDY) == WHOLE


def test_a_range_that_was_not_asked_for_is_not_appended(server: FileServer, path: Path) -> None:
    server.faults.shift = 7
    server.faults.drop_after = [1000]
    assert fetch(server.url("file"), path, Content(), REMEDY) == WHOLE
    assert server.asked() == [("file", None), ("file", "bytes=1000-"), ("file", None)]


def test_a_wrong_checksum_names_both_and_leaves_nothing(server: FileServer, path: Path) -> None:
    server.files["file"] = CONTENT[::-1]
    told = refused(server, path)
    assert str(WHOLE.sha256) in told and hashlib.sha256(CONTENT[::-1]).hexdigest() in told
    assert told.endswith(f"run again, and if it stays so, {REMEDY}")
    assert list(path.parent.iterdir()) == []
    server.files["file"] = CONTENT
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE


def test_a_wrong_size_is_told_before_anything_is_got(server: FileServer, path: Path) -> None:
    server.files["file"] = CONTENT[1:]
    assert "has 10,239 bytes, and should have 10,240 bytes, sha256 " in refused(server, path)
    assert part(path).stat().st_size == 0


def test_a_full_disk(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    part(path).symlink_to("/dev/full")
    told = refused(server, path)
    assert told.startswith(f"{part(path)} cannot be written (No space left on device): make room on its disk")
    assert len(server.asked()) == 1


def test_a_disk_that_has_too_little_room_is_told_before_anything_is_got(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults.drop_after = [4000, 0, 0, 0, 0, 0]
    refused(server, path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6239))
    assert refused(server, path).startswith(f"{part(path)} needs 6,240 more bytes, and its disk has 6,239: make room")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6240))
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE


def test_what_is_there_is_not_asked_for(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE
    assert server.asked() == []


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[::-1]])
def test_what_was_damaged_since_is_got_again(server: FileServer, path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("expected", [WHOLE, Content()])
def test_a_run_that_was_killed_before_it_renamed(server: FileServer, path: Path, expected: Content) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT)
    assert fetch(server.url("file"), path, expected, REMEDY) == WHOLE
    assert server.asked() == ([] if expected.bytes else [("file", "bytes=10240-")])


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: FileServer, path: Path) -> None:
    path.parent.mkdir()
    part(path).write_bytes(CONTENT * 2)
    assert fetch(server.url("file"), path, Content(), REMEDY) == WHOLE
    path.unlink()
    part(path).write_bytes(CONTENT * 2)
    assert "should have" in refused(server, path)
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE


@pytest.mark.parametrize(("status", "told"), [(404, "cannot be had (404 Not Found)"), (401, "is not public, or")])
def test_what_no_further_try_mends_is_told_at_once(server: FileServer, path: Path, status: int, told: str) -> None:
    server.faults.status = [status]
    message = refused(server, path)
    assert told in message and message.endswith(f": {REMEDY}")
    assert len(server.asked()) == 1


def test_a_busy_server_is_asked_again_and_not_for_ever(server: FileServer, path: Path) -> None:
    server.faults.status = [503, 429, 500, 502]
    assert fetch(server.url("file"), path, WHOLE, REMEDY) == WHOLE
    path.unlink()
    server.faults.status = [503] * 5
    assert "stopped after 0 bytes (the server answers 503 Service Unavailable)" in refused(server, path)


def test_no_server(server: FileServer, path: Path) -> None:
    with serving() as other:
        gone = other.address
    for ask in (
        lambda: fetch(f"{gone}/file", path, WHOLE, REMEDY),
        lambda: fetch_commit(f"{gone}/commit", REMEDY),
    ):
        with pytest.raises(UserError, match=r"Connection refused\): see to the network .* or name a folder$"):
            ask()


def test_what_a_server_says_of_a_commit(server: FileServer) -> None:
    server.files["commit"] = b'{"sha": "abc", "more": 1}'
    server.faults.status = [503]
    server.faults.drop_after = [5]
    assert fetch_commit(server.url("commit"), REMEDY) == {"sha": "abc", "more": 1}
    for answer in (b"<html>", b"[]", b"{}", b"\xff"):
        server.files["commit"] = answer
        with pytest.raises(UserError, match=r"/commit answers with something that names no commit: run again later"):
            fetch_commit(server.url("commit"), REMEDY)
