"""Which source files belong to the corpus: found, never imported, and in an order that no machine changes."""

import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlseq2seq.config.data import PythonDocstringsConfig
from rlseq2seq.errors import UserError

STANDARD_LIBRARY = "standard_library"

# Parts of the standard library that some distributors ship apart, or that are themselves tests or copies.
_LEFT_OUT = frozenset({"distutils", "ensurepip", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo"})
# Modules and folders of tests, and of copies of other projects.
_SKIPPED = frozenset(
    ("__pycache__", "_externals", "_testing", "conftest", "externals", "test", "testing", "tests", "third_party")
)


@dataclass(frozen=True, order=True)
class SourceFile:
    """A module's file. Sorted by module, so that the order of folders on disk has no say."""

    module: str
    package: str
    path: Path


def find_files(config: PythonDocstringsConfig) -> list[SourceFile]:
    """List the modules of the standard library and of the packages that ``config`` names, each once.

    Raises:
        UserError: a package is not installed, or has no Python source.
    """
    files: list[SourceFile] = []
    if config.standard_library:
        root = Path(sysconfig.get_path("stdlib"))
        for name in sys.stdlib_module_names - _LEFT_OUT:
            files.extend(_below(root / name, name, STANDARD_LIBRARY))
            files.extend(SourceFile(name, STANDARD_LIBRARY, path) for path in root.glob(f"{name}.py"))
    for package in config.packages:
        files.extend(_package_files(package))
    # Where a.py stands beside a/__init__.py the package comes first, as it does for an import.
    first = {file.module: file for file in sorted(files, reverse=True)}
    return sorted(first.values())


def _package_files(package: str) -> list[SourceFile]:
    key = "data.python_docstrings.packages"
    if not package.isidentifier():  # the parents of a dotted name would be imported
        raise UserError(f"{key} names {package!r}: give the name of a top-level package, without dots")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError(f"{key} names {package!r}, which is not installed: install it, or take it off the list")
    if spec.submodule_search_locations:
        files = [file for root in spec.submodule_search_locations for file in _below(Path(root), package, package)]
    elif spec.origin and spec.origin.endswith(".py"):
        files = [SourceFile(package, package, Path(spec.origin))]
    else:
        files = []
    if not files:
        raise UserError(f"{key} names {package!r}, which has no Python source: take it off the list")
    return files


def _below(folder: Path, module: str, package: str) -> Iterator[SourceFile]:
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        if all(part.isidentifier() and not _is_skipped(part.lower()) for part in parts):
            names = parts[:-1] if parts[-1] == "__init__" else parts
            yield SourceFile(".".join((module, *names)), package, path)


def _is_skipped(part: str) -> bool:
    return part in _SKIPPED or "vendor" in part or part.startswith("test_") or part.endswith("_test")
