"""An experiment, from its parameters to its record, on a small corpus in a clone of its own."""

import json
import re
import signal
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pipeline_helpers import Project, make_project, start_until_checkpoint

from rlseq2seq.errors import UserError
from stages import experiment
from stages.experiment import StageTimes

OVERLAY = """\
pretrain: {epochs: 1, validation: {metric: bleu}}
finetune:
  updates: 2
evaluate: {metric: bleu, baselines: [source, lead_3]}
"""
COMMAND = ("python", "-m", "stages.experiment", "experiments/tiny/params-cpu.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("experiment") / "project")
    folder = project.folder / "experiments" / "tiny"
    folder.mkdir()
    (folder / "params-cpu.yaml").write_text(OVERLAY)
    return project


def found_record(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / "experiments" / "tiny" / "metrics-cpu.json").read_text())
    return found


def test_an_experiment_is_run_recorded_and_run_again(project: Project) -> None:
    corpus = project.folder / "corpus" / "train.jsonl"
    output = project.run(*COMMAND, f"data.files.train={corpus}", "finetune.batch_size=4")
    first = found_record(project)
    assert {"mle", "rl", "source", "lead_3"} <= first["test"].keys()
    evaluation = json.loads((project.folder / "reports" / "evaluation.json").read_text())
    assert evaluation.items() <= first.items()
    assert 0 < first["test"]["rl"]["p_value_vs_mle"] <= 1 and "bleu_vs_mle_low" in first["test"]["rl"]
    assert first["params"] == {
        "pretrain.epochs": 1,
        "pretrain.validation.metric": "bleu",
        "finetune.updates": 2,
        "evaluate.metric": "bleu",
        "evaluate.baselines": ["source", "lead_3"],
        "finetune.batch_size": 4,
    }
    assert str(project.folder) not in json.dumps(first)
    assert first["commit"] == project.run("git", "rev-parse", "HEAD").strip() and first["code_as_committed"]
    assert first["machine"]["gpu"] is None and first["machine"]["cores"] > 0 and first["machine"]["cpu"]
    assert list(first["seconds"]) == ["download", "tokenization", "pretrain", "finetune", "evaluate"]
    assert all(seconds > 0 for seconds in first["seconds"].values())
    assert "RL - MLE" in output
    header = (project.folder / "reports" / "pretrain.csv").read_text().splitlines()[0].split(",")
    assert {"validation_rouge_l", "validation_bleu"} <= set(header)

    # Again: nothing runs, and the times are those of the runs that made the results.
    output = project.run(*COMMAND, f"data.files.train={corpus}", "finetune.batch_size=4")
    assert "Running stage" not in output
    assert found_record(project) == {**first, "date": found_record(project)["date"]}

    # Another one on top would not be what it says: it is refused, and runs once params.yaml is as git has it.
    output = project.run(*COMMAND, status=2)
    assert "error: params.yaml is neither as git has it nor as experiments/tiny/params-cpu.yaml wants it" in output
    assert "Traceback" not in output
    project.run("git", "restore", "--staged", "--worktree", "params.yaml", "dvc.lock", "reports")
    output = project.run(*COMMAND, f"data.files.train={corpus}", "finetune.batch_size=4", "evaluate.seed=5")
    assert "Running stage 'evaluate'" in output and "Running stage 'pretrain'" not in output
    assert found_record(project)["params"]["evaluate.seed"] == 5
    assert found_record(project)["seconds"]["pretrain"] == first["seconds"]["pretrain"]


def test_a_stage_that_fails_leaves_no_record(project: Project, tmp_path: Path) -> None:
    broken = project.copy(tmp_path / "broken")
    broken.run("git", "restore", "--staged", "--worktree", "params.yaml", "dvc.lock", "reports")
    (broken.folder / "experiments" / "tiny" / "metrics-cpu.json").unlink(missing_ok=True)
    output = broken.run(*COMMAND, "data.files.train=corpus/no_such.jsonl", status=2)
    assert "error: the experiment has not ended, as said above" in output and "corpus/no_such.jsonl" in output
    assert "Traceback" not in output
    assert not (broken.folder / "experiments" / "tiny" / "metrics-cpu.json").exists()


def test_a_stopped_experiment_leaves_no_process_and_goes_on(project: Project, tmp_path: Path) -> None:
    stopped = project.copy(tmp_path / "stopped")
    stopped.run("git", "restore", "--staged", "--worktree", "params.yaml", "dvc.lock", "reports")
    settings = (f"data.files.train={stopped.folder / 'corpus' / 'train.jsonl'}", "pretrain.epochs=40")
    process = start_until_checkpoint(stopped, "pretrain", 5, *COMMAND, *settings)
    assert working_in(stopped.folder)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert working_in(stopped.folder) == []
    reached = stopped.last_checkpoint("pretrain")
    assert f"goes on from step {reached} of" in stopped.run(*COMMAND, *settings)


def test_signals_that_are_ignored_stay_so_and_an_end_after_the_last_stage_is_a_quiet_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: dict[int, Any] = {}
    with subprocess.Popen(["true"], start_new_session=True) as process:
        with monkeypatch.context() as patch:  # as `nohup` starts it
            patch.setattr(signal, "getsignal", lambda name: signal.SIG_IGN if name == signal.SIGHUP else signal.SIG_DFL)
            patch.setattr(signal, "signal", handlers.__setitem__)
            experiment._ends_with_this(process)
        process.wait()
    assert set(handlers) == {signal.SIGINT, signal.SIGTERM}
    with pytest.raises(SystemExit) as caught:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert caught.value.code == 128 + signal.SIGTERM


def working_in(folder: Path) -> list[str]:
    """Commands of the processes whose working directory is ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == folder:
                found.append(process.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("text", ["data.path", "data.path=[", "finetune.no_such=1"])
def test_a_setting_that_is_none_is_told(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = (Path(__file__).parents[1] / "params.yaml").read_text()
    monkeypatch.setattr(experiment, "_git", lambda *_: params)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "other.yaml").write_text("finetune: {updates: 2}\n")
    with pytest.raises(UserError, match=rf"^{re.escape(text)}.* (is not KEY=VALUE|is not a parameter)"):
        experiment.read_changes(Path("other.yaml"), [text])
    assert experiment.read_changes(Path("other.yaml"), ["data.path="]) == {"finetune.updates": 2, "data.path": None}


def test_seconds_are_those_of_all_processes_that_went_on_with_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"pretrain": "a", "finetune": "b"}
    clock = count(100.0, 10.0)
    monkeypatch.setattr(experiment, "fingerprint", lambda stage: state[stage])
    monkeypatch.setattr(experiment.time, "monotonic", lambda: next(clock))
    path = tmp_path / "runs" / "times.json"
    killed = StageTimes(path)
    killed.start("pretrain")
    killed.tick()
    killed.tick()  # and a kill after that
    assert killed.seconds("pretrain") is None

    resumed = StageTimes(path)
    resumed.start("pretrain")
    resumed.tick()
    resumed.start("finetune")
    assert resumed.seconds("pretrain") == 40  # two ticks, one, and the end
    resumed.end()
    assert (resumed.seconds("finetune"), StageTimes(path).seconds("pretrain")) == (10, 40)
    assert StageTimes(path).seconds("finetune") == 10

    again = StageTimes(path)  # forced: it had ended
    again.start("finetune")
    again.end()
    assert again.seconds("finetune") == 10
    state["pretrain"] = "c"  # edited
    assert again.seconds("pretrain") is None
    again.start("pretrain")
    again.end()
    assert again.seconds("pretrain") == 10
