"""Pairs harvested from installed Python code: a function -> the first sentence of its docstring.

Nothing is downloaded and nothing imported: source files are parsed. The corpus is the same for the same packages and
the same Python patch release (`ast.unparse` may differ between releases), wherever they are installed.
"""

import hashlib
from collections import Counter

from rlseq2seq.config.data import PythonDocstringsConfig
from rlseq2seq.data.pairs import SPLITS, Corpus
from rlseq2seq.data.sources.python_docstrings.discover import find_files
from rlseq2seq.data.sources.python_docstrings.duplicates import far_from, without_duplicates
from rlseq2seq.data.sources.python_docstrings.harvest import Candidate, harvest


def load(config: PythonDocstringsConfig) -> Corpus:
    """Harvest, de-duplicate and split by module.

    No module is in two splits, and no pair of a split is near one of the splits held out from it.

    Raises:
        UserError: a package is not installed, or has no Python source.
    """
    candidates, counts = harvest(find_files(config))
    candidates, duplicates = without_duplicates(candidates)
    splits: dict[str, list[Candidate]] = {name: [] for name in SPLITS}
    for candidate in candidates:
        splits[split_of(candidate.pair.group, config)].append(candidate)
    validation = far_from(splits["test"], splits["validation"])
    train = far_from([*splits["test"], *validation], splits["train"])
    kept = {"train": train, "validation": validation, "test": splits["test"]}
    facts = dict(counts + duplicates)
    facts["near_held_out"] = len(candidates) - sum(map(len, kept.values()))
    packages = Counter(candidate.package for found in kept.values() for candidate in found)
    facts |= {f"from_{package}": count for package, count in sorted(packages.items())}
    return Corpus({name: [candidate.pair for candidate in found] for name, found in kept.items()}, facts)


def split_of(module: str, config: PythonDocstringsConfig) -> str:
    """The split of a module: a hash of its name, so that other modules that come or go do not move it."""
    digest = hashlib.blake2b(f"{config.seed}:{module}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest) / 2**64
    if position < config.test_share:
        return "test"
    return "validation" if position < config.test_share + config.validation_share else "train"
