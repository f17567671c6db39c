"""The comparison from end to end, in a small project: two methods from one seed; run again, killed, resumed."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pipeline_helpers import Project, kill_group, make_project, start_until_checkpoint
from ruamel.yaml import YAML

FOLDER = Path("experiments/comparison")
REPRO = ("dvc", "repro", "experiments/comparison/dvc.yaml")
# Of a run, what depends on how long it took and how much else the process held.
MEASURED = ("seconds", "tokens_per_second", "peak_memory_mib")


def set_comparison(project: Project, **values: Any) -> None:
    yaml = YAML()
    params = yaml.load(project.folder / FOLDER / "params.yaml")
    params.update(values)
    yaml.dump(params, project.folder / FOLDER / "params.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose comparison has run; not to be changed: `copy` it."""
    project = make_project(tmp_path_factory.mktemp("comparison") / "finished")
    project.set_params({"finetune.validation.every": 10, "pretrain.epochs": 3})
    set_comparison(project, updates=20, seeds=[3], run=["mle", "rloo"])
    project.run(*REPRO)
    return project


def results(project: Project, method: str) -> tuple[dict[str, Any], str]:
    """Facts and outputs of the method's run, but for what was measured."""
    facts = json.loads((project.folder / FOLDER / "runs" / f"{method}-3.json").read_text())
    assert all(facts.pop(name) > 0 for name in MEASURED)
    return facts, (project.folder / FOLDER / "outputs" / f"{method}-3.jsonl").read_text()


def test_every_run_is_a_row_of_the_table(finished: Project) -> None:
    rows = json.loads((finished.folder / "experiments" / "comparison.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows] == [("mle", 3), ("rloo", 3)]
    for row in rows:
        assert 0 < row["test"]["rouge2"] < row["test"]["rougeL"] <= row["test"]["rouge1"] < 100
        low, high = row["rougeL_interval"]
        assert low <= row["test"]["rougeL"] <= high
        assert (row["updates"], row["sources"]) == (20, 160)
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["seconds"], rel=0.2)
        assert 50 < row["peak_memory_mib"] < 10_000
    control, rloo = rows
    assert control["p_value_vs_mle"] is control["p_holm"] is control["rougeL_vs_mle"] is None
    assert rloo["rougeL_vs_mle"] == pytest.approx(rloo["test"]["rougeL"] - control["test"]["rougeL"], abs=0.01)
    assert 0 < rloo["p_value_vs_mle"] == rloo["p_holm"] <= 1
    # Likelihood scores one target of a source, rloo four samples.
    assert control["tokens"] < rloo["tokens"]


def test_table_and_plots_show_the_rows(finished: Project) -> None:
    folder = finished.folder / "experiments"
    lines = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| mle", "| rloo"]
    circles = ElementTree.parse(folder / "comparison.svg").findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 1
    (plot,) = YAML(typ="safe").load(finished.folder / FOLDER / "dvc.yaml")["plots"]
    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    for axis in ("x", "y"):
        ((path, column),) = plot["Test ROUGE-L of every method and seed"][axis].items()
        assert (finished.folder / FOLDER / path).resolve() == (folder / "comparison.csv").resolve()
        assert all(row[column] for row in rows) and len(rows) == 2


def test_a_second_run_does_nothing_and_git_sees_results_alone(finished: Project) -> None:
    assert "Running stage" not in finished.run(*REPRO)
    lines = finished.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    changed = {line[3:] for line in lines if line[3:].startswith("experiments")}
    assert changed == {
        *(f"experiments/comparison.{ending}" for ending in ("csv", "json", "md", "svg")),
        *(f"experiments/comparison/{name}" for name in ("dvc.lock", "params.yaml")),
        *(f"experiments/comparison/runs/{name}-3.json" for name in ("mle", "rloo")),
    }


def test_a_run_that_was_killed_ends_as_one_that_was_not(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "killed")
    expected = results(finished, "rloo")
    for name in ("runs/rloo-3.json", "outputs/rloo-3.jsonl"):
        (project.folder / FOLDER / name).unlink()
    (kept,) = (project.folder / "runs").glob("compare-rloo-3-*")
    kept.rename(project.folder / "runs" / "away")
    command = ("python", "-m", "stages.compare", "rloo", "3")
    kill_group(start_until_checkpoint(project, "compare-rloo-3", 5, *command))
    reached = project.last_checkpoint("compare-rloo-3")
    assert 5 <= reached < 20 and not (project.folder / FOLDER / "runs" / "rloo-3.json").exists()
    # The same folder: another method's run is not in its way, nor it in theirs.
    assert [path.name for path in (project.folder / "runs").glob("compare-rloo-3-*")] == [kept.name]
    assert list((project.folder / "runs").glob("compare-mle-3-*"))
    assert f"goes on from step {reached} of 20" in project.run(*command)
    assert results(project, "rloo") == expected


def test_another_method_s_changes_run_nothing_again_but_a_run_s_own_do(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "edited")
    methods = YAML(typ="safe").load(project.folder / FOLDER / "params.yaml")["methods"]
    set_comparison(project, methods={**methods, "mrt": {**methods["mrt"], "mrt.sharpness": 0.1}})
    assert "Running stage" not in project.run(*REPRO, "--dry")
    set_comparison(project, methods={**methods, "rloo": {**methods["rloo"], "gamma": 0.5}})
    output = project.run(*REPRO, "--dry")
    # The table follows where its runs come out otherwise, which only running them can tell.
    assert "Running stage 'experiments/comparison/dvc.yaml:compare@rloo-3'" in output
    assert output.count("Running stage") == 1


def test_a_seed_is_a_run_of_its_own_and_a_table_wants_all_runs(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "seeds")
    set_comparison(project, seeds=[3, 4])
    output = project.run("python", "-m", "stages.comparison_table", status=2)
    assert output.startswith("error: experiments/comparison/runs/mle-4.json is not here: ") and output.count("\n") == 1
    project.run("python", "-m", "stages.compare", "mle", "4")
    weights = [
        next((project.folder / "runs").glob(f"compare-mle-{seed}-*/step-000000020/model.safetensors")).read_bytes()
        for seed in (3, 4)
    ]
    assert weights[0] != weights[1]


@pytest.mark.parametrize("words", [["no_such", "3"], ["mle", "4"], []])
def test_a_run_that_is_not_in_the_comparison_is_told_in_a_line(words: list[str], finished: Project) -> None:
    output = finished.run("python", "-m", "stages.compare", *words, status=2)
    assert output.count("\n") == 1
    assert output.startswith(f"error: {' '.join(words) or 'nothing'!r} is not METHOD SEED: give one of mle, sched")
    assert output.endswith("and one of 3, or add to experiments/comparison/params.yaml\n")
