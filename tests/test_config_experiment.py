"""What an experiment changes, and how DVC is told: by its own reader."""

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from rlseq2seq.config.base import read_params
from rlseq2seq.config.check import check_params
from rlseq2seq.config.experiment import changed, changes_of, nested, published, setting
from rlseq2seq.errors import UserError

ROOT = Path(__file__).parents[1]
PARAMS: dict[str, Any] = {"a": {"b": 1, "c": {"d": None, "e": "x"}}, "f": [1]}
EXPERIMENTS = sorted((ROOT / "experiments").glob("*/params*.yaml"))
EXPERIMENTS = [path for path in EXPERIMENTS if path.parent.name != "comparison"]


def test_changes_have_dotted_keys_and_mappings_are_values_where_there_are_none() -> None:
    overlay = {"a": {"c": {"d": {"layer": 3}}}, "f": []}
    changes = changes_of(overlay, PARAMS, "overlay.yaml")
    assert changes == {"a.c.d": {"layer": 3}, "f": []}
    assert changed(PARAMS, changes) == {"a": {"b": 1, "c": {"d": {"layer": 3}, "e": "x"}}, "f": []}
    assert PARAMS["a"]["c"]["d"] is None
    assert changes_of(nested("a.c.e", 5), PARAMS, "it") == {"a.c.e": 5}


@pytest.mark.parametrize(
    ("overlay", "told"),
    [
        ({"b": 1}, "overlay.yaml has b, which is not a parameter"),
        ({"a": {"c": {"x": 1}}}, "overlay.yaml, in a, in c has x, which is not a parameter"),
    ],
)
def test_an_unknown_key_is_told(overlay: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        changes_of(overlay, PARAMS, "overlay.yaml")


def test_what_names_a_place_of_this_machine_is_not_published() -> None:
    changes = {"data.path": "corpora/x", "data.files.train": "/home/me/train", "data.files.test": "corpus/t", "n": 1}
    assert published(changes) == {"data.files.test": "corpus/t", "n": 1}


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            False,
            3,
            1e-4,
            1e-7,
            0.3,
            "",
            "null",
            "true",
            "1",
            "1e5",
            "a b",
            "it's",
            '"',
            "a:b",
            "c=d",
            "x,y",
        ),
        *("C:\\data\\", "\\\\", "\\'", "a\\\\'b'", "'", "$x", "${x}"),
        *("/x/y z", "back\\slash", "[a]", ["a", "b c"], [1, 2], [], {"layer": 3, "head": 1}),
    ],
)
def test_dvc_reads_what_is_set(value: object, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: {b: old, c: 2}\n")
    ((name, overrides),) = to_path_overrides([setting("a.b", value)]).items()
    assert name == "params.yaml"
    apply_overrides(path, overrides)
    found = YAML(typ="safe").load(path)
    assert found == {"a": {"b": value, "c": 2}} and type(found["a"]["b"]) is type(value)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_experiments_are_parameters_and_say_only_what_differs(path: Path, tmp_path: Path) -> None:
    params = read_params(ROOT / "params.yaml")
    changes = changes_of(read_params(path), params, path.name)
    wanted = changed(params, changes)
    YAML().dump(wanted, tmp_path / "params.yaml")
    check_params(tmp_path / "params.yaml")
    assert [key for key, value in changes.items() if value == _at(params, key)] == []


def _at(params: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params


def test_there_are_experiments() -> None:
    assert {path.parent.name for path in EXPERIMENTS} >= {"multi30k", "aeslc", "cnn_dailymail"}
