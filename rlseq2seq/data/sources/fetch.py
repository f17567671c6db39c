"""Getting a file over HTTP: what is there already is not asked for again, and what is wrong is told in a sentence."""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from rlseq2seq.errors import UserError

ATTEMPTS = 5  # without a byte more
PAUSE = 1.0  # seconds after the first failure, twice as many after each further one
TIMEOUT = 30.0  # seconds
CHUNK = 1 << 18

_BUSY = (408, 425, 429, 500, 502, 503, 504)  # worth another try


class Content(NamedTuple):
    """What a file holds, as far as that is known."""

    bytes: int | None = None
    sha256: str | None = None

    def agrees(self, other: "Content") -> bool:
        pairs = ((self.bytes, other.bytes), (self.sha256, other.sha256))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)

    def __str__(self) -> str:
        size = "" if self.bytes is None else f"{self.bytes:,} bytes"
        return ", ".join(filter(None, (size, self.sha256 and f"sha256 {self.sha256}")))


class _Abandoned(Exception):  # noqa: N818 - of this attempt, not an error yet
    """This attempt has ended too early; the next goes on from there."""


def fetch(url: str, path: Path, expected: Content, remedy: str) -> Content:
    """Get ``url`` into ``path``, where it appears whole and checked or not at all.

    What has come before a dropped connection stays in ``path`` + ``.part``, and the next attempt, or the next run, goes
    on from there.

    Args:
        url: where it is; a URL that always gives the same bytes.
        path: where to.
        expected: what it should hold.
        remedy: what to do, after a colon, where the server does not have it or has something else.

    Returns:
        What it holds.

    Raises:
        UserError: it cannot be got, or holds something else.
    """
    if path.is_file():
        if (found := content_of(path)).agrees(expected):
            return found
        path.unlink()  # damaged since
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    _get_all(url, part, expected, remedy)
    found = content_of(part)
    if not found.agrees(expected):
        part.unlink()
        raise UserError(f"{url} has {found}, and should have {expected}: run again, and if it stays so, {remedy}")
    part.replace(path)
    return found


def fetch_commit(url: str, remedy: str) -> dict[str, Any]:
    """What ``url`` answers about a commit: an object with its name as ``sha``.

    Raises:
        UserError: it cannot be got, or is no such object.
    """
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            with _open(url, remedy) as response:
                answer = json.load(response)
        except ValueError:
            answer = None
        except (_Abandoned, HTTPException, OSError) as error:
            reason = _reason(error)
            time.sleep(PAUSE * 2**attempt)
            continue
        if not isinstance(answer, dict) or not isinstance(answer.get("sha"), str):
            raise UserError(f"{url} answers with something that names no commit: run again later, or {remedy}")
        return answer
    raise UserError(f"{url} cannot be reached ({reason}): see to the network and run again, or {remedy}")


def content_of(path: Path) -> Content:
    with path.open("rb") as file:
        return Content(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _get_all(url: str, part: Path, expected: Content, remedy: str) -> None:
    """Append to ``part`` until all is there, as long as any attempt gets on."""
    failures = 0
    with part.open("ab") as file, tqdm(desc=part.stem, total=expected.bytes, unit="B", unit_scale=True) as bar:
        while True:
            before = file.tell()
            if expected.bytes is not None and before >= expected.bytes:
                return  # more than all is told by the comparison
            bar.n = before
            try:
                _go_on(url, file, bar, expected, remedy)
                return
            except (_Abandoned, HTTPException, OSError) as error:
                failures = 1 if file.tell() > before else failures + 1
                if failures >= ATTEMPTS:
                    raise UserError(
                        f"{url} stopped after {file.tell():,} bytes ({_reason(error)}): see to the network and run "
                        f"again, which goes on from there, or {remedy}"
                    ) from None
                time.sleep(PAUSE * 2 ** (failures - 1))


def _go_on(url: str, file: IO[bytes], bar: "tqdm[Any]", expected: Content, remedy: str) -> None:
    """Get the rest, in one attempt."""
    have = file.tell()
    try:
        response = _open(url, remedy, {"Range": f"bytes={have}-"} if have else {})
    except HTTPError as error:  # 416, there is no such range; _open has seen to all others
        if error.headers["Content-Range"] == f"bytes */{have}":
            return
        _start_over(file)
        raise _Abandoned("what was there did not fit") from None
    with response:
        if have and not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            _start_over(file)
            if response.status == 206:
                raise _Abandoned("another range came than was asked for")
            have = bar.n = 0
        length = response.headers["Content-Length"]
        total = None if length is None else have + int(length)
        if not Content(total).agrees(expected):
            raise UserError(f"{url} has {total:,} bytes, and should have {expected}: {remedy}")
        if total is not None:
            bar.total = total
            _check_room(file, total - have)
        while chunk := response.read1(CHUNK):  # what is there, so that no drop loses any
            _write(file, chunk)
            bar.update(len(chunk))
        if total is not None and file.tell() < total:
            raise _Abandoned("the connection was dropped")


def _open(url: str, remedy: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    request = Request(url, headers={"User-Agent": "rlseq2seq", **(headers or {})})
    try:
        response: HTTPResponse = urlopen(request, timeout=TIMEOUT)
        return response
    except HTTPError as error:
        if error.code == 416:
            raise
        if error.code in _BUSY:
            raise _Abandoned(f"the server answers {error.code} {error.reason}") from None
        if error.code in (401, 403):
            raise UserError(f"{url} is not public, or is not there ({error.code} {error.reason}): {remedy}") from None
        raise UserError(f"{url} cannot be had ({error.code} {error.reason}): {remedy}") from None


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason) or type(error).__name__


def _start_over(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _check_room(file: IO[bytes], needed: int) -> None:
    free = shutil.disk_usage(Path(file.name).parent).free
    if free < needed:
        raise UserError(
            f"{file.name} needs {needed:,} more bytes, and its disk has {free:,}: make room and run again, which goes "
            "on from there"
        )


def _write(file: IO[bytes], chunk: bytes) -> None:
    """With what is the disk's fault told apart from what is the network's."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise UserError(
            f"{file.name} cannot be written ({error.strerror}): make room on its disk and run again, which goes on "
            "from there"
        ) from None
