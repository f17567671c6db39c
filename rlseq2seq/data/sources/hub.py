"""Datasets of the Hugging Face hub, as parquet files: fetched from there, or in a local folder of the same layout."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from rlseq2seq.config.data import HubConfig
from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources.downloads import Listing, download
from rlseq2seq.data.sources.fetch import Content, fetch_commit
from rlseq2seq.data.sources.parquet import parquet_rows
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Readers, assemble, by_split, split_named_in
from rlseq2seq.errors import UserError

HUB = "https://huggingface.co"
CONVERTED = "refs/convert/parquet"  # where the hub keeps its own conversion of datasets that are not parquet


def load(dataset: HubConfig, path: str | None, terms: str = "") -> Corpus:
    """Pairs of two columns of ``dataset``.

    Args:
        dataset: which.
        path: a folder of its parquet files; None to fetch them.
        terms: under which it may be used, where they are known; else what the hub says.

    Raises:
        UserError: it cannot be fetched, or a split, a file or a column is missing (here); a file is damaged (from the
            iterators).
    """
    readers, notes = open_splits(dataset, path, terms)
    return assemble(readers, path or dataset.name, notes)


def open_splits(dataset: HubConfig, path: str | None, terms: str) -> tuple[Readers, Sequence[str]]:
    """The splits that there are, and notes; otherwise as `load`."""
    if path is None:
        key = "@".join(filter(None, (f"datasets/{dataset.name}", dataset.revision)))
        key = "#".join(filter(None, (key, dataset.config)))
        folder, recorded = download(key, partial(_listing, dataset), partial(_url, dataset.name))
        files = [folder / name for name in recorded.files]
        terms = terms or f"as the hub says: {recorded.terms or 'nothing'}"
        origin = f"origin: {HUB}/datasets/{dataset.name} at revision {recorded.revision}, fetched {recorded.fetched}"
    else:
        folder, origin = Path(path), FROM_A_FOLDER
        files = _of_config(sorted(folder.rglob("*.parquet")), folder, dataset)
    splits = by_split(files, folder)
    if not splits:
        raise UserError(
            f"{path or dataset.name} has no parquet files named by split, such as train-00000-of-00001.parquet: put "
            "them there, or name another folder (data.path)"
        )
    notes = [origin, *([f"terms: {terms}"] if terms else [])]
    if any(part.startswith("partial-") for path in files for part in path.relative_to(folder).parts):
        notes.append("the hub has converted the beginning of this dataset alone: what follows it is not here")
    columns = {"source": dataset.source, "target": dataset.target}
    readers = {split: partial(parquet_rows, paths, columns, {"id": "id"}) for split, paths in splits.items()}
    return readers, notes


def _of_config(files: Sequence[Path], folder: Path, dataset: HubConfig) -> list[Path]:
    """Those of one configuration; where none is asked for, there must be no choice."""
    names = {path: path.relative_to(folder).as_posix() for path in files}
    kept = set(_chosen(names.values(), dataset))
    return [path for path in files if names[path] in kept]


def _chosen(names: Iterable[str], dataset: HubConfig) -> list[str]:
    named = [name for name in names if split_named_in(name)]
    configs: dict[str, list[str]] = {}
    for name in named:
        around = [part for part in PurePosixPath(name).parts[:-1] if split_named_in(part) is None and part != "data"]
        configs.setdefault(around[0] if around else "", []).append(name)
    if dataset.config in configs:
        return configs[dataset.config]
    if len(configs) > 1:
        raise UserError(
            f"{dataset.name} comes in several versions: set data.hub.config to one of "
            + ", ".join(filter(None, configs))
        )
    if dataset.config is not None and "" not in configs:
        raise UserError(
            f"{dataset.name} has no version {dataset.config!r}: it has {', '.join(configs) or 'no parquet files'}"
        )
    return named


def _listing(dataset: HubConfig) -> Listing:
    """The files to fetch; those of the hub's own conversion where the publisher's are not parquet."""
    answer = _ask(dataset, dataset.revision or "main")
    terms = (answer.get("cardData") or {}).get("license") or ""
    found = _parquet_files(answer)
    if not found and dataset.revision is None:
        answer = _ask(dataset, CONVERTED)
        found = _parquet_files(answer)
    chosen = {name: found[name] for name in _chosen(found, dataset)}
    if not chosen:
        raise UserError(
            f"{dataset.name} has no parquet files named by split on the hub: download it by hand, and put it into "
            "files of your own (data.source: files)"
        )
    return Listing(answer["sha"], chosen, ", ".join(terms) if isinstance(terms, list) else str(terms))


def _ask(dataset: HubConfig, revision: str) -> dict[str, Any]:
    url = f"{HUB}/api/datasets/{dataset.name}/revision/{quote(revision, safe='')}?blobs=true"
    return fetch_commit(url, "check its name, or name a folder that has its files (data.path)")


def _parquet_files(answer: dict[str, Any]) -> dict[str, Content]:
    found = {}
    for file in answer.get("siblings") or []:
        if str(file["rfilename"]).endswith(".parquet"):
            found[file["rfilename"]] = Content(file.get("size"), (file.get("lfs") or {}).get("sha256"))
    return found


def _url(name: str, revision: str, file: str) -> str:
    return f"{HUB}/datasets/{name}/resolve/{revision}/{quote(file)}"
