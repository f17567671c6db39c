"""The moving average of a run's weights: what it is, what is made of it, and that it survives a kill."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loop import KilledError, Numbers, finished, plan, ready, sequence_run
from torch import nn

from rlseq2seq.objectives.loss import Loss
from rlseq2seq.training.average import MovingAverage
from rlseq2seq.training.checkpoints import Checkpoints
from rlseq2seq.training.loop import train


def numbers(*values: float) -> nn.Module:
    model = Numbers()
    with torch.no_grad():
        model.numbers.copy_(torch.tensor(values))
    return model


def test_it_is_the_weighted_mean_of_the_weights_after_each_update() -> None:
    model = numbers(100.0, 100.0)
    average = MovingAverage(model, 0.5)
    steps = [(1.0, -2.0), (4.0, 0.0), (0.0, 8.0)]
    for step, values in enumerate(steps, 1):
        with torch.no_grad():
            model.numbers.copy_(torch.tensor(values))
        average.update(model, step)
    # Weights 1, 2 and 4, the last one's the largest; where training started, 100, has none.
    assert average.averages[0].tolist() == pytest.approx([(1 + 8 + 0) / 7, (-2 + 0 + 32) / 7])


def test_a_model_gets_its_own_weights_back_bit_for_bit_whatever_happens() -> None:
    model = numbers(0.1, 0.2)
    average = MovingAverage(numbers(3.0, 4.0), 0.5)
    place = model.numbers.data_ptr()
    with pytest.raises(KilledError), average.in_place_of(model):
        assert model.numbers.tolist() == [3.0, 4.0]
        raise KilledError
    assert torch.equal(model.numbers, torch.tensor([0.1, 0.2])) and model.numbers.data_ptr() == place
    assert average.averages[0].tolist() == [3.0, 4.0]


def seen(model: Numbers, scores: Callable[[list[float]], float]) -> tuple[list[list[float]], Any]:
    """What validation has seen, filled in as it goes, and the validation."""
    shown: list[list[float]] = []

    def validate() -> dict[str, float]:
        shown.append(model.numbers.tolist())
        return {"validation_loss": 1.0, "validation_rouge_l": scores(shown[-1])}

    return shown, validate


@pytest.mark.parametrize("decay", [0.0, 0.75])
def test_the_average_is_what_is_validated_and_kept(tmp_path: Path, decay: float) -> None:
    model, trained_at = Numbers(), []

    def objective(step: int) -> Loss:
        trained_at.append(model.numbers.detach().clone())
        return Loss(model.numbers.square().sum(), {}, 1)

    shown, validate = seen(model, lambda values: -abs(values[0]))
    progress = train(model, objective, validate, plan(steps=9, average=decay), ready(tmp_path))
    assert [row["step"] for row in progress.history] == [4, 8, 9]
    # The weights after 4 and 8 updates are those that the fifth and the ninth begin with.
    for step, values in zip((4, 8), shown, strict=False):
        after = torch.stack(trained_at[1 : step + 1])
        shares = torch.tensor([decay ** (step - i) for i in range(1, step + 1)])
        expected = (shares[:, None] * after).sum(0) / shares.sum()
        assert values == pytest.approx(expected.tolist(), rel=1e-5)
        assert (values == after[-1].tolist()) == (decay == 0)
    best = min(shown, key=lambda values: abs(values[0]))
    assert model.numbers.tolist() == best


def test_what_is_trained_does_not_depend_on_it(tmp_path: Path) -> None:
    ends = []
    for decay in (0.0, 0.9):
        model, objective, validate = sequence_run(seed=0)
        folder = tmp_path / str(decay)
        progress = train(model, objective, validate, plan(average=decay), Checkpoints(folder))
        ends.append([row["nll"] for row in progress.history])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("death", [1, 3, 4, 5, 9])
def test_a_run_that_was_killed_ends_as_one_that_was_not(death: int, tmp_path: Path) -> None:
    settings = plan(average=0.8, validate_start=True)
    straight, killed = Checkpoints(tmp_path / "straight"), Checkpoints(tmp_path / "killed")
    model, objective, validate = sequence_run(seed=0)
    progress = train(model, objective, validate, settings, straight)
    expected = finished(model, progress, straight.folder)
    model, objective, validate = sequence_run(seed=0, die_at=death)
    with pytest.raises(KilledError):
        train(model, objective, validate, settings, killed)
    model, objective, validate = sequence_run(seed=0 if death <= 3 else 5)
    progress = train(model, objective, validate, settings, killed)
    assert finished(model, progress, killed.folder) == expected
