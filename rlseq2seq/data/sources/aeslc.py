"""The Annotated Enron Subject Line Corpus: e-mails and their subjects (arXiv:1906.03497)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rlseq2seq.config.data import HubConfig
from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources import hub
from rlseq2seq.data.sources.lines import json_objects, shown, text_of, text_or_blank
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Rows, assemble, by_split
from rlseq2seq.errors import UserError

TERMS = "CC BY-NC-SA 4.0"
DATASET = HubConfig("Yale-LILY/aeslc", "email_body", "subject_line", None, None)


def load(path: str | None) -> Corpus:
    """Read the hub's parquet files, or JSON lines with the annotators' subjects, which the hub lacks.

    Args:
        path: a folder of ``train``, ``validation`` (or ``dev``) and ``test``, each ``.jsonl.gz`` or ``.jsonl``, a line
            ``{"source": ..., "target": ..., "refs": [...]}``, or of parquet files; None to fetch the latter.

    Raises:
        UserError: as `hub.load`; a line is not what it should be (from the iterators).
    """
    folder = Path(path or "")
    splits = by_split([*folder.glob("*.jsonl.gz"), *folder.glob("*.jsonl")], folder) if path is not None else {}
    if path is None or not splits:
        return hub.load(DATASET, path, TERMS)
    readers = {split: partial(_rows, paths) for split, paths in splits.items()}
    return assemble(readers, path, [FROM_A_FOLDER, f"terms: {TERMS}"])


def _rows(paths: Sequence[Path]) -> Rows:
    for path in paths:
        for where, values in json_objects(path):
            missing = [key for key in ("source", "target") if key not in values]
            if missing:
                raise UserError(f"{where} has no {missing[0]}: every pair needs a source and a target")
            references = values.get("refs") or []
            if not isinstance(references, list):
                raise UserError(f"{where}: refs must be a list of texts, and is {shown(references)}")
            row: dict[str, Any] = {key: text_or_blank(values[key], key, where) for key in ("source", "target")}
            yield {**row, "references": tuple(text_of(reference, "refs", where) for reference in references)}
