"""Parameters of an experiment: what differs from params.yaml, and how DVC is told."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from rlseq2seq.errors import UserError

Changes = dict[str, Any]


def changes_of(overlay: Mapping[str, Any], params: Mapping[str, Any], place: str) -> Changes:
    """The values of ``overlay``, nested as ``params`` are, by dotted key.

    A mapping that stands where ``params`` have none is a value.

    Args:
        overlay: some of the keys of ``params``.
        params: all parameters.
        place: where the overlay is from, in messages.

    Raises:
        UserError: the first key that ``params`` lack.
    """
    changes: Changes = {}
    for key, value in overlay.items():
        if key not in params:
            raise UserError(f"{place} has {key}, which is not a parameter: see params.yaml for the names")
        if isinstance(params[key], dict) and isinstance(value, dict):
            inner = changes_of(value, params[key], f"{place}, in {key}")
            changes |= {f"{key}.{name}": change for name, change in inner.items()}
        else:
            changes[key] = value
    return changes


def nested(key: str, value: object) -> dict[str, Any]:
    """``value`` under a dotted ``key``, as in params.yaml."""
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def changed(params: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """``params`` with ``changes``, whose keys they have."""
    result = deepcopy(dict(params))
    for key, value in changes.items():
        *path, name = key.split(".")
        mapping = result
        for part in path:
            mapping = mapping[part]
        mapping[name] = value
    return result


def published(changes: Changes) -> Changes:
    """``changes`` without those that name a place on this machine."""
    return {key: value for key, value in changes.items() if key != "data.path" and not str(value).startswith("/")}


def setting(key: str, value: object) -> str:
    """What follows ``-S`` of `dvc exp run`, in Hydra's grammar."""
    return f"{key}={_literal(value)}"


def _literal(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list():
            return f"[{','.join(map(_literal, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{_literal(item)}' for key, item in value.items())}}}"
    # A quote is escaped, and so are the backslashes before one, the closing quote too; others stand for themselves.
    text = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"), str(value))
    return "'{}'".format(text.replace("${", r"\${"))  # no interpolation
