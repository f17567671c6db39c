"""Parameters of the download stage: which pairs of texts."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT

Share = Annotated[float, Field(gt=0, lt=0.5)]


@dataclass(frozen=True, config=STRICT)
class PythonDocstringsConfig:
    """Pairs harvested from installed packages: function -> first sentence of its docstring."""

    standard_library: bool
    packages: tuple[Annotated[str, Field(min_length=1)], ...]
    validation_share: Share
    test_share: Share
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class FilesConfig:
    """A user's own files.

    ``train``, ``validation`` and ``test`` are each the path of a file of JSON lines or TSV, or the stem of two parallel
    text files with the endings ``source_suffix`` and ``target_suffix``; ``.gz`` may follow, written here or not.
    """

    format: Literal["jsonl", "tsv", "parallel"]
    train: str
    validation: str
    test: str
    source_suffix: str
    target_suffix: str


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    source: Literal["python_docstrings", "files"]
    python_docstrings: PythonDocstringsConfig
    files: FilesConfig
