"""A small copy of the project in a git repository of its own, whose pipeline runs in seconds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

PARAMS = {
    "data.source": "files",
    "tokenization.type": "word",
    "tokenization.vocabulary_size": 26,
    "tokenization.max_source_tokens": 12,
    "tokenization.max_target_tokens": 8,
    "model.embedding_size": 24,
    "model.encoder_size": 24,
    "model.decoder_size": 32,
    "model.attention_size": 24,
    "model.dropout": 0.1,
    "pretrain.epochs": 5,
    "pretrain.batch_size": 16,
    "pretrain.learning_rate": 0.008,
    "pretrain.optimizer.warmup_steps": 10,
    "pretrain.coverage.from_step": 25,
    "pretrain.validation.every": 10,
    "pretrain.validation.pairs": 20,
    "finetune.updates": 40,
    "finetune.batch_size": 8,
    "finetune.learning_rate": 0.003,
    "finetune.reward.beta": 1.0,
    "finetune.validation.every": 20,
    "finetune.validation.pairs": 20,
    "evaluate.bootstrap_samples": 200,
    "runtime.device": "cpu",
    "runtime.threads": 1,
    "runtime.workers": 1,
    "runtime.checkpoint_every": 5,
}

# What a run leaves that must not depend on kills.
RESULTS = ("models/mle", "models/rl", "reports/predictions.jsonl", "reports/pretrain.csv", "reports/finetune.csv")


def write_corpus(folder: Path) -> None:
    """Sums, differences and products of names, a third of them too rare for the vocabulary: they must be copied."""
    chooser = random.Random(0)
    names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", *(f"name{i}" for i in range(12))]
    forms = [("add {} to {}", "sum of {} and {}"), ("multiply {} by {}", "product of {} and {}")]
    forms.append(("subtract {} from {}", "difference of {} and {}"))
    for split, count in (("train", 160), ("validation", 20), ("test", 24)):
        rows = []
        for i in range(count):
            source, target = chooser.choice(forms)
            pair = chooser.sample(names, 2)
            row = {"source": f"please {source.format(*pair)} now", "target": target.format(*pair)}
            rows.append({**row, "group": f"group{i % 6}", "name": source.split()[0]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Project:
    """A clone in ``folder``; commands run in it as in an activated environment."""

    folder: Path

    @property
    def log(self) -> Path:
        """What commands that were started, and not run, have printed."""
        return self.folder.with_suffix(".log")

    @property
    def environment(self) -> dict[str, str]:
        mine = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder.with_suffix(".dvc")),
            "DVC_NO_ANALYTICS": "1",
            "CI": "true",  # `dvc` does not look for a newer release of itself
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        return {**os.environ, **mine}

    def run(self, *command: str, status: int | None = 0) -> str:
        """Run a command; returns what it printed. It must end with ``status`` (None: with any but 0)."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status or (status is None and done.returncode), done.stdout
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Run a command in a process group of its own, beside the caller."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def set_params(self, values: dict[str, Any]) -> None:
        yaml = YAML()
        params = yaml.load(self.folder / "params.yaml")
        for key, value in values.items():
            *path, name = key.split(".")
            section = params
            for part in path:
                section = section[part]
            assert name in section
            section[name] = value
        yaml.dump(params, self.folder / "params.yaml")

    def results(self) -> dict[str, bytes]:
        """Name and content of each file of `RESULTS`."""
        found = [path for name in RESULTS for path in (self.folder / name, *(self.folder / name).rglob("*"))]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found if path.is_file()}

    def last_checkpoint(self, stage: str, since: float = 0) -> int:
        """The step of the stage's last whole checkpoint, written after the time ``since``; -1 if there is none."""
        folders = [path for path in self.folder.glob(f"runs/{stage}-*/step-*") if path.stat().st_mtime > since]
        return max((int(path.name.split("-")[1]) for path in folders), default=-1)

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def make_project(folder: Path) -> Project:
    """Copy the working tree as git sees it, with the extension as it is built, and commit it with small parameters."""
    project = Project(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    built = [str(path.relative_to(ROOT)) for path in (ROOT / "rlseq2seq").glob("_C*.so")]
    assert built, "the extension is not built: run `make build`"
    for name in [*filter(None, listed), *built]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project.set_params(PARAMS)
    write_corpus(folder / "corpus")
    git = ("git", "-c", "user.name=Nobody", "-c", "user.email=nobody@example.com")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "Start")):
        project.run(*git, *command)
    return project


def start_until_checkpoint(project: Project, stage: str, step: int, *command: str) -> subprocess.Popen[bytes]:
    """Start a command and wait until it has written a checkpoint of ``stage`` at ``step`` or later."""
    started, limit = time.time(), time.monotonic() + 180
    process = project.start(*command)
    while project.last_checkpoint(stage, since=started) < step:
        assert process.poll() is None and time.monotonic() < limit, project.log.read_text()
        time.sleep(0.005)
    return process


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it started, with the signal that nothing can catch."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
