"""Fine-tuning by each method as a stage, on a small corpus, in this process."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_helpers import Project, make_project
from safetensors.torch import load_file

import stages.finetune
from rlseq2seq.data.batches import Batch
from rlseq2seq.generation import load
from rlseq2seq.models.saved import weights
from rlseq2seq.objectives.fine_tuning import FineTuning
from rlseq2seq.objectives.loss import Loss
from stages import download, pretrain, tokenization


class KilledError(Exception):
    """What stands here for a `kill -9`: nothing catches it."""


class Watched(FineTuning):
    """The loss of fine-tuning, which remembers what it was asked, and dies at ``die_at``."""

    die_at: int | None = None
    last: "Watched"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Watched.last, self.rows, self.at_start = self, [], [p.detach().clone() for p in self.state.parameters()]

    def __call__(self, batch: Batch, step: int) -> Loss:
        if step == Watched.die_at:
            raise KilledError
        self.rows.append(batch.rows)
        return super().__call__(batch, step)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose model has learned a little."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    project = make_project(tmp_path_factory.mktemp("finetune") / "project")
    project.set_params(
        {
            "pretrain.epochs": 1,
            "finetune.updates": 6,
            "finetune.samples": 3,
            "finetune.validation.every": 3,
            "runtime.checkpoint_every": 3,
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        for stage in (download, tokenization, pretrain):
            stage.main()
    yield project
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@pytest.fixture
def project(pretrained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    copy = pretrained.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    monkeypatch.setattr(Watched, "die_at", None)
    monkeypatch.setattr(stages.finetune, "FineTuning", Watched)
    return copy


def finetune(project: Project, **changes: Any) -> list[dict[str, float]]:
    """Run the stage with these parameters of ``finetune``; returns its history, of what every later row has."""
    project.set_params({f"finetune.{key.replace('__', '.')}": value for key, value in changes.items()})
    stages.finetune.main()
    with (project.folder / "reports" / "finetune.csv").open() as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)][1:]


@pytest.mark.parametrize("copy_head", [None, {"layer": 1, "head": 2}])
def test_a_transformer_goes_through_the_stages_too(project: Project, copy_head: dict[str, int] | None) -> None:
    project.set_params(
        {
            "model.architecture": "transformer",
            "model.transformer.layers": 1,
            "model.transformer.feed_forward_size": 32,
            "model.transformer.copy_head": copy_head,
            "pretrain.exposure_bias.method": "scheduled_sampling",
            "pretrain.coverage.from_step": None,
            "pretrain.label_smoothing": 0.2,
            "pretrain.weight_average": 0.9,
        }
    )
    pretrain.main()
    (end,) = project.folder.glob("runs/pretrain-*/step-*/model.safetensors")
    trained, kept = load_file(end), load_file(project.folder / "models" / "mle" / "model.safetensors")
    averages = [tensor for name, tensor in trained.items() if name.startswith("average.")]
    assert not torch.equal(kept["embedding.weight"], trained["model.embedding.weight"])
    assert any(torch.equal(kept["embedding.weight"], tensor) for tensor in averages)
    with (project.folder / "reports" / "pretrain.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["loss"]) > 1.01 * float(last["nll"])  # smoothed; the other is not
    history = finetune(project)
    assert all(0 <= row["reward"] <= 1 and row["validation_loss"] < 10 for row in history)
    for name in ("mle", "rl"):
        config = json.loads((project.folder / "models" / name / "config.json").read_text())
        assert config["model"]["architecture"] == "transformer"
    # What it writes can be used: a checkpoint knows how long texts may be.
    assert len(load("models/rl").generate(["please add alpha to beta now"] * 2)) == 2


SMALL_CRITIC = {
    "method": "actor_critic",
    "critic__layers": [16],
    "critic__batch_size": 8,
    "critic__replay__capacity": 500,
    "critic__warmup_updates": 2,
    "critic__updates": 2,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "reinforce", "samples": 1, "baseline": "learned", "returns": "shaped"},
        {"method": "self_critical", "samples": 1, "returns": "discounted", "gamma": 0.9},
        {"method": "mrt", "mrt__reference": True, "exposure_bias__method": "e2e_backprop"},
        {**SMALL_CRITIC, "critic__actor": "all_actions", "critic__target": "double", "exposure_bias__method": "soft"},
    ],
    ids=lambda changes: changes["method"],
)
def test_every_method_runs_through(project: Project, changes: dict[str, Any]) -> None:
    for row in finetune(project, **changes):
        assert all(abs(value) < 1e9 for value in row.values()) and {"reward", "entropy", "nll"} <= row.keys()
    before, after = ((project.folder / "models" / name / "model.safetensors") for name in ("mle", "rl"))
    assert after.stat().st_size == before.stat().st_size


@pytest.mark.parametrize("death", [3, 5])
def test_several_epochs_that_were_killed_end_as_ones_that_were_not(
    project: Project, death: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = project.copy(tmp_path / "straight")
    changes = {"method": "grpo", "grpo__epochs": 2, "returns": "shaped", "kl__weight": 0.1, "kl__target": 0.001}
    monkeypatch.chdir(other.folder)
    finetune(other, **changes)
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(Watched, "die_at", death)
    with pytest.raises(KilledError):
        finetune(project, **changes)
    # Checkpoints are asked for every 3 steps, and lie between batches.
    assert project.last_checkpoint("finetune") == (-1 if death == 3 else 4)
    monkeypatch.setattr(Watched, "die_at", None)
    finetune(project)
    assert project.results() == other.results()


@pytest.mark.parametrize("warmup", [2, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {"critic__replay__sampling": "prioritized", "critic__target_network__update": "hard"},
        {"critic__kind": "state_value"},
    ],
    ids=["q", "state_value"],
)
def test_a_critic_that_was_killed_ends_as_one_that_was_not(
    project: Project, changes: dict[str, Any], warmup: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = project.copy(tmp_path / "straight")
    held = {"kl__weight": 0.1, "kl__target": 0.001, "critic__target_network__every": 3}
    changes = SMALL_CRITIC | held | changes | {"critic__warmup_updates": warmup}
    monkeypatch.chdir(other.folder)
    finetune(other, **changes)
    expected = weights(Watched.last.state)
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(Watched, "die_at", 5)
    with pytest.raises(KilledError):
        finetune(project, **changes)
    assert project.last_checkpoint("finetune") == 3
    monkeypatch.setattr(Watched, "die_at", None)
    finetune(project)
    assert project.results() == other.results()
    found = weights(Watched.last.state)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_the_policy_waits_while_the_critic_warms_up(project: Project) -> None:
    changes = {"critic__warmup_updates": 6, "eta__start": 0.5}
    rows = finetune(project, **SMALL_CRITIC | changes)
    assert all("nll" not in row and "critic_loss" in row for row in rows)
    before, after = ((project.folder / "models" / name / "model.safetensors").read_bytes() for name in ("mle", "rl"))
    assert before == after
    assert not torch.equal(Watched.last.state.get_parameter("values.critic.actions.bias"), torch.zeros(26))


def test_the_epochs_of_a_batch_are_in_a_row_and_grpo_s_alone(project: Project) -> None:
    finetune(project, method="grpo", grpo__epochs=2)
    grpo = Watched.last.rows
    assert grpo[::2] == grpo[1::2] and len(set(grpo)) == 3
    finetune(project, method="rloo")
    assert Watched.last.rows[:3] == grpo[::2] and len(set(Watched.last.rows)) == 6


def test_the_policy_that_is_trained_and_those_that_it_is_compared_with_are_free_of_dropout(project: Project) -> None:
    """Where the weights stay where they are, ratios are 1 and there is no divergence."""
    rows = finetune(project, method="grpo", grpo={"clip": 1e-3, "epochs": 2}, learning_rate=1e-30, kl__weight=0.1)
    assert all(row["clipped"] == 0 and abs(row["kl"]) < 1e-4 for row in rows)


def test_the_policy_is_held_to_the_one_that_was_pretrained(project: Project) -> None:
    changes = {"kl__weight": 0.5, "kl__target": 1e-9, "learning_rate": 0.01, "coverage__from_step": 5}
    rows = finetune(project, method="reinforce", baseline="learned", **changes)
    assert abs(rows[-1]["kl"]) > 1e-3
    state, start = Watched.last.state, Watched.last.at_start
    # What is remembered and what is trained beside the model are both the loop's to change.
    assert state.kl_weight.item() != 0.5
    moved = {
        name
        for (name, now), before in zip(state.named_parameters(), start, strict=True)
        if not torch.equal(now, before)
    }
    assert moved == {"baseline.weight", "baseline.bias", "kl_weight"}
    config = json.loads((project.folder / "models" / "rl" / "config.json").read_text())
    assert config["uses_coverage"] and config["model"]["dropout"] == 0.1
