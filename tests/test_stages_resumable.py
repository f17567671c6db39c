import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlseq2seq.errors import UserError
from stages import resumable
from stages.resumable import fingerprint, run_folder

ROOT = Path(__file__).parents[1]

PIPELINE = """\
stages:
  pretrain:
    cmd: "true"
    params: [model, pretrain]
    deps: [code.py, folder, input]
"""
PARAMS = """\
model: {size: 3}
pretrain: {seed: 1, optimizer: {name: adam}}
finetune: {seed: 1}
runtime: {device: cpu}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage that depends on a file, a folder of two and an input; unforced whatever runs the tests."""
    for name, text in {
        "dvc.yaml": PIPELINE,
        "params.yaml": PARAMS,
        "code.py": "1",
        "folder/a.py": "2",
        "folder/sub/b.py": "3",
        "input": "4",
        "other.py": "5",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    commands_above(monkeypatch, [])
    return tmp_path


def commands_above(monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]) -> None:
    class Parent:
        def __init__(self, command: list[str]) -> None:
            self.cmdline = lambda: command

    monkeypatch.setattr(psutil.Process, "parents", lambda self: [Parent(command) for command in commands])


def enter(stage: str = "pretrain") -> Path:
    with run_folder(stage) as folder:
        return folder


# The fingerprint.


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("params.yaml", "size: 3", "size: 4"),
        ("params.yaml", "name: adam", "name: adagrad"),
        ("params.yaml", "pretrain: {seed: 1", "pretrain: {seed: 2"),
        ("code.py", "1", "1 "),
        ("folder/a.py", "2", ""),
        ("folder/sub/b.py", "3", "4"),
        ("input", "4", "5"),
    ],
)
def test_it_changes_with_parameters_and_dependencies(name: str, before: str, after: str, project: Path) -> None:
    old = fingerprint("pretrain")
    (project / name).write_text((project / name).read_text().replace(before, after))
    assert fingerprint("pretrain") != old


def test_it_changes_with_names_of_files(project: Path) -> None:
    prints = {fingerprint("pretrain")}
    (project / "folder" / "a.py").rename(project / "folder" / "c.py")
    prints.add(fingerprint("pretrain"))
    (project / "folder" / "d.py").touch()
    prints.add(fingerprint("pretrain"))
    assert len(prints) == 3


