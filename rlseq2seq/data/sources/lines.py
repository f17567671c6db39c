"""Lines of text, of JSON and of parallel files, in UTF-8, plain or gzip: a bad one is named by file and number."""

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rlseq2seq.data.byte_lines import byte_lines
from rlseq2seq.errors import UserError


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line but the blank ones at the end.

    Raises:
        UserError: the file cannot be read to its end, or a line is not UTF-8.
    """
    blank: list[tuple[int, str]] = []
    for number, line in byte_lines(path):
        text = _decode(line, number, path)
        blank.append((number, text))
        if text.strip():
            yield from blank
            blank.clear()


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object on each line, after the words that name the line in messages.

    Raises:
        UserError: as `text_lines`, or a line is no JSON object.
    """
    for number, line in text_lines(path):
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            others = "nested too deep" if isinstance(error, RecursionError) else "a number of too many digits"
            reason = error.msg if isinstance(error, json.JSONDecodeError) else others
            example = '{"source": "...", "target": "..."}'
            raise UserError(f"{where} is not JSON ({reason}): write one object a line, like {example}") from None
        if not isinstance(values, dict):
            raise UserError(f"{where} is not an object: write {{...}} with a key for each text")
        yield where, values


def parallel_lines(source: Path, target: Path) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Line n of both files, each as the words that name it in messages and its text.

    Raises:
        UserError: as `text_lines`, or one file ends before the other.
    """
    for one, other in zip_longest(text_lines(source), text_lines(target)):
        if one is None or other is None:
            number, _ = one or other
            short, long = (source, target) if one is None else (target, source)
            raise UserError(
                f"{short} ends before line {number} of {long}: the two need as many lines, one text a line, in step"
            )
        yield (f"{source}, line {one[0]}", one[1]), (f"{target}, line {other[0]}", other[1])


def text_of(value: object, key: str, where: str) -> str:
    """``value``, which must be a text with something in it.

    Raises:
        UserError: it is none, is blank, or cannot be written as UTF-8.
    """
    if value is None:
        raise UserError(f"{where} has no {key}: every pair needs a source and a target")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be a text, and is {shown(value)}: put it in double quotes")
    if not value.strip():
        raise UserError(f"{where}: {key} is empty: fill it in, or take the pair out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: {key} has half a character (an unpaired \\ud800-\\udfff): write it whole") from None
    return value


def text_or_blank(value: object, key: str, where: str) -> str:
    """As `text_of`, but nothing where there is nothing: published corpora have such rows."""
    return "" if value is None or (isinstance(value, str) and not value.strip()) else text_of(value, key, where)


def shown(value: object) -> str:
    """A value of JSON, cut to what a message has room for."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _decode(line: bytes, number: int, path: Path) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # editors may begin a file with a mark
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(
            f"{path}, line {number} is not UTF-8 (byte 0x{byte:02x} at {error.start}): convert the file, as with iconv"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
