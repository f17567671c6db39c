"""A user's own pairs: JSON lines, TSV or two parallel text files, plain or gzip, read as they are asked for."""

import json
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlseq2seq.config.data import FilesConfig
from rlseq2seq.data.byte_lines import byte_lines
from rlseq2seq.data.pairs import SPLITS, Corpus, Pair
from rlseq2seq.errors import UserError

Lines = Iterator[tuple[int, str]]
Rows = Iterator[dict[str, Any]]


def load(config: FilesConfig) -> Corpus:
    """Open the three splits. A bad line is found when the split is iterated, not before.

    Raises:
        UserError: a file is missing (here); a file or a line cannot be read (from the iterators). It names file, line
            and remedy.
    """
    facts: dict[str, int] = {}
    splits = {}
    for split in SPLITS:
        stem = getattr(config, split)
        suffixes = (config.source_suffix, config.target_suffix) if config.format == "parallel" else ("",)
        paths = [_find(stem + suffix, f"data.files.{split}") for suffix in suffixes]
        splits[split] = _pairs(split, config.format, paths, facts)
    return Corpus(splits, facts)


def _find(name: str, key: str) -> Path:
    for path in (Path(name), Path(f"{name}.gz")):
        if path.is_file():
            return path
    raise UserError(f"{key} asks for {name!r}, and there is no such file: put it there, or correct params.yaml")


def _pairs(split: str, kind: str, paths: list[Path], facts: dict[str, int]) -> Iterator[Pair]:
    readers: dict[str, Callable[..., Rows]] = {"jsonl": _json_rows, "tsv": _tsv_rows, "parallel": _parallel_rows}
    count = references = 0
    for count, row in enumerate(tqdm(readers[kind](*paths), desc=f"reading {split}", unit=" pairs", delay=2), start=1):
        pair = Pair(**{"id": f"{split}:{count}", **row})
        references += len(pair.references)
        yield pair
    if not count:
        raise UserError(f"{paths[0]} is empty: a corpus needs at least one {split} pair")
    facts[f"references_{split}"] = references


def _json_rows(path: Path) -> Rows:
    """One object a line: source, target, and if you like references, group, name, id. Other keys are passed over."""
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
            example = '{"source": "...", "target": "..."}'
            raise UserError(f"{where} is not JSON ({reason}): write one object a line, like {example}") from None
        if not isinstance(values, dict):
            raise UserError(f"{where} is not an object: write {{...}} with the keys source and target")
        row: dict[str, Any] = {key: _text(values.get(key), key, where) for key in ("source", "target")}
        row |= {key: _text(values[key], key, where) for key in ("id", "name", "group") if values.get(key) is not None}
        references = values.get("references")
        if references is not None:
            if not isinstance(references, list):
                raise UserError(f"{where}: references must be a list of texts, and is {_shown(references)}")
            row["references"] = tuple(_text(reference, "references", where) for reference in references)
        yield row


def _tsv_rows(path: Path) -> Rows:
    """Source, a tab, target, and perhaps further references after further tabs; nothing is quoted or escaped."""
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        source, *targets = line.split("\t")
        if not targets:
            raise UserError(f"{where} has no tab: write the source, a tab and the target")
        row = {"source": _text(source, "source", where), "target": _text(targets[0], "target", where)}
        yield {**row, "references": tuple(text for text in targets[1:] if text.strip())}


def _parallel_rows(source_path: Path, target_path: Path) -> Rows:
    """Line n of one file is the source of the target in line n of the other."""
    for sources, targets in zip_longest(_lines(source_path), _lines(target_path)):
        if sources is None or targets is None:
            number, _ = sources or targets
            short, long = (source_path, target_path) if sources is None else (target_path, source_path)
            raise UserError(
                f"{short} ends before line {number} of {long}: the two need as many lines, one text a line, in step"
            )
        yield {
            "source": _text(sources[1], "source", f"{source_path}, line {sources[0]}"),
            "target": _text(targets[1], "target", f"{target_path}, line {targets[0]}"),
        }


def _lines(path: Path) -> Lines:
    """Number and text of each line but the blank ones at the end."""
    blank: list[tuple[int, str]] = []
    for number, line in byte_lines(path):
        text = _decode(line, number, path)
        blank.append((number, text))
        if text.strip():
            yield from blank
            blank.clear()


def _decode(line: bytes, number: int, path: Path) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # editors may begin a file with a mark
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(
            f"{path}, line {number} is not UTF-8 (byte 0x{byte:02x} at {error.start}): convert the file, as with iconv"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def _text(value: object, key: str, where: str) -> str:
    if value is None:
        raise UserError(f"{where} has no {key}: every pair needs a source and a target")
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be a text, and is {_shown(value)}: put it in double quotes")
    if not value.strip():
        raise UserError(f"{where}: {key} is empty: fill it in, or take the pair out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: {key} has half a character (an unpaired \\ud800-\\udfff): write it whole") from None
    return value


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
