"""The raw form of a corpus: pairs of texts, one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pair:
    """A source text and its target.

    ``group`` names what the pair came from (a module, a document): pairs of a group are resampled together when
    intervals are computed. ``references`` are further acceptable targets, used by evaluation alone. ``name`` is a
    title of the source; copying it is a baseline.
    """

    id: str
    source: str
    target: str
    group: str = ""
    name: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus, each read once, and what is worth telling of it.

    ``facts`` are counts (pairs skipped, and why), and may still be filled while the splits are iterated. ``notes`` are
    sentences: its terms, its revision, and which split is not the published one.
    """

    splits: Mapping[str, Iterable[Pair]]
    facts: dict[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as JSON lines and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_pairs(path: Path) -> Iterator[Pair]:
    """Read what `write_pairs` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            row["references"] = tuple(row["references"])
            yield Pair(**row)
