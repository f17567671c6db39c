from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import random_batch, tiny_model
from torch import Tensor, nn

from rlseq2seq.config.training import OptimizerConfig, ValidationConfig
from rlseq2seq.errors import UserError
from rlseq2seq.models.saved import weights
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.training import loop
from rlseq2seq.training.checkpoints import Checkpoints, Progress
from rlseq2seq.training.loop import Plan, train
from rlseq2seq.training.schedules import learning_rate


class KilledError(Exception):
    """What stands here for a `kill -9`: nothing catches it."""


def plan(**changes: Any) -> Plan:
    optimizer = {"name": "adam", "warmup_steps": 2, "decay": "linear", "gradient_clip": 1.0}
    validation = {"every": 4, "pairs": 8, "metric": "rouge_l", "patience": 100}
    for name, values in (("optimizer", optimizer), ("validation", validation)):
        values.update(changes.pop(name, {}))
    values = {
        "name": "pretrain",
        "seed": 1,
        "steps": 10,
        "learning_rate": 0.05,
        "optimizer": OptimizerConfig(**optimizer),  # type: ignore[arg-type]
        "validation": ValidationConfig(**validation),  # type: ignore[arg-type]
        "coverage_from": None,
        "validate_start": False,
        "checkpoint_every": 3,
        "log_interval": 1.0,
    }
    return Plan(**{**values, **changes})


class Numbers(nn.Module):
    """Two numbers to train."""

    uses_coverage = False

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor([1.0, -2.0]))


def constant_slope(model: Numbers) -> Callable[[int], Loss]:
    return lambda step: Loss(model.numbers.sum(), {"nll": torch.tensor(float(step))}, 7)


def scores_in_turn(*scores: float) -> Callable[[], dict[str, float]]:
    queue = iter(scores)
    return lambda: {"validation_loss": 1.0, "validation_rouge_l": next(queue)}


def ready(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "run")


# Resuming: bit for bit what a run never killed gives.


def sequence_run(seed: int, die_at: int | None = None, coverage: bool = False) -> tuple[nn.Module, Any, Any]:
    """A pointer-generator with dropout, maximum likelihood on a batch a step, and scores of its weights and of noise:
    validation may use up random numbers as it likes."""
    model = tiny_model(11, seed, coverage=coverage, dtype=torch.float32, dropout=0.3)

    def objective(step: int) -> Loss:
        if step == die_at:
            raise KilledError
        batch = random_batch(step, 11)
        return maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 1.0)

    def validate() -> dict[str, float]:
        noise = torch.rand(()).item()
        score = sum(parameter.sum().item() for parameter in model.parameters())
        return {"validation_loss": 1.0, "validation_rouge_l": score, "noise": 0 * noise}

    return model, objective, validate


def finished(model: nn.Module, progress: Progress, folder: Path) -> tuple[Any, ...]:
    """All that a run leaves: weights, progress, the files of its last checkpoint, and whether coverage is on."""
    files = {path.name: path.read_bytes() for path in sorted(next(folder.glob("step-*")).iterdir())}
    return {name: value.tolist() for name, value in weights(model).items()}, progress, files, model.uses_coverage


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
@pytest.mark.parametrize("coverage_from", [None, 0, 6])
@pytest.mark.parametrize("deaths", [[0], [1], [3], [4], [5], [9], [4, 7], [2, 2, 8, 8]])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    deaths: list[int], coverage_from: int | None, optimizer: str, tmp_path: Path
) -> None:
    settings = plan(coverage_from=coverage_from, optimizer={"name": optimizer}, validate_start=True)
    straight = Checkpoints(tmp_path / "straight")
    model, objective, validate = sequence_run(seed=0)
    progress = train(model, objective, validate, settings, straight)
    expected = finished(model, progress, straight.folder)

    killed = Checkpoints(tmp_path / "killed")
    for death in deaths:
        model, objective, validate = sequence_run(seed=0, die_at=death)
        with pytest.raises(KilledError):
            train(model, objective, validate, settings, killed)
    # Weights from elsewhere: where there is a checkpoint, everything comes from it.
    model, objective, validate = sequence_run(seed=0 if deaths[-1] <= 3 else 5)
    progress = train(model, objective, validate, settings, killed)
    assert finished(model, progress, killed.folder) == expected


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    model, objective, validate = sequence_run(seed=0)
    first = train(model, objective, validate, plan(), ready(tmp_path))
    other, _, _ = sequence_run(seed=3)

    def never(*_: Any) -> Any:
        raise AssertionError

    assert train(other, never, never, plan(), ready(tmp_path)) == first
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    settings = plan(steps=100, validation={"every": 1, "patience": 2})
    model = Numbers()
    train(model, constant_slope(model), scores_in_turn(3, 2, 1), settings, ready(tmp_path))
    progress = train(model, constant_slope(model), scores_in_turn(), settings, ready(tmp_path))
    assert (progress.step, progress.best_step, progress.stopped_early) == (3, 1, True)


