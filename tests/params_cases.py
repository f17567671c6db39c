"""The project's parameters, and changes to them, for tests."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rlseq2seq.config.base import read_params

PARAMS = read_params(Path(__file__).parents[1] / "params.yaml")


def changed(key: str, change: Callable[[dict[str, Any], str], Any]) -> dict[str, Any]:
    """All parameters, with ``change`` done to the mapping and the name in it that ``key`` leads to."""
    params = deepcopy(PARAMS)
    *path, name = key.split(".")
    mapping = params
    for part in path:
        mapping = mapping[part]
    change(mapping, name)
    return params


def written(folder: Path, params: dict[str, Any]) -> Path:
    path = folder / "params.yaml"
    YAML().dump(params, path)
    return path
