"""Cornell Newsroom: articles of 38 publishers and their summaries (arXiv:1804.11283). Its terms forbid fetching it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources.lines import json_objects, text_or_blank
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Rows, assemble, by_split
from rlseq2seq.errors import UserError

TERMS = "Newsroom's, agreed to when it was asked for (lil.nlp.cornell.edu/newsroom): for research, not to be passed on"


def load(path: str) -> Corpus:
    """Read ``train``, ``dev`` and ``test``, each ``.jsonl.gz`` or ``.jsonl``, of the release.

    A pair's name is the headline, so copying the headline is a baseline.

    Raises:
        UserError: a split is missing (here), or a line is not what it should be (from the iterators).
    """
    folder = Path(path)
    splits = by_split([*folder.glob("*.jsonl.gz"), *folder.glob("*.jsonl")], folder)
    if not splits:
        raise UserError(f"{path} has no train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz: name their folder (data.path)")
    readers = {split: partial(_rows, paths) for split, paths in splits.items()}
    return assemble(readers, path, [FROM_A_FOLDER, f"terms: {TERMS}"])


def _rows(paths: Sequence[Path]) -> Rows:
    for path in paths:
        for where, values in json_objects(path):
            missing = [key for key in ("text", "summary") if key not in values]
            if missing:
                raise UserError(f"{where} has no {missing[0]}: it needs text and summary, as Newsroom's files have")
            texts = {key: text_or_blank(values.get(key), key, where) for key in ("text", "summary", "title")}
            yield {"source": texts["text"], "target": texts["summary"], "name": texts["title"]}