def test_the_randomness_of_a_step_is_of_the_seed_and_the_step(tmp_path: Path) -> None:
    def draws(seed: int, folder: str, spill: int) -> list[Tensor]:
        model, seen = Numbers(), []

        def objective(step: int) -> Loss:
            seen.append(torch.rand(3))
            torch.rand(spill)
            return Loss(model.numbers.sum(), {}, 1)

        train(model, objective, scores_in_turn(1, 2, 3), plan(seed=seed), Checkpoints(tmp_path / folder))
        return seen

    one, same, other = draws(1, "one", 0), draws(1, "same", 17), draws(2, "other", 0)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert len({tuple(values.tolist()) for values in one + other}) == 20


# What an update is.


def test_adam_follows_the_schedule(tmp_path: Path) -> None:
    model = Numbers()
    train(model, constant_slope(model), scores_in_turn(1, 2, 3), plan(), ready(tmp_path))
    # Adam's step on a gradient that never changes is the learning rate.
    way = sum(learning_rate(step, 10, 0.05, plan().optimizer) for step in range(10))
    assert model.numbers.tolist() == pytest.approx([1 - way, -2 - way], abs=1e-5)


def test_gradients_are_clipped_by_their_norm(tmp_path: Path) -> None:
    model = Numbers()
    slopes = [torch.tensor([30.0, 40.0]), torch.tensor([0.6, 0.8])]
    settings = plan(steps=2, learning_rate=1.0, optimizer={"name": "adagrad", "warmup_steps": 0, "decay": "constant"})
    train(
        model,
        lambda step: Loss((model.numbers * slopes[step]).sum(), {}, 1),
        scores_in_turn(1),
        settings,
        ready(tmp_path),
    )
    # Both gradients come to (0.6, 0.8), so Adagrad steps by 1 and then by 1 / sqrt(2).
    assert model.numbers.tolist() == pytest.approx([-(0.5**0.5), -3 - 0.5**0.5], abs=1e-5)


def test_training_is_in_training_mode_and_validation_is_not(tmp_path: Path) -> None:
    model, modes = Numbers(), []

    def objective(step: int) -> Loss:
        modes.append(("train", model.training))
        return Loss(model.numbers.sum(), {}, 1)

    def validate() -> dict[str, float]:
        modes.append(("validate", model.training))
        return {"validation_loss": 1.0, "validation_rouge_l": 1.0}

    train(model, objective, validate, plan(steps=2, validation={"every": 1}), ready(tmp_path))
    assert modes == [("train", True), ("validate", False)] * 2


def test_it_trains_without_a_bar_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(loop.tqdm):  # as with TQDM_DISABLE=1
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, disable=True)

    monkeypatch.setattr(loop, "tqdm", Silent)
    model = Numbers()
    assert train(model, constant_slope(model), scores_in_turn(1, 2, 3), plan(), ready(tmp_path)).step == 10


# When it looks, what it keeps, when it stops.


def test_validation_every_so_many_steps_and_at_the_last(tmp_path: Path) -> None:
    model = Numbers()
    progress = train(model, constant_slope(model), scores_in_turn(1, 2, 3), plan(), ready(tmp_path))
    assert [row["step"] for row in progress.history] == [4, 8, 10]
    # Facts are means since the validation before: nll was 0, 1, 2, 3; 4, 5, 6, 7; 8, 9.
    assert [row["nll"] for row in progress.history] == [1.5, 5.5, 8.5]
    assert progress.history[0]["loss"] == pytest.approx(sum([-1.0, *progress_losses(3)]) / 4, abs=1e-4)


def test_a_fact_is_a_mean_over_the_steps_that_told_it(tmp_path: Path) -> None:
    # Coverage comes on, and the share of likelihood ends, at any step.
    model = Numbers()

    def objective(step: int) -> Loss:
        return Loss(model.numbers.sum(), {"coverage_loss": torch.tensor(0.5)} if step >= 3 else {}, 1)

    progress = train(model, objective, scores_in_turn(1, 2, 3), plan(), ready(tmp_path))
    assert [row["coverage_loss"] for row in progress.history] == [0.5, 0.5, 0.5]


def progress_losses(count: int) -> list[float]:
    """Losses of `constant_slope` after each of the first ``count`` updates of Adam."""
    rates = [learning_rate(step, 10, 0.05, plan().optimizer) for step in range(count)]
    return [-1 - 2 * sum(rates[: i + 1]) for i in range(count)]


def test_the_start_is_validated_if_asked(tmp_path: Path) -> None:
    model = Numbers()
    progress = train(
        model, constant_slope(model), scores_in_turn(9, 1, 2, 3), plan(validate_start=True), ready(tmp_path)
    )
    assert progress.history[0] == {"step": 0, "validation_loss": 1.0, "validation_rouge_l": 9}
    assert (progress.best_step, progress.best_score) == (0, 9)
    assert model.numbers.tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("scores", "best_step"), [((1, 2, 3, 4, 5), 10), ((5, 4, 3, 2, 1), 2), ((1, 3, 2, 3, 0), 4), ((0, 0, 0, 0, 0), 2)]
)
def test_the_best_weights_are_left_the_first_of_equals(scores: tuple[int, ...], best_step: int, tmp_path: Path) -> None:
    model, seen = Numbers(), {}
    give = scores_in_turn(*scores)

    def validate() -> dict[str, float]:
        seen[2 * len(seen) + 2] = model.numbers.tolist()
        return give()

    progress = train(model, constant_slope(model), validate, plan(validation={"every": 2}), ready(tmp_path))
    assert progress.best_step == best_step
    assert model.numbers.tolist() == seen[best_step]


