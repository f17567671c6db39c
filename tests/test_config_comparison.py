from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from rlseq2seq.config.comparison import COMPARISON, CONTROL, load_comparison
from rlseq2seq.errors import UserError

ROOT = Path(__file__).parents[1]
PARAMS: dict[str, Any] = YAML(typ="safe").load(ROOT / COMPARISON)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / COMPARISON).parent.mkdir(parents=True)
    for name in ("params.yaml", COMPARISON):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)


def message(**values: Any) -> str:
    YAML().dump({**PARAMS, **values}, COMPARISON)
    with pytest.raises(UserError) as caught:
        load_comparison()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_project_s_methods_are_what_they_are_called() -> None:
    comparison, configs = load_comparison()
    assert len(comparison.seeds) == 3 and set(comparison.run) == set(configs)
    assert all(config.updates == comparison.updates for config in configs.values())
    likelihood = {"mle": "none"} | {name: name for name in ("scheduled_sampling", "soft", "e2e_backprop")}
    for name, config in configs.items():
        if name in likelihood:
            assert not config.reinforces and config.exposure_bias.method == likelihood[name]
            # Schedules end with the run.
            schedules = config.exposure_bias.probability.steps, config.exposure_bias.alpha.steps
            used = {"none": 0, "soft": 2}.get(config.exposure_bias.method, 1)
            assert all(steps == comparison.updates for steps in schedules[:used])
        else:
            assert config.reinforces and config.method == name.removesuffix("_shaped").removesuffix("_state_value")
            assert config.samples == 4 and config.exposure_bias.method == "none"
            assert config.returns == ("shaped" if name.endswith("_shaped") else "sequence")


def test_what_is_not_changed_is_as_in_params_yaml() -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("batch_size: 32                 # sources", "batch_size: 7"))
    assert {config.batch_size for config in load_comparison()[1].values()} == {7}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"updates": 0}, "comparison.updates is 0: must be greater than or equal to 1"),
        ({"seeds": []}, "comparison.seeds is []: "),
        ({"seeds": [1, 1]}, "comparison: run or seeds has something twice: keep one of it"),
        ({"run": ["mle", "no_such"]}, "comparison: run has no_such, which is not among methods: add it there"),
        ({"run": ["rloo", "grpo"]}, f"comparison: run lacks {CONTROL}, with which the others are compared"),
        ({"run": ["mle"]}, "comparison.run is ['mle']: "),
        ({"run": ["mle", "my-own"]}, "comparison.run.1 is 'my-own': "),
        ({"more": 1}, "comparison.more is not a parameter"),
    ],
)
def test_a_bad_key_is_told_in_a_line(values: dict[str, Any], told: str) -> None:
    assert message(**values).startswith(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"etta.start": 0.0}, "has etta.start, which is not a parameter of finetune"),
        ({"eta.first": 0.0}, "has eta.first, which is not a parameter of finetune"),
        ({"updates.of": 3}, "has updates.of, which is not a parameter of finetune"),
        ({"samples": 1}, "finetune: samples is 1, but rloo compares the samples of a source with each other"),
        ({"eta.start": 2.0}, "finetune.eta.start is 2.0: must be less than or equal to 1"),
    ],
)
def test_a_bad_change_is_told_with_its_method(changes: dict[str, Any], told: str) -> None:
    text = message(methods={**PARAMS["methods"], "rloo": changes})
    assert text.startswith(f"methods.rloo of {COMPARISON}") and told in text


def test_the_control_does_not_reinforce() -> None:
    assert message(methods={**PARAMS["methods"], "mle": {}}).startswith(f"methods.mle of {COMPARISON} reinforces: set")
