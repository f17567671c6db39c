"""The pipeline from end to end, on a small corpus in a clone of its own: run, run again, edited, killed, resumed."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dvc.cli
import networkx as nx
import pytest
from dvc.repo import Repo
from pipeline_helpers import Project, kill_group, make_project, start_until_checkpoint
from ruamel.yaml import YAML

# Of `dvc` itself, where it runs in this process.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

STAGES = ("download", "tokenization", "pretrain", "finetune", "evaluate")
GOES_ON = "goes on from step"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run; not to be changed: `copy` it."""
    project = make_project(tmp_path_factory.mktemp("pipeline") / "finished")
    project.run("dvc", "repro")
    return project


def stages_run(output: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in output]


# A run that nothing disturbs.


def test_all_outputs_are_there(finished: Project) -> None:
    pipeline = YAML(typ="safe").load(finished.folder / "dvc.yaml")
    for stage in pipeline["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                path = finished.folder / (entry if isinstance(entry, str) else next(iter(entry)))
                assert any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0


def test_metrics_say_what_was_learned(finished: Project) -> None:
    test = json.loads((finished.folder / "reports" / "metrics.json").read_text())["test"]
    assert test["mle"]["rougeL"] > test["lead"]["rougeL"] + 10
    assert test["rl"]["rougeL"] > test["lead"]["rougeL"] + 10
    assert 0 < test["rl"]["p_value_vs_mle"] <= 1
    models = [(finished.folder / "models" / name / "model.safetensors").read_bytes() for name in ("mle", "rl")]
    assert models[0] != models[1]
    rows = [json.loads(line) for line in (finished.folder / "reports" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert all(row["outputs"].keys() >= {"mle", "rl", "lead", "name"} for row in rows)


def test_plots_draw_columns_that_there_are(finished: Project) -> None:
    drawn = 0
    for entry in YAML(typ="safe").load(finished.folder / "dvc.yaml")["plots"]:
        (plot,) = entry.values()
        for path, columns in plot["y"].items():
            with (finished.folder / path).open() as file:
                rows = list(csv.DictReader(file))
            for column in [plot["x"], *([columns] if isinstance(columns, str) else columns)]:
                assert sum(bool(row[column]) for row in rows) >= 2
                drawn += 1
    assert drawn > 5


def test_git_sees_changes_in_the_lock_file_and_reports_alone(finished: Project) -> None:
    lines = finished.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    changed = {line[3:] for line in lines}
    assert {"dvc.lock", "reports/metrics.json", "reports/pretrain.csv", "reports/finetune.csv"} <= changed
    assert {path for path in changed if path != "dvc.lock" and not path.startswith("reports/")} == set()


def test_a_second_run_does_nothing_and_says_so(finished: Project) -> None:
    before = finished.results()
    output = finished.run("dvc", "repro")
    assert stages_run(output) == [] and "up to date" in output
    assert finished.results() == before


def test_the_model_can_be_used(finished: Project) -> None:
    rows = [json.loads(line) for line in (finished.folder / "reports" / "predictions.jsonl").read_text().splitlines()]
    (finished.folder / "runs" / "sources.txt").write_text("".join(f"{row['source']}\n" for row in rows))
    command = ("python", "-c", "from rlseq2seq.cli import main; main()", "generate", "runs/sources.txt")
    output = finished.run(*command)
    assert output == "".join(f"{row['source']}\t{row['outputs']['rl']}\n" for row in rows)


# What an edit runs again.


@contextmanager
def edited(project: Project, path: str, content: bytes) -> Iterator[None]:
    file = project.folder / path
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def enter(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in the project's folder and environment, where starting `dvc` as a process would take too long."""
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project.folder)


def stale(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that `dvc repro` would run: those that `dvc status` calls changed, and all that depend on them."""
    enter(project, monkeypatch)
    with Repo(str(project.folder)) as repo:
        changed = set(repo.status())
        names = nx.relabel_nodes(repo.index.graph, lambda stage: stage.addressing)
        return [name for name in STAGES if changed & ({name} | nx.descendants(names, name))]


@pytest.mark.parametrize(
    ("edits", "first"),
    [
        ({"runtime.threads": 2, "runtime.workers": 2, "runtime.checkpoint_every": 9, "runtime.device": "auto"}, None),
        ({"evaluate.decoding.beam_size": 2}, "evaluate"),
        ({"finetune.reward.measure": "recall"}, "finetune"),
        ({"finetune.reward.add.length": 0.5}, "finetune"),
        ({"pretrain.seed": 2}, "pretrain"),
        ({"model.copy": False}, "pretrain"),
        ({"tokenization.lowercase": False}, "tokenization"),
        ({"data.python_docstrings.seed": 9}, "download"),
    ],
)
def test_an_edited_parameter_runs_its_stage_and_what_follows(
    edits: dict[str, Any], first: str | None, finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = finished.folder / "params.yaml"
    with edited(finished, "params.yaml", params.read_bytes()):
        finished.set_params(edits)
        assert stale(finished, monkeypatch) == ([] if first is None else list(STAGES[STAGES.index(first) :]))


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("rlseq2seq/cli.py", None),
        ("README.md", None),
        ("rlseq2seq/evaluation/metrics.py", "evaluate"),
        ("rlseq2seq/config/decoding.py", "evaluate"),
        ("rlseq2seq/objectives/policy_gradient.py", "finetune"),
        ("rlseq2seq/config/finetune.py", "finetune"),
        ("rlseq2seq/training/loop.py", "pretrain"),
        ("csrc/ops.cpp", "pretrain"),
        ("rlseq2seq/data/vocabulary.py", "tokenization"),
        ("corpus/train.jsonl", "download"),
        ("requirements.lock", "download"),
    ],
)
def test_an_edited_file_runs_what_uses_it_and_what_follows(
    path: str, first: str | None, finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (finished.folder / path).read_bytes()
    with edited(finished, path, content + b"\n"):
        assert stale(finished, monkeypatch) == ([] if first is None else list(STAGES[STAGES.index(first) :]))


def test_an_experiment_runs_what_it_changes_and_can_be_compared(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = finished.copy(tmp_path / "experiment")
    git = ("git", "-c", "user.name=Nobody", "-c", "user.email=nobody@example.com")
    project.run(*git, "add", "-A")
    project.run(*git, "commit", "-q", "-m", "Results")
    output = project.run("dvc", "exp", "run", "-S", "finetune.learning_rate=1e-4", "-S", "finetune.updates=3")
    assert stages_run(output) == ["finetune", "evaluate"]
    finetune = YAML(typ="safe").load(project.folder / "params.yaml")["finetune"]
    assert (finetune["learning_rate"], finetune["updates"]) == (1e-4, 3)
    before, after = finished.results(), project.results()
    assert {name for name in before if before[name] == after[name]} >= {"models/mle/model.safetensors"}
    assert {name for name in before if before[name] != after[name]} >= {"models/rl/model.safetensors"}

    enter(project, monkeypatch)
    capsys.readouterr()
    for command, told in (
        ("metrics show", "test.rl.p_value_vs_mle"),
        ("metrics diff", ""),
        ("params diff", "finetune.updates"),
        ("plots show", "index.html"),
        ("dag", "tokenization"),
    ):
        assert dvc.cli.main(command.split()) == 0
        assert told in capsys.readouterr().out
    page = (project.folder / "dvc_plots" / "index.html").read_text()
    assert "validation_rouge_l" in page and "reward" in page


# What goes wrong.


def test_a_loss_that_is_not_finite_stops_the_stage_in_a_sentence(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "diverged")
    before = project.results()
    project.set_params({"pretrain.learning_rate": 1e38, "runtime.checkpoint_every": 1})
    output = project.run("python", "-m", "stages.pretrain", status=2)
    sentence = output.strip().splitlines()[-1]
    assert sentence.startswith("error: pretrain: at step 1 the loss is ")
    assert "lower pretrain.learning_rate" in sentence and "Traceback" not in output
    assert project.last_checkpoint("pretrain") == -1
    assert project.results() == before


def test_a_function_of_ones_own_is_a_reward_and_one_that_fails_stops_the_stage_in_a_sentence(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "own")
    (project.folder / "my_rewards.py").write_text(
        "def letters(hypotheses, references, sources):\n    return [-len(text) for text in hypotheses]\n"
    )
    changes = {"finetune.reward.metric": "function", "finetune.updates": 3, "runtime.workers": 2}
    for path, status, told in (
        ("my_rewards:no_such", 2, "error: finetune.reward.function is 'my_rewards:no_such': cannot be imported"),
        ("my_rewards:letters", 0, ""),
    ):
        project.set_params({**changes, "finetune.reward.function": path})
        output = project.run("python", "-m", "stages.finetune", status=status)
        assert told in output and "Traceback" not in output
    with (project.folder / "reports" / "finetune.csv").open() as file:
        rewards = [float(row["reward"]) for row in csv.DictReader(file) if row["reward"]]
    assert rewards and all(reward < -1 for reward in rewards)


def test_runs_that_were_killed_end_as_one_that_was_not(finished: Project, tmp_path: Path) -> None:
    project = make_project(tmp_path / "killed")

    # `dvc` dies in the middle of pretrain, and its stage lives on (held up here, so that it cannot end too soon).
    process = start_until_checkpoint(project, "pretrain", 10, "dvc", "repro")
    orphan = int((project.folder / "runs" / "pretrain.lock").read_text())
    os.kill(orphan, signal.SIGSTOP)
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        output = project.run("dvc", "repro", status=None)
        assert f"error: process {orphan} still runs the stage pretrain: wait for it" in output
        assert "python -m stages.pretrain, exited with 2" in output
    finally:
        os.kill(orphan, signal.SIGKILL)
    reached = project.last_checkpoint("pretrain")
    assert 10 <= reached < 50 and not (project.folder / "models" / "mle").exists()

    # It goes on, until it is killed with its stage in the middle of finetune.
    kill_group(start_until_checkpoint(project, "finetune", 5, "dvc", "repro"))
    assert f"pretrain: {GOES_ON} {reached} of 50" in project.log.read_text()
    assert 5 <= project.last_checkpoint("finetune") < 40 and not (project.folder / "models" / "rl").exists()

    # Forced, it starts anew, until it is killed again.
    project.log.unlink()
    kill_group(start_until_checkpoint(project, "finetune", 5, "dvc", "repro", "-f", "-s", "finetune"))
    assert "finetune:" in project.log.read_text() and GOES_ON not in project.log.read_text()
    reached = project.last_checkpoint("finetune")
    assert 5 <= reached < 40 and not (project.folder / "models" / "rl").exists()

    output = project.run("dvc", "repro")
    assert stages_run(output) == ["finetune", "evaluate"]
    assert f"finetune: {GOES_ON} {reached} of 40" in output
    assert project.results() == finished.results()
