"""The shape of the code: what may import what, and how long things are."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports from its own layer and from those above it, never from one below.
LAYERS = [
    {"rlseq2seq.errors", "rlseq2seq.processes", "rlseq2seq.token_ids"},
    {"rlseq2seq.config"},
    {"rlseq2seq.ops"},
    {"rlseq2seq.data"},
    {"rlseq2seq.models"},
    {"rlseq2seq.decoding"},
    {"rlseq2seq.rewards"},
    {"rlseq2seq.objectives"},
    {"rlseq2seq.training"},
    {"rlseq2seq.evaluation"},
    {"rlseq2seq.generation"},
    {"rlseq2seq.cli"},
    {"stages"},
]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def files(*folders: str, pattern: str = "*.py") -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return sorted(path.relative_to(ROOT) for path in found)


PACKAGE = files("rlseq2seq", "stages")
PYTHON = [Path("setup.py"), *PACKAGE, *files("tests", "benchmarks")]


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE}


def imported(path: Path) -> Iterator[str]:
    """Our own modules that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from package import name` is the package's file alone where the name is no module.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        else:
            continue
        yield from (name for name in names if name in MODULES)


def layer(module: str) -> int:
    places = [i for i, names in enumerate(LAYERS) for name in names if module == name or module.startswith(f"{name}.")]
    assert len(places) == 1, f"{module} is in no layer: add it to LAYERS"
    return places[0]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "rlseq2seq"])
def test_imports_go_upwards_only(module: str) -> None:
    below = [name for name in imported(MODULES[module]) if name != "rlseq2seq" and layer(name) > layer(module)]
    assert below == []


def test_the_package_itself_imports_none_of_its_modules() -> None:
    # Every stage imports it: what it imported, they would all depend on.
    assert list(imported(MODULES["rlseq2seq"])) == []


def test_imports_make_no_circle() -> None:
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_no_file_or_folder_is_called_like_a_module_of_the_standard_library() -> None:
    assert {name for path in PYTHON for name in (path.stem, path.parent.name)} & sys.stdlib_module_names == set()


def test_files_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in (*PYTHON, *files("csrc", pattern="*"))}
    assert {str(path): length for path, length in lengths.items() if length >= MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {}
    for path in PYTHON:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lengths[f"{node.name} of {path}"] = node.end_lineno - node.lineno + 1
    assert {name: length for name, length in lengths.items() if length >= MAX_FUNCTION_LINES} == {}
