"""Corpora that are fetched: what was fetched first is recorded, and what comes later has to be the same."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT, parse
from rlseq2seq.data.sources.fetch import Content, fetch
from rlseq2seq.errors import UserError

DOWNLOADS = Path("downloads")  # ignored by git and DVC
RECORD = Path("data-revisions.json")  # in git


@dataclass(frozen=True, config=STRICT)
class RecordedFile:
    bytes: int
    sha256: str


@dataclass(frozen=True, config=STRICT)
class Recorded:
    """What was fetched first: the day, the revision (a commit), the terms as published, and what each file holds."""

    fetched: str
    revision: str
    terms: str
    files: dict[str, RecordedFile]


@dataclass(frozen=True, config=STRICT)
class _Record:
    corpora: dict[str, Recorded]


class Listing:
    """What there is to be fetched: a commit, its terms if the publisher tells them, and files by their paths."""

    def __init__(self, revision: str, files: Mapping[str, Content], terms: str = "") -> None:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise UserError(f"{revision} lists a file {name!r}, outside its folder: do not use this corpus")
        self.revision, self.files, self.terms = revision, files, terms


def download(key: str, ask: Callable[[], Listing], url: Callable[[str, str], str]) -> tuple[Path, Recorded]:
    """Fetch a corpus, or what of it is not there yet.

    The first time, ``ask`` tells what there is; what was got is written into the record once all of it is there. From
    then on the record tells, and files that hold something else are an error.

    Args:
        key: names the corpus in the record.
        ask: lists the files.
        url: of a revision and a file.

    Returns:
        The folder with the files, and the record of them.

    Raises:
        UserError: as `fetch`; the record cannot be read.
    """
    record = _read_record()
    recorded = record.get(key)
    if recorded is None:
        listing = ask()
        remedy = "name a folder that has the files (data.path)"
    else:
        listing = Listing(
            recorded.revision, {name: Content(file.bytes, file.sha256) for name, file in recorded.files.items()}
        )
        remedy = (
            f"to have what is there now, take {key!r} (revision {recorded.revision}, fetched {recorded.fetched}) "
            f"out of {RECORD}"
        )
    folder = DOWNLOADS / key.replace("/", "--") / listing.revision[:12]
    found = {
        name: fetch(url(listing.revision, name), folder / name, content, remedy)
        for name, content in listing.files.items()
    }
    if recorded is None:
        files = {name: RecordedFile(content.bytes or 0, content.sha256 or "") for name, content in found.items()}
        recorded = Recorded(f"{datetime.now(UTC):%Y-%m-%d}", listing.revision, listing.terms, files)
        _write_record({**record, key: recorded})
        print(f"{key}: recorded in {RECORD}, which belongs in git")
    return folder, recorded


def _read_record() -> dict[str, Recorded]:
    try:
        values = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{RECORD} is not JSON ({error}): restore it from git") from None
    return parse(_Record, {"corpora": values}, str(RECORD)).corpora


def _write_record(record: Mapping[str, Recorded]) -> None:
    values = {
        key: {
            "fetched": corpus.fetched,
            "revision": corpus.revision,
            "terms": corpus.terms,
            "files": {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in corpus.files.items()},
        }
        for key, corpus in sorted(record.items())
    }
    part = RECORD.with_name(f".{RECORD.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(RECORD)
