"""Published corpora as pairs: blank rows left out and counted, and a test split where the publisher gave none."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from rlseq2seq.data.pairs import SPLITS, Corpus, Pair
from rlseq2seq.errors import UserError

# What a `Pair` is made of; ``id`` may be left out or None. Blank sources and targets are for `assemble` to see to.
Rows = Iterator[dict[str, Any]]
Readers = Mapping[str, Callable[[], Rows]]

# A note, without the folder's name: reports go into git, and folders are of one machine.
FROM_A_FOLDER = "origin: a local folder (data.path)"

_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_NAMES |= {"dev": "validation", "test": "test"}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_NAMES, key=len, reverse=True))})(?![a-z])")


def split_named_in(path: str | PurePosixPath) -> str | None:
    """The split that a path names: the last that its file's name has, or else its folders'.

    So ``3.0.0/train-00000-of-00003.parquet``, ``default/train/0000.parquet``, ``xsum-train.parquet`` and
    ``val.en.gz`` are told.
    """
    for part in reversed(PurePosixPath(path).parts):
        if found := _WORD.findall(part.lower()):
            return _NAMES[found[-1]]
    return None


def by_split(paths: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Paths by the split that each names within ``folder``, in order; those that name none are left out, and so is a
    ``.gz`` whose content is there unpacked too: each pair would be read twice."""
    found: dict[str, list[Path]] = {}
    there = set(paths)
    for path in sorted(there):
        if path.suffix == ".gz" and path.with_suffix("") in there:
            continue
        if split := split_named_in(path.relative_to(folder).as_posix()):
            found.setdefault(split, []).append(path)
    return found


def assemble(readers: Readers, place: str, notes: Sequence[str] = ()) -> Corpus:
    """Make a corpus of what ``readers`` have, each of which is a split that can be read more than once.

    Where there is no test split, the validation split is halved by a hash of the source: pairs that share a source stay
    together, and what a source is in does not depend on what else there is. The corpus's notes tell.

    Args:
        readers: by split.
        place: what has the splits, in messages.
        notes: what else there is to tell.

    Raises:
        UserError: there is no train or no validation split.
    """
    for split in ("train", "validation"):
        if split not in readers:
            raise UserError(
                f"{place} has no {split} split (it has {', '.join(readers) or 'none'}): make one, in files of your own "
                "(data.source: files)"
            )
    facts: dict[str, int] = {}
    if "test" in readers:
        return Corpus({split: _pairs(readers[split](), split, facts) for split in SPLITS}, facts, list(notes))
    halves = {
        "validation": (row for row in readers["validation"]() if not _reports(row)),
        "test": (row for row in readers["validation"]() if _reports(row)),
    }
    rows = {"train": readers["train"](), **halves}
    note = (
        "there is no test split, so the validation split is halved by a hash of the source: one half is "
        "validation, which selects, the other is test, which reports; its scores are none on a published test set"
    )
    return Corpus({split: _pairs(rows[split], split, facts) for split in SPLITS}, facts, [*notes, note])


def _reports(row: Mapping[str, Any]) -> bool:
    source = row["source"] or ""
    return bool(hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] & 1)


def _pairs(rows: Rows, split: str, facts: dict[str, int]) -> Iterator[Pair]:
    blank = 0
    for count, row in enumerate(tqdm(rows, desc=f"reading {split}", unit=" pairs", delay=2), start=1):
        if all((row[key] or "").strip() for key in ("source", "target")):
            yield Pair(**{**row, "id": row.get("id") or f"{split}:{count}"})
        else:
            blank += 1
    facts[f"skipped_blank_{split}"] = blank
