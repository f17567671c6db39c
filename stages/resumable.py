"""Where a training stage keeps what it needs to go on after a kill: runs/<stage>-<fingerprint>/."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from ruamel.yaml import YAML

from rlseq2seq.config.base import PARAMS, read_params
from rlseq2seq.errors import UserError

RUNS = Path("runs")
PIPELINE = Path("dvc.yaml")
NO_ITEM: Mapping[str, str] = MappingProxyType({})


@contextmanager
def run_folder(stage: str, pipeline: Path = PIPELINE, item: Mapping[str, str] = NO_ITEM) -> Iterator[Path]:
    """The folder of this very run: same code, parameters and inputs, same folder; `dvc repro -f` empties it.

    Folders of the stage's other runs are removed. The stage is locked meanwhile. Of a stage with a `matrix`, each
    ``item`` is a stage by itself: a value by name, none with a dash in it.

    Raises:
        UserError: another process has the stage.
    """
    RUNS.mkdir(exist_ok=True)
    name = "-".join([stage, *item.values()])
    with _locked(RUNS / f"{name}.lock", name):
        folder = RUNS / f"{name}-{fingerprint(stage, pipeline, item)}"
        for other in RUNS.glob(f"{name}-*"):
            if other != folder or _forced():
                # By way of another name: a kill meanwhile leaves no half of it under its own.
                doomed = RUNS / f"removed-{name}"
                shutil.rmtree(doomed, ignore_errors=True)
                other.rename(doomed)
                shutil.rmtree(doomed)
        folder.mkdir(exist_ok=True)
        yield folder


def fingerprint(stage: str, pipeline: Path = PIPELINE, item: Mapping[str, str] = NO_ITEM) -> str:
    """A hash of what DVC says that the stage depends on: its parameters and the content of its dependencies."""
    spec = YAML(typ="safe").load(pipeline)["stages"][stage]
    params = {key: value for entry in spec["params"] for key, value in _params(entry, item).items()}
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for dependency in spec["deps"]:
        for file in _files(Path(dependency)):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def _params(entry: str | dict[str, list[str]], item: Mapping[str, str]) -> dict[str, Any]:
    """The values of an entry of a stage's `params`: a key of params.yaml, or keys of a file that it names."""
    found = {}
    for path, keys in ({str(PARAMS): [entry]} if isinstance(entry, str) else entry).items():
        params = read_params(Path(path))
        for key in keys:
            parts = re.sub(r"\$\{item\.(\w+)\}", lambda match: item[match[1]], key).split(".")
            found[f"{path}:{key}"] = reduce(lambda mapping, part: mapping[part], parts, params)
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.suffix not in (".pyc", ".so"))


@contextmanager
def _locked(path: Path, stage: str) -> Iterator[None]:
    """Hold an exclusive lock, which the system lets go of however the process ends."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"process {file.read().strip()} still runs the stage {stage}: wait for it, or kill it and run this "
                "again, which goes on from its last checkpoint"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _forced() -> bool:
    """Whether the `dvc` that runs this stage was told to start anew. It tells its stages nothing of its options."""
    commands = map(_command, psutil.Process().parents())
    by_dvc = (words for words in commands if any(re.search(r"(^|/)dvc$", word) for word in words[:3]))
    return any(re.fullmatch("--force|-[PRikpqsv]*f[PRfikpqsv]*", word) for words in by_dvc for word in words)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # ended since, or another user's, and so no `dvc` of ours
        return []
