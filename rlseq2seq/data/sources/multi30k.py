"""Multi30k, task 1: captions of Flickr30k in English and their translations (arXiv:1605.00459)."""

from functools import partial
from pathlib import Path

from rlseq2seq.config.data import Multi30kConfig
from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources.downloads import Listing, download
from rlseq2seq.data.sources.fetch import Content, fetch_commit
from rlseq2seq.data.sources.lines import parallel_lines
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Rows, assemble
from rlseq2seq.errors import UserError

TERMS = "captions of Flickr images, under Flickr's terms; for research"
COMMITS = "https://api.github.com/repos/multi30k/dataset/commits/master"
RAW = "https://raw.githubusercontent.com/multi30k/dataset"


def load(config: Multi30kConfig, path: str | None) -> Corpus:
    """Pairs of ``config.source`` and ``config.target``.

    Args:
        config: languages and test set.
        path: a folder of ``train.en.gz``, ``val.en.gz``, ``test_2016_flickr.en.gz`` and so on, gzip or plain, a
            sentence a line; None to fetch them. A folder without any test set makes do without one.

    Raises:
        UserError: they cannot be fetched, or one is missing (here), damaged or out of step (from the iterators).
    """
    stems = {"train": "train", "validation": "val", "test": config.test}
    languages = (config.source, config.target)
    origin, folder = FROM_A_FOLDER, Path(path or "")
    if path is None:
        names = [f"{stem}.{language}.gz" for stem in stems.values() for language in languages]
        key = f"multi30k-{config.source}-{config.target}-{config.test}"
        folder, recorded = download(key, partial(_listing, names), _url)
        origin = f"origin: github.com/multi30k/dataset at revision {recorded.revision}, fetched {recorded.fetched}"
    elif not any(folder.glob("test_*")):
        del stems["test"]
    readers = {
        split: partial(_rows, *(_find(folder, f"{stem}.{language}") for language in languages))
        for split, stem in stems.items()
    }
    return assemble(readers, path or "multi30k", [origin, f"terms: {TERMS}"])


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder} has no {name}.gz: put it there, or name another folder (data.path)")


def _rows(source: Path, target: Path) -> Rows:
    for (_, text), (_, target_text) in parallel_lines(source, target):
        yield {"source": text, "target": target_text}


def _listing(names: list[str]) -> Listing:
    answer = fetch_commit(COMMITS, "name a folder that has its files (data.path)")
    return Listing(answer["sha"], dict.fromkeys(names, Content()), TERMS)


def _url(revision: str, name: str) -> str:
    return f"{RAW}/{revision}/data/task1/raw/{name}"