def test_by_loss_the_lowest_is_best(tmp_path: Path) -> None:
    model = Numbers()
    losses = iter([3.0, 1.0, 2.0])

    def validate() -> dict[str, float]:
        return {"validation_loss": next(losses), "validation_rouge_l": 5.0}

    progress = train(model, constant_slope(model), validate, plan(validation={"metric": "loss"}), ready(tmp_path))
    assert (progress.best_step, progress.best_score) == (8, -1.0)


def test_by_bleu_the_highest_is_best(tmp_path: Path) -> None:
    model = Numbers()
    scores = iter([(9.0, 3.0), (8.0, 7.0), (10.0, 5.0)])

    def validate() -> dict[str, float]:
        return dict(zip(("validation_rouge_l", "validation_bleu"), next(scores), strict=True)) | {
            "validation_loss": 1.0
        }

    progress = train(model, constant_slope(model), validate, plan(validation={"metric": "bleu"}), ready(tmp_path))
    assert (progress.best_step, progress.best_score) == (8, 7.0)


@pytest.mark.parametrize(("patience", "last"), [(1, 3), (2, 4), (3, 8)])
def test_it_stops_after_so_many_validations_without_a_better_one(patience: int, last: int, tmp_path: Path) -> None:
    model = Numbers()
    settings = plan(steps=50, validation={"every": 1, "patience": patience})
    scores = scores_in_turn(1, 2, 2, 1, 3, 3, 0, 2, 9)
    progress = train(model, constant_slope(model), scores, settings, ready(tmp_path))
    assert (progress.step, progress.stopped_early) == (last, True)


# Coverage.


@pytest.mark.parametrize(
    ("coverage_from", "before", "seen"),
    [
        (None, False, [False] * 4),
        (None, True, [True] * 4),
        (0, False, [True] * 4),
        (2, False, [False, False, True, True]),
        (2, True, [True] * 4),
        (9, False, [False] * 4),
    ],
)
def test_coverage_comes_on_at_its_step(
    coverage_from: int | None, before: bool, seen: list[bool], tmp_path: Path
) -> None:
    model, states = Numbers(), []
    model.uses_coverage = before

    def objective(step: int) -> Loss:
        states.append(model.uses_coverage)
        return Loss(model.numbers.sum(), {}, 1)

    train(model, objective, scores_in_turn(1), plan(steps=4, coverage_from=coverage_from), ready(tmp_path))
    assert states == seen


# What is not finite.


def check_stopped(objective: Callable[[int], Loss], model: nn.Module, told: str, folder: Path, **changes: Any) -> None:
    with pytest.raises(UserError, match=told) as caught:
        train(model, objective, scores_in_turn(*range(9)), plan(**changes), ready(folder))
    assert "\n" not in str(caught.value)
    assert "pretrain.learning_rate" in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(bad: float, tmp_path: Path) -> None:
    model, before = Numbers(), []

    def objective(step: int) -> Loss:
        if step == 3:
            before.append(model.numbers.tolist())
        return Loss(model.numbers.sum() + (bad if step == 5 else 0), {}, 1)

    check_stopped(objective, model, rf"^pretrain: at step 5 the loss is {bad}", tmp_path)
    other = Numbers()
    trained = nn.ModuleDict({"model": other})
    loaded = ready(tmp_path).load(trained, [torch.optim.Adam(trained.parameters(), fused=True)])
    assert loaded is not None and loaded[0].step == 3
    assert other.numbers.tolist() == before[0]


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = Numbers()

    def objective(step: int) -> Loss:
        return Loss((model.numbers - model.numbers.detach()).abs().sqrt().sum(), {}, 1)

    check_stopped(
        objective, model, r"^pretrain: at step 0 the loss is 0\.0 and the norm of its gradient is nan", tmp_path
    )


def test_weights_that_give_no_finite_loss_never_become_a_checkpoint(tmp_path: Path) -> None:
    model = Numbers()

    def objective(step: int) -> Loss:
        return Loss(model.numbers.square().sum(), {}, 1)

    check_stopped(objective, model, "at step 1 the loss is inf", tmp_path, learning_rate=1e30, checkpoint_every=1)
    assert not ready(tmp_path).folder.exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_stops_the_run(bad: float, tmp_path: Path) -> None:
    model = Numbers()
    with pytest.raises(UserError, match=rf"^pretrain: at step 4 the validation loss is {bad}"):
        train(
            model,
            constant_slope(model),
            lambda: {"validation_loss": bad, "validation_rouge_l": 0.0},
            plan(),
            ready(tmp_path),
        )
