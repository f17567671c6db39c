"""A user's own pairs: JSON lines, TSV or two parallel text files, plain or gzip, read as they are asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlseq2seq.config.data import FilesConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, Pair
from rlseq2seq.data.sources.lines import json_objects, parallel_lines, shown, text_lines, text_of
from rlseq2seq.errors import UserError

Rows = Iterator[dict[str, Any] | None]  # None: left out


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
    if kind == "parallel" and split == "train":
        readers["parallel"] = _whole_parallel_rows
    count = references = blank = 0
    for count, row in enumerate(tqdm(readers[kind](*paths), desc=f"reading {split}", unit=" pairs", delay=2), start=1):
        if row is None:
            blank += 1
            continue
        pair = Pair(**{"id": f"{split}:{count}", **row})
        references += len(pair.references)
        yield pair
    if not count:
        raise UserError(f"{paths[0]} is empty: a corpus needs at least one {split} pair")
    facts[f"references_{split}"] = references
    if blank:
        facts[f"skipped_blank_{split}"] = blank


def _json_rows(path: Path) -> Rows:
    """One object a line: source, target, and if you like references, group, name, id. Other keys are passed over."""
    for where, values in json_objects(path):
        row: dict[str, Any] = {key: text_of(values.get(key), key, where) for key in ("source", "target")}
        row |= {key: text_of(values[key], key, where) for key in ("id", "name", "group") if values.get(key) is not None}
        references = values.get("references")
        if references is not None:
            if not isinstance(references, list):
                raise UserError(f"{where}: references must be a list of texts, and is {shown(references)}")
            row["references"] = tuple(text_of(reference, "references", where) for reference in references)
        yield row


def _tsv_rows(path: Path) -> Rows:
    """Source, a tab, target, and perhaps further references after further tabs; nothing is quoted or escaped."""
    for number, line in text_lines(path):
        where = f"{path}, line {number}"
        source, *targets = line.split("\t")
        if not targets:
            raise UserError(f"{where} has no tab: write the source, a tab and the target")
        row = {"source": text_of(source, "source", where), "target": text_of(targets[0], "target", where)}
        yield {**row, "references": tuple(text for text in targets[1:] if text.strip())}


def _parallel_rows(source: Path, target: Path) -> Rows:
    """Line n of one file is the source of the target in line n of the other."""
    for (place, text), (target_place, target_text) in parallel_lines(source, target):
        yield {"source": text_of(text, "source", place), "target": text_of(target_text, "target", target_place)}


def _whole_parallel_rows(source: Path, target: Path) -> Rows:
    """As `_parallel_rows`, without lines that are blank on a side: those of WMT have thousands."""
    for (_, text), (_, target_text) in parallel_lines(source, target):
        yield {"source": text, "target": target_text} if text.strip() and target_text.strip() else None
