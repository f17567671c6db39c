"""Reading a section of params.yaml into a frozen, typed dataclass: checked once, at the door."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rlseq2seq.errors import UserError

PARAMS = Path("params.yaml")

# Strict: "10" and 10.0 are no integers, 1 is no boolean, infinity is no number; an unknown key is an error, as is a
# missing one.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Section = TypeVar("Section")

# Pydantic's words for JSON, in those of YAML.
_WORDS = {"Input should be": "must be", "an object": "a mapping", "a valid array": "a list"}


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read the whole file, with the YAML 1.2 rules that DVC uses (so ``1e-4`` is a number).

    Raises:
        UserError: the file is missing or is not a mapping.
    """
    try:
        params = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not here: run from the project's root, or restore it from git") from None
    except YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise UserError(f"{path} must be a mapping of sections, and is a {type(params).__name__}")
    return params


def parse(kind: type[Section], values: object, name: str) -> Section:
    """Turn plain ``values`` into the dataclass ``kind``; ``name`` is the section's name in messages.

    Raises:
        UserError: one line for the first bad key: its name, its value and what is allowed.
    """
    try:
        # As JSON: there even a strict pydantic takes mappings for dataclasses and lists for tuples.
        return TypeAdapter(kind).validate_json(to_json(values, inf_nan_mode="constants"))
    except ValidationError as error:
        raise UserError(_sentence(error, name)) from None


def load(kind: type[Section], name: str, path: Path = PARAMS) -> Section:
    """Read the section ``name`` of ``path``.

    Raises:
        UserError: the section is missing, or as `parse`.
    """
    params = read_params(path)
    if name not in params:
        raise UserError(f"{path} has no section {name!r}: restore it from git (git checkout {path})")
    return parse(kind, params[name], name)


def _sentence(error: ValidationError, name: str) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join([name, *(str(part) for part in first["loc"])])
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    match first["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{key} is not a parameter: remove it, or see params.yaml in git for the names{tail}"
        case "missing" | "missing_argument":
            return f"{key} is missing: every parameter stands in params.yaml, with its default in git{tail}"
    message = first["msg"].removeprefix("Value error, ")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return f"{key}: {message}{tail}"  # of several keys together, which it names
    return f"{key} is {first['input']!r}: {message[0].lower()}{message[1:]}{tail}"
