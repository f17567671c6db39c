"""The lines of a user's text file, plain or gzip."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlseq2seq.errors import UserError


def byte_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of each line of ``path``, which is gzip if it ends in ``.gz``.

    Raises:
        UserError: the file cannot be read to its end.
    """
    opener: Callable[[Path, str], Any] = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is no whole gzip file (after line {number}): make or copy it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): see to its permissions and its disk") from None
