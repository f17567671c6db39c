"""The pipeline with the parameters of an experiment, and a record of what it came to.

`make experiment PARAMS=experiments/NAME/params.yaml SET="data.path=/somewhere"`, or in the environment
`python -m stages.experiment experiments/NAME/params.yaml data.path=/somewhere`. The record is `metrics.json` beside the
parameters (`metrics-cpu.json` beside `params-cpu.yaml`).
"""

import argparse
import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import torch
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rlseq2seq.config.base import PARAMS, read_params
from rlseq2seq.config.check import check_params
from rlseq2seq.config.experiment import Changes, changed, changes_of, nested, published, setting
from rlseq2seq.errors import UserError
from stages.common import REPORTS, run, write_text_whole
from stages.resumable import PIPELINE, RUNS, fingerprint

# What a stage's outputs are made by, besides parameters and data.
CODE = ("csrc", "dvc.yaml", "requirements.lock", "rlseq2seq", "setup.py", "stages")

_STARTS = re.compile(rb"Running stage '(\w+)'")


class StageTimes:
    """Seconds that each stage has worked, over all processes that went on with it.

    They are written to ``path`` as they pass, so that a kill loses none. A stage whose code, parameters or inputs have
    changed, or that had ended, starts anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stages: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        self._running: str | None = None
        self._since = time.monotonic()

    def start(self, stage: str) -> None:
        self.end()
        state = fingerprint(stage)
        before = self._stages.get(stage)
        if before is None or before["fingerprint"] != state or before["ended"]:
            self._stages[stage] = {"fingerprint": state, "seconds": 0.0, "ended": False}
        self._running, self._since = stage, time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        if self._running is not None:
            self._stages[self._running]["seconds"] += now - self._since
            write_text_whole(self._path, json.dumps(self._stages, indent=2) + "\n")
        self._since = now

    def end(self) -> None:
        if self._running is not None:
            self._stages[self._running]["ended"] = True
            self.tick()
        self._running = None

    def seconds(self, stage: str) -> float | None:
        """None where the results of the stage were there before, and so nobody knows."""
        found = self._stages.get(stage)
        known = found is not None and found["ended"] and found["fingerprint"] == fingerprint(stage)
        return round(found["seconds"], 1) if found is not None and known else None


def main() -> None:
    parser = argparse.ArgumentParser("stages.experiment")
    parser.add_argument("params", type=Path, help="what differs from params.yaml")
    parser.add_argument("set", nargs="*", metavar="KEY=VALUE", help="what differs besides")
    options = parser.parse_args()
    changes = read_changes(options.params, options.set)
    made_by = revision()
    times = StageTimes(RUNS / "experiments" / f"{options.params.parent.name}-{options.params.stem}.json")
    run_pipeline(changes, times)
    path = options.params.with_name(f"{options.params.stem.replace('params', 'metrics')}.json")
    write_text_whole(path, json.dumps(record(options.params, changes, made_by, times), indent=2) + "\n")
    print(f"\n{(REPORTS / 'results.md').read_text()}\n{path} keeps these, the time and the machine")


def read_changes(path: Path, settings: Sequence[str]) -> Changes:
    """What ``path`` and ``settings`` change in the params.yaml that git has, checked as a whole.

    Raises:
        UserError: a key or a value is not one of params.yaml; or that file was edited, so that an experiment would be
            of something else than it says.
    """
    committed = _git("show", f"HEAD:./{PARAMS}")
    params = YAML(typ="safe").load(committed)
    changes = changes_of(read_params(path), params, str(path))
    for text in settings:
        changes |= changes_of(_setting(text), params, text)
    wanted = changed(params, changes)
    if read_params() not in (params, wanted):
        raise UserError(
            f"{PARAMS} is neither as git has it nor as {path} wants it: commit your changes, or take them back "
            f"(git restore --staged --worktree {PARAMS})"
        )
    whole = RUNS / "experiments" / PARAMS
    whole.parent.mkdir(parents=True, exist_ok=True)
    YAML().dump(wanted, whole)
    check_params(whole)
    return changes


def _setting(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if equals:
            return nested(key, YAML(typ="safe").load(value))
    except YAMLError:
        pass
    raise UserError(f"{text} is not KEY=VALUE with a value in YAML: write it as in params.yaml")


def run_pipeline(changes: Changes, times: StageTimes) -> None:
    """Have DVC run what ``changes`` change.

    Raises:
        UserError: a stage, or DVC, has failed and said why.
    """
    settings = [part for key, value in changes.items() for part in ("-S", setting(key, value))]
    command = [sys.executable, "-m", "dvc", "exp", "run", *settings]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # a stage is timed from when DVC says that it starts
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=True) as process:
        _ends_with_this(process)
        assert process.stdout is not None
        line = b""
        while True:
            if select.select([process.stdout], [], [], 1.0)[0]:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
                *lines, line = (line + data).split(b"\n")
                for match in filter(None, map(_STARTS.search, lines)):
                    times.start(match[1].decode())
            times.tick()
    if process.returncode:
        raise UserError("the experiment has not ended, as said above: mend that and run it again, which goes on")
    times.end()


def _ends_with_this(process: subprocess.Popen[bytes]) -> None:
    """Have whatever ends this program end ``process`` and its children, which DVC's own end would not."""

    def end(number: int, _: object) -> NoReturn:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
        sys.exit(128 + number)

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # `nohup` has the end of the terminal ignored
            signal.signal(name, end)


def revision() -> dict[str, Any]:
    """The commit that is checked out, and whether the code is as it says."""
    return {
        "commit": _git("rev-parse", "HEAD").strip(),
        "code_as_committed": not _git("status", "--porcelain", "--", *CODE),
    }


def record(path: Path, changes: Changes, made_by: dict[str, Any], times: StageTimes) -> dict[str, Any]:
    """All numbers of the evaluation, and what they are numbers of. It names no place on this machine."""
    evaluation = json.loads((REPORTS / "evaluation.json").read_text())
    return {
        "experiment": path.name if path.is_absolute() else path.as_posix(),
        "params": published(changes),
        "date": datetime.now(UTC).date().isoformat(),
        **made_by,
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "gpu": _gpu()},
        "torch": torch.__version__,
        "seconds": {stage: times.seconds(stage) for stage in YAML(typ="safe").load(PIPELINE)["stages"]},
        **evaluation,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {' '.join(arguments)} says: {done.stderr.strip()}: run from the root of a clone")
    return done.stdout


def _cpu() -> str:
    """Its name, as Linux has it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.machine()


def _gpu() -> str | None:
    device = read_params()["runtime"]["device"]
    if device == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(None if device == "auto" else device)


if __name__ == "__main__":
    run(main)