def test_it_does_not_change_with_anything_else(project: Path) -> None:
    old = fingerprint("pretrain")
    params = project / "params.yaml"
    params.write_text("# a comment\n" + params.read_text().replace("device: cpu", "device: cuda"))
    params.write_text(params.read_text().replace("finetune: {seed: 1}", "finetune: {seed: 2}"))
    (project / "other.py").write_text("6")
    (project / "folder" / "__pycache__").mkdir()
    (project / "folder" / "__pycache__" / "a.cpython-311.pyc").write_text("compiled")
    (project / "folder" / "_C.so").write_text("compiled")
    assert fingerprint("pretrain") == old


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_project_s_own_stages_have_one(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # But for inputs that are not there before the pipeline has run.
    monkeypatch.chdir(ROOT)
    assert len(fingerprint(stage)) == 16


MATRIX = """\
stages:
  compare:
    matrix: {method: [a, b], seed: [1, 2]}
    params: [finetune, {more.yaml: [updates, "methods.${item.method}"]}]
    deps: [code.py]
"""


def test_each_item_of_a_matrix_has_its_own(project: Path) -> None:
    path, more = project / "compare.yaml", project / "more.yaml"
    path.write_text(MATRIX)
    more.write_text("updates: 3\nmethods: {a: {eta.start: 0.0}, b: {}}\nseeds: [1, 2]\n")

    def prints() -> list[str]:
        return [fingerprint("compare", path, {"method": method, "seed": "1"}) for method in ("a", "b")]

    old = prints()
    assert len({*old}) == 2
    for before, after, same in (
        ("seeds: [1, 2]", "seeds: [1]", [True, True]),
        ("eta.start: 0.0", "eta.start: 0.1", [False, True]),
        ("updates: 3", "updates: 4", [False, False]),
    ):
        text = more.read_text()
        more.write_text(text.replace(before, after))
        assert [new == print_ for new, print_ in zip(prints(), old, strict=True)] == same
        more.write_text(text)
    (project / "code.py").write_text("new")
    assert not {*prints()} & {*old}


def test_items_of_a_matrix_leave_each_other_alone(project: Path) -> None:
    (project / "compare.yaml").write_text(MATRIX)
    (project / "more.yaml").write_text("updates: 3\nmethods: {a: {}, a_b: {}}\n")
    folders = []
    for method, seed in (("a", "1"), ("a", "12"), ("a_b", "1")):
        item = {"method": method, "seed": seed}
        with run_folder("compare", project / "compare.yaml", item) as folder:
            (folder / "step-1").touch()
        folders.append(folder)
    assert [folder.name.rsplit("-", 1)[0] for folder in folders] == ["compare-a-1", "compare-a-12", "compare-a_b-1"]
    with run_folder("compare", project / "compare.yaml", {"method": "a", "seed": "1"}) as folder:
        assert all((folder / "step-1").exists() for folder in folders)


# The folder.


def test_the_same_run_has_the_same_folder() -> None:
    folder = enter()
    (folder / "step-1").touch()
    assert enter() == folder and (folder / "step-1").exists()


def test_another_run_has_an_empty_one_and_the_old_is_removed(project: Path) -> None:
    old = enter()
    (old / "step-1").mkdir()
    (project / "code.py").write_text("new")
    new = enter()
    assert new != old and not old.exists() and list(new.iterdir()) == []


def test_other_stages_are_left_alone(project: Path) -> None:
    other = project / "runs" / "finetune-1234"
    other.mkdir(parents=True)
    enter()
    assert other.is_dir()


def test_an_error_in_a_run_keeps_its_folder(project: Path) -> None:
    with pytest.raises(UserError), run_folder("pretrain") as folder:
        (folder / "step-1").touch()
        raise UserError
    assert (enter() / "step-1").exists()


def test_a_kill_while_a_run_is_removed_leaves_no_half_of_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = enter()
    (old / "step-1").mkdir()
    (old / "step-1" / "model").touch()
    remove = resumable.shutil.rmtree

    def killed(path: Path, **options: Any) -> None:
        if path.exists():
            (path / "step-1" / "model").unlink()
            raise KeyboardInterrupt
        remove(path, **options)

    commands_above(monkeypatch, [["dvc", "repro", "-f"]])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resumable.shutil, "rmtree", killed)
        enter()
    commands_above(monkeypatch, [])
    assert enter() == old and list(old.iterdir()) == []
    # What was half removed goes the next time that something is.
    (project / "code.py").write_text("new")
    new = enter()
    assert {path.name for path in (project / "runs").iterdir()} == {new.name, "pretrain.lock"}


# `dvc repro -f`.


@pytest.mark.parametrize(
    ("command", "forced"),
    [
        ("/usr/bin/python3 /home/me/.venv/bin/dvc repro -f", True),
        ("/home/me/.venv/bin/dvc repro --force pretrain", True),
        ("python -m dvc exp run -f", True),
        ("dvc repro -sf finetune", True),
        ("dvc repro -fs finetune", True),
        ("dvc repro", False),
        ("dvc repro finetune --force-downstream", False),
        ("dvc exp run -S finetune.updates=3", False),
        ("dvc exp run -Sfinetune.updates=3", False),
        ("dvc exp run -n fast -m f", False),
        ("dvc exp run -nfast", False),
        ("make -f Makefile repro", False),
        ("bash -f run dvc", False),
    ],
)
def test_a_forced_run_starts_anew(command: str, forced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (enter() / "step-1").touch()
    commands_above(monkeypatch, [["sh", "-c", "python -m stages.pretrain"], command.split(), ["bash"], []])
    assert (enter() / "step-1").exists() != forced


def test_parents_that_cannot_be_asked_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Secret:
        def cmdline(self) -> list[str]:
            raise psutil.AccessDenied

    (enter() / "step-1").touch()
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [Secret()])
    assert (enter() / "step-1").exists()


# The lock.


def test_a_second_writer_is_refused_until_the_first_has_ended(project: Path) -> None:
    program = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from stages.resumable import run_folder\n"
        "with run_folder('pretrain') as folder:\n"
        "    (folder / 'step-1').touch()\n"
        "    print('running', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=project, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"running\n"
        told = rf"^process {first.pid} still runs the stage pretrain: wait for it, or kill it and run this again"
        for _ in range(2):
            with pytest.raises(UserError, match=told):
                enter()
        # Even a changed or forced run does not take the folder away under the first one.
        (project / "code.py").write_text("new")
        with pytest.raises(UserError, match=told):
            enter()
        (project / "code.py").write_text("1")
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (enter() / "step-1").exists()


def test_stages_do_not_lock_each_other(project: Path) -> None:
    (project / "dvc.yaml").write_text(PIPELINE + "  finetune: {cmd: 'true', params: [finetune], deps: [input]}\n")
    with run_folder("pretrain"), run_folder("finetune"):
        pass
