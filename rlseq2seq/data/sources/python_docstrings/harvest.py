"""Reading source files, several at a time, into pairs that make sense each by itself."""

import ast
import gc
import multiprocessing
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.sources.python_docstrings.discover import SourceFile
from rlseq2seq.data.sources.python_docstrings.filters import objection
from rlseq2seq.data.sources.python_docstrings.functions import Definition, definitions
from rlseq2seq.data.sources.python_docstrings.summaries import summarize

MAX_SOURCE_CHARACTERS = 4000
MAX_BODY_CHARACTERS = 2000


@dataclass(frozen=True)
class Candidate:
    """A pair, the package that it came from, and the code of its function (without docstring) to tell copies by."""

    pair: Pair
    package: str
    body: str


def harvest(files: Iterable[SourceFile]) -> tuple[list[Candidate], Counter[str]]:
    """Read ``files``, whatever their order, into candidates sorted by module; count what was read and what skipped."""
    files = sorted(files)
    candidates: list[Candidate] = []
    counts: Counter[str] = Counter()
    workers = min(8, os.cpu_count() or 1)
    # Syntax trees have no cycles to collect, and looking for them takes a quarter of the time.
    with multiprocessing.Pool(workers, initializer=gc.disable) as pool:
        results = pool.imap(harvest_file, files, chunksize=16)
        for found, counted in tqdm(results, desc="reading modules", total=len(files), unit="file", delay=2):
            candidates.extend(found)
            counts.update(counted)
    return candidates, counts


def harvest_file(file: SourceFile) -> tuple[list[Candidate], Counter[str]]:
    """Read one module. A file that cannot be decoded or parsed gives nothing and is counted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(file.path.read_bytes())
            return _candidates(tree, file)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
        return [], Counter(files_skipped=1)


def _candidates(tree: ast.Module, file: SourceFile) -> tuple[list[Candidate], Counter[str]]:
    found: list[Candidate] = []
    counts = Counter(files_read=1)
    names: Counter[str] = Counter()
    for definition in definitions(tree):
        counts["functions_read"] += 1
        summary = summarize(definition.docstring)
        reason = objection(summary.sentence) if definition.words else "nameless"
        if reason:
            counts["skipped_" + reason.replace(" ", "_").lower()] += 1
            continue
        names[definition.qualname] += 1
        repeat = names[definition.qualname]
        identity = f"{file.module}:{definition.qualname}" + (f"#{repeat}" if repeat > 1 else "")
        body = definition.body(MAX_BODY_CHARACTERS)
        pair = Pair(
            id=identity,
            source=_source(definition, summary.rest, body),
            target=summary.sentence,
            group=file.module,
            name=definition.words,
        )
        found.append(Candidate(pair, file.package, body))
    return found, counts


def _source(definition: Definition, rest: str, body: str) -> str:
    return "\n".join(filter(None, (definition.signature, rest, body)))[:MAX_SOURCE_CHARACTERS]
