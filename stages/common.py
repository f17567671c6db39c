"""What every stage does: check the parameters, tell bad input in one sentence, write outputs whole or not at all."""

import errno
import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rlseq2seq.errors import UserError

RAW = Path("data/raw")
TOKENS = Path("data/tokens")
MLE = Path("models/mle")
RL = Path("models/rl")
REPORTS = Path("reports")


def run(stage: Callable[[], None]) -> None:
    """Run ``stage`` as a program: exit code 2 and one sentence where the user can mend it."""
    try:
        # By name, not by an import: what other stages' parameters are checked by cannot change this one's outputs,
        # and so must not be among its dependencies.
        importlib.import_module("rlseq2seq.config.check").check_params()
        stage()
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        name, reason = error.filename or "a file", error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _refuse(f"{name} cannot be written ({reason}): make room and run again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            _refuse(f"{name} cannot be opened or written ({reason}): see to its permissions and run again")
        raise


def _refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``folder`` when all is written."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write ``path`` through a temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
