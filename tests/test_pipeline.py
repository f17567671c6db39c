"""dvc.yaml, and that of the comparison: what each stage depends on is what it imports and reads, and nothing else."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PIPELINE: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")
COMPARISON: dict[str, Any] = YAML(typ="safe").load(ROOT / "experiments" / "comparison" / "dvc.yaml")
STAGES: dict[str, Any] = PIPELINE["stages"] | COMPARISON["stages"]

# Dependencies that are no modules: what makes the extension, what is installed, and what stages read.
EXTENSION = {"csrc", "setup.py"}
READ = {
    "download": {"corpus"},
    "tokenization": {"corpus", "data/raw/train.jsonl", "data/raw/validation.jsonl"},
    "pretrain": {"data/tokens"},
    "finetune": {"data/tokens", "models/mle"},
    "evaluate": {"data/raw/test.jsonl", "data/raw/train.jsonl", "models/mle", "models/rl", "reports/corpus.json"},
    "compare": {"data/raw/test.jsonl", "data/tokens", "models/mle"},
    "comparison_table": {"data/raw/test.jsonl", "experiments/comparison/runs"},
}

# Of experiments/comparison/params.yaml. A run does not depend on what other methods change, nor on what else is run.
OF_THE_COMPARISON = {"compare": ["updates", "methods.${item.method}"], "comparison_table": ["run", "seeds"]}


def files_of(module: str) -> list[Path]:
    """The files that importing ``module`` runs: its own and those of the packages around it; none if it is a name."""
    found = []
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        path = Path(*parts[:count])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if (ROOT / file).is_file():
                found.append(file)
    return found


def imports(path: Path) -> set[str]:
    """Everything that the file may import, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("rlseq2seq", "stages")}


@cache
def closure(stage: str) -> frozenset[Path]:
    """The files of ours that the stage runs."""
    to_do, seen = files_of(f"stages.{stage}"), set()
    while to_do:
        file = to_do.pop()
        if file not in seen:
            seen.add(file)
            to_do += [other for name in imports(file) for other in files_of(name)]
    return frozenset(seen)


def modules_in(dependency: str) -> set[Path]:
    path = ROOT / dependency
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {file.relative_to(ROOT) for file in files}


def module_dependencies(stage: str) -> list[str]:
    return [name for name in STAGES[stage]["deps"] if name.startswith(("rlseq2seq", "stages"))]


def outputs(stage: str) -> dict[str, dict[str, Any]]:
    """Paths of all outputs, metrics and plots with their options."""
    found: dict[str, dict[str, Any]] = {}
    for kind in ("outs", "metrics", "plots"):
        for entry in STAGES[stage].get(kind, []):
            found |= entry if isinstance(entry, dict) else {entry: {}}
    return found


def test_the_closure_follows_nested_imports_and_packages() -> None:
    files = {str(path) for path in closure("download")}
    assert {"stages/__init__.py", "stages/download.py", "rlseq2seq/__init__.py", "rlseq2seq/errors.py"} <= files
    assert "rlseq2seq/data/sources/python_docstrings/__init__.py" in files
    assert "rlseq2seq/cli.py" not in files


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_imports(stage: str) -> None:
    covered = {file for name in module_dependencies(stage) for file in modules_in(name)}
    assert {str(path) for path in closure(stage) - covered} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_module_that_it_does_not_import(stage: str) -> None:
    needless = {name: modules_in(name) - closure(stage) for name in module_dependencies(stage)}
    assert {name: files for name, files in needless.items() if files} == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_inputs_the_packages_and_if_it_computes_the_extension(stage: str) -> None:
    computes = Path("rlseq2seq/ops/__init__.py") in closure(stage)
    expected = READ[stage] | {"requirements.lock"} | (EXTENSION if computes else set())
    assert set(STAGES[stage]["deps"]) - set(module_dependencies(stage)) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_exist_once_each_and_in_order(stage: str) -> None:
    names = STAGES[stage]["deps"]
    assert names == sorted(set(names))
    made = {name for other in STAGES for name in outputs(other)}
    for name in names:
        around = any(name == path or name.startswith(f"{path}/") or path.startswith(f"{name}/") for path in made)
        assert (ROOT / name).exists() or around


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_the_sections_that_it_loads_but_runtime(stage: str) -> None:
    loaded = {"finetune"} if stage == "compare" else set()  # which load_comparison changes
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load":
            section = node.args[1]
            assert isinstance(section, ast.Constant)
            loaded.add(section.value)
    sections = [entry for entry in STAGES[stage]["params"] if isinstance(entry, str)]
    assert loaded - {"runtime"} == set(sections)
    of_files = [entry for entry in STAGES[stage]["params"] if not isinstance(entry, str)]
    keys = OF_THE_COMPARISON.get(stage)
    assert of_files == ([] if keys is None else [{"experiments/comparison/params.yaml": keys}])


def test_every_section_but_runtime_is_tracked_by_one_stage() -> None:
    tracked = [section for stage in PIPELINE["stages"].values() for section in stage["params"]]
    assert sorted([*tracked, "runtime"]) == sorted(YAML(typ="safe").load(ROOT / "params.yaml"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_run_as_a_module_and_by_nothing_that_breaks_the_cache(stage: str) -> None:
    arguments = "".join(f" ${{item.{name}}}" for name in STAGES[stage].get("matrix", {}))
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}{arguments}"
    assert STAGES[stage].keys() <= {"matrix", "wdir", "cmd", "params", "deps", "outs", "metrics", "plots"}
    assert STAGES[stage].get("wdir") == (None if stage in PIPELINE["stages"] else "../..")
    assert all(options.keys() <= {"cache"} for options in outputs(stage).values())
    assert PIPELINE.keys() == COMPARISON.keys() == {"stages", "plots"}


def test_git_holds_reports_and_the_cache_holds_the_rest() -> None:
    options = {path: options.get("cache", True) for stage in STAGES for path, options in outputs(stage).items()}
    assert {path for path, cached in options.items() if cached} == {
        "data/raw",
        "data/tokens",
        "experiments/comparison/outputs/${item.method}-${item.seed}.jsonl",
        "models/mle",
        "models/rl",
        "reports/predictions.jsonl",
    }
    assert all(
        path.startswith(("reports/", "experiments/comparison")) for path, cached in options.items() if not cached
    )


def test_metrics_are_few_enough_to_be_read_in_a_row() -> None:
    assert [path for stage in STAGES.values() for entry in stage.get("metrics", []) for path in entry] == [
        "reports/metrics.json"
    ]


def test_what_is_compiled_or_measured_changes_nothing() -> None:
    ignored = (ROOT / ".dvcignore").read_text().split()
    assert {"__pycache__/", "*.so", "build/", "/runs/"} <= set(ignored)
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()
