"""What an objective trains or remembers beside the model."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loop import KilledError, Numbers, plan, ready, scores_in_turn
from tiny import random_batch, tiny_model
from torch import Tensor, nn

from rlseq2seq.models.saved import weights
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.training.checkpoints import Checkpoints
from rlseq2seq.training.loop import train


class Remembering:
    """An objective with a weight and a sum of its own, beside a model with dropout."""

    def __init__(self, model: nn.Module, die_at: int | None) -> None:
        self.model, self.die_at = model, die_at
        self.beside = nn.Linear(1, 1)
        self.beside.total = nn.Parameter(torch.zeros(()), requires_grad=False)
        nn.init.zeros_(self.beside.weight)
        nn.init.zeros_(self.beside.bias)

    def __call__(self, step: int) -> Loss:
        if step == self.die_at:
            raise KilledError
        batch = random_batch(step, 11)
        model: Any = self.model
        loss = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 1.0)
        own = (self.beside(torch.ones(1)) - loss.total.detach()).square().sum()
        return Loss(loss.total + own, {}, 1, partial(self.add, loss.total.detach()))

    def add(self, total: Tensor) -> dict[str, Tensor]:
        self.beside.total += total
        return {}


@pytest.mark.parametrize("death", [1, 3, 4, 8])
def test_what_an_objective_remembers_survives_a_kill(death: int, tmp_path: Path) -> None:
    def run(name: str, die_at: int | None) -> tuple[Any, ...]:
        model = tiny_model(11, 0, dtype=torch.float32, dropout=0.3)
        objective = Remembering(model, die_at)
        train(model, objective, lambda: scores, plan(), Checkpoints(tmp_path / name), objective.beside)
        return {name: value.tolist() for name, value in weights(model).items()}, weights(objective.beside)

    scores = {"validation_loss": 1.0, "validation_rouge_l": 1.0}
    expected = run("straight", None)
    with pytest.raises(KilledError):
        run("killed", death)
    assert run("killed", None) == expected
    assert expected[1]["weight"] != 0 and expected[1]["total"] > 10


def test_the_gradients_of_the_model_and_beside_it_are_clipped_apart(tmp_path: Path) -> None:
    model, beside = Numbers(), Numbers()

    def objective(step: int) -> Loss:
        return Loss(model.numbers.sum() + 1e6 * beside.numbers.sum(), {}, 1)

    settings = plan(steps=1, optimizer={"name": "adagrad", "gradient_clip": 0.01})
    train(model, objective, scores_in_turn(1.0), settings, ready(tmp_path), beside)
    # Clipped together, the model's part would be below what Adagrad adds to its denominator.
    assert model.numbers.grad is not None and beside.numbers.grad is not None
    torch.testing.assert_close(model.numbers.grad.norm(), torch.tensor(0.01))
    torch.testing.assert_close(beside.numbers.grad.norm(), torch.tensor(0.01))


def test_what_has_an_optimizer_of_its_own_is_left_to_it(tmp_path: Path) -> None:
    model, beside = Numbers(), Numbers()
    own = torch.optim.SGD(beside.parameters(), lr=0.25)

    def objective(step: int) -> Loss:
        def after() -> dict[str, Tensor]:
            own.step()
            return {}

        return Loss(model.numbers.sum() + 0.5 * beside.numbers.sum(), {}, 1, after)

    train(model, objective, scores_in_turn(1.0), plan(steps=1), ready(tmp_path), beside, [own])
    # By its own optimiser and rate alone.
    assert (beside.numbers - torch.tensor([1.0, -2.0])).tolist() == [-0.125, -0.125]
    assert (model.numbers != torch.tensor([1.0, -2.0])).all()
