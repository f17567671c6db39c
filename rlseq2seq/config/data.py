"""Parameters of the download stage: which pairs of texts."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT

Share = Annotated[float, Field(gt=0, lt=0.5)]
Text = Annotated[str, Field(min_length=1)]
Language = Literal["cs", "de", "en", "fr"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, config=STRICT)
class PythonDocstringsConfig:
    """Pairs harvested from installed packages: function -> first sentence of its docstring."""

    standard_library: bool
    packages: tuple[Text, ...]
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
class Multi30kConfig:
    """From which language into which, and the name of the test set."""

    source: Language
    target: Language
    test: Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco", "test_2018_flickr"]

    @model_validator(mode="after")
    def _two_languages(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source}: a translation needs two languages")
        return self


@dataclass(frozen=True, config=STRICT)
class HubConfig:
    """A dataset of the Hugging Face hub.

    ``source`` and ``target`` are names of columns; a dot leads into a nested one, such as ``translation.de``.
    ``config`` is the folder of one of several versions that a dataset has; ``revision`` a branch, tag or commit, where
    None is the main branch as it was when it was fetched first.
    """

    name: str
    source: Text
    target: Text
    config: Text | None
    revision: Text | None

    @field_validator("name")
    @classmethod
    def _of_the_hub(cls, name: str) -> str:
        if _HUB_NAME.fullmatch(name) is None:
            raise ValueError("must be a name of huggingface.co/datasets, such as knkarthick/samsum")
        return name


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """``path``: a folder that holds the corpus in its own layout; None where it is to be fetched."""

    source: Literal[
        "python_docstrings",
        "cnn_dailymail",
        "xsum",
        "gigaword",
        "newsroom",
        "aeslc",
        "multi30k",
        "hub",
        "files",
        "tf_bin",
    ]
    path: Text | None
    python_docstrings: PythonDocstringsConfig
    multi30k: Multi30kConfig
    hub: HubConfig
    files: FilesConfig

    @model_validator(mode="after")
    def _path_is_there_where_it_is_read(self) -> Self:
        if self.source in ("newsroom", "tf_bin") and self.path is None:
            raise ValueError(f"path is null, but {self.source} cannot be fetched: name the folder that has its files")
        if self.source in ("python_docstrings", "files") and self.path is not None:
            raise ValueError(
                f"path is {self.path!r}, but {self.source} reads what its own keys say: set path to null, or another "
                "source"
            )
        return self
