from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rlseq2seq.config.base import parse
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.errors import UserError

EVALUATE = YAML(typ="safe").load(Path(__file__).parents[1] / "params.yaml")["evaluate"]


@pytest.mark.parametrize("baselines", [[], ["source"], ["greedy_oracle", "lead_3", "lead"]])
def test_baselines_are_any_in_any_order(baselines: list[str]) -> None:
    assert list(parse(EvaluateConfig, {**EVALUATE, "baselines": baselines}, "evaluate").baselines) == baselines


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"baselines": ["lead", "lead"]}, r"evaluate\.baselines is \['lead', 'lead'\]: must have each baseline once"),
        ({"baselines": ["copy"]}, r"evaluate\.baselines\.0 is 'copy': must be 'lead', 'lead_3', 'name', "),
        ({"metric": "rouge_1"}, r"evaluate\.metric is 'rouge_1': must be 'rouge_l', 'bleu' or 'chrf'"),
    ],
)
def test_others_are_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(EvaluateConfig, {**EVALUATE, **changes}, "evaluate")
