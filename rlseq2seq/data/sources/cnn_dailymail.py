"""CNN/DailyMail, not anonymised: articles and their highlights (arXiv:1506.03340, arXiv:1704.04368).

Highlights are a sentence a line. They are joined by spaces, as a model writes one text; nothing else is changed.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rlseq2seq.config.data import HubConfig
from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources import hub
from rlseq2seq.data.sources.lines import text_lines
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Readers, Rows, assemble
from rlseq2seq.errors import UserError

TERMS = "articles are copyright of CNN and the Daily Mail; for research"
DATASET = HubConfig("abisee/cnn_dailymail", "article", "highlights", "3.0.0", None)

_LISTS = {"train": "all_train.txt", "validation": "all_val.txt", "test": "all_test.txt"}
_ENDS = (".", "!", "?", "'", "`", '"', "\u2019", "\u201d", ")")  # of a sentence


def load(path: str | None) -> Corpus:
    """Read the hub's parquet files, or ``.story`` files by the published lists of the splits.

    Args:
        path: a folder of parquet files, or one that holds folders of stories (such as ``cnn/stories`` and
            ``dailymail/stories``) and ``url_lists``; None to fetch the parquet files.

    Raises:
        UserError: as `hub.load`; a list (here) or a story (from the iterators) is missing or cannot be read.
    """
    if path is not None and (lists := Path(path) / "url_lists").is_dir():
        folder = Path(path)
        stories = [found for found in sorted([*folder.glob("*stories*"), *folder.glob("*/stories")]) if found.is_dir()]
        readers: Readers = {
            split: partial(_listed, _list(lists / name), stories, folder) for split, name in _LISTS.items()
        }
        return assemble(readers, path, [FROM_A_FOLDER, f"terms: {TERMS}"])
    readers, notes = hub.open_splits(DATASET, path, TERMS)
    return assemble({split: partial(_in_one_line, rows) for split, rows in readers.items()}, path or "the hub", notes)


def _in_one_line(rows: Callable[[], Rows]) -> Rows:
    for row in rows():
        yield {**row, "target": " ".join((row["target"] or "").split("\n"))}


def _list(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is not there: put the published list there (github.com/abisee/cnn-dailymail)")
    return path


def _listed(urls: Path, stories: list[Path], folder: Path) -> Rows:
    """The stories of a list of URLs: each is called by the SHA-1 of its URL."""
    for number, url in text_lines(urls):
        name = hashlib.sha1(url.strip().encode()).hexdigest()
        path = next((path for place in stories if (path := place / f"{name}.story").is_file()), None)
        if path is None:
            raise UserError(
                f"{urls}, line {number} asks for {name}.story, and no folder of stories in {folder} has it: put it "
                "there, or take the line out"
            )
        yield {"id": name, **read_story(path)}


def read_story(path: Path) -> dict[str, str]:
    """Article and highlights of a ``.story`` file, put together as those of the hub are.

    Paragraphs are lines with blank ones between, ``@highlight`` comes before each highlight, and a line that ends like
    no sentence, as captions do, gets a full stop.

    Raises:
        UserError: the file cannot be read.
    """
    article: list[str] = []
    highlights: list[str] = []
    here = article
    for line in _stripped(path):
        if line.startswith("@highlight"):
            here = highlights
        else:
            here.append(line if line.endswith(_ENDS) else f"{line} .")
    return {"source": " ".join(article), "target": " ".join(highlights)}


def _stripped(path: Path) -> Iterator[str]:
    return filter(None, (line.strip() for _, line in text_lines(path)))
