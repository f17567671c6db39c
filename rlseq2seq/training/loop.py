"""The one training loop: any objective, resumable, stopped by validation."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from rlseq2seq.config.training import OptimizerConfig, ValidationConfig
from rlseq2seq.errors import UserError
from rlseq2seq.models.saved import set_weights, weights
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.training.average import MovingAverage
from rlseq2seq.training.checkpoints import Checkpoints, Progress
from rlseq2seq.training.schedules import learning_rate

# Far more steps than any run has: steps of different seeds never share a random state.
_STEPS_PER_SEED = 1_000_003


@dataclass(frozen=True)
class Plan:
    """``coverage_from`` is the first step with coverage, None for what the model has; ``validate_start`` lets the
    model that training starts from be the best one; ``average`` is the decay of the weights' moving average, 0 for
    none."""

    name: str
    seed: int
    steps: int
    learning_rate: float
    optimizer: OptimizerConfig
    validation: ValidationConfig
    coverage_from: int | None
    validate_start: bool
    checkpoint_every: int
    log_interval: float
    average: float = 0.0


# The loss of a step, and the scores of the model as it is: validation_loss and that of the plan's metric among them.
Objective = Callable[[int], Loss]
Validate = Callable[[], dict[str, float]]


def train(
    model: nn.Module,
    objective: Objective,
    validate: Validate,
    plan: Plan,
    checkpoints: Checkpoints,
    beside: nn.Module | None = None,
    optimizers: Sequence[Optimizer] = (),
) -> Progress:
    """Train ``model`` from its last checkpoint, if there is one, and leave it with its best weights.

    ``beside`` holds what the objective trains, or remembers, besides the model: its gradient is clipped apart. What the
    objective trains by itself has ``optimizers`` of its own, which are stored with the rest. Where weights are
    averaged, the average is what is validated, and what may be the best.

    Raises:
        UserError: the loss or the gradient is not finite; the last checkpoint is of weights whose loss was.
    """
    average = MovingAverage(model, plan.average) if plan.average else None
    parts = {"model": model, "beside": beside, "average": average}
    trained = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
    optimizer = _optimizer(trained, plan, optimizers)
    every_optimizer = [optimizer, *optimizers]
    progress, best = checkpoints.load(trained, every_optimizer) or (Progress(), {})
    if progress.step:
        tqdm.write(f"{plan.name}: goes on from step {progress.step} of {plan.steps}")
    with tqdm(
        total=plan.steps, initial=progress.step, desc=plan.name, unit="step", mininterval=plan.log_interval
    ) as bar:
        while True:
            _set_coverage(model, plan, progress.step)
            if _validation_is_due(progress, plan):
                with average.in_place_of(model) if average is not None else nullcontext():
                    best = _validate(model, validate, plan, progress, best)
                bar.write(_line(progress.history[-1]))
            if progress.step == plan.steps or progress.stopped_early:
                break
            started = time.perf_counter()
            loss = _set_gradients(trained, objective, plan, progress.step)
            if progress.step and progress.step % plan.checkpoint_every == 0:
                checkpoints.save(progress, trained, every_optimizer, best)
            _update(optimizer, loss, plan, progress)
            if average is not None:
                average.update(model, progress.step)
            checkpoints.seconds += time.perf_counter() - started
            speed = progress.tokens / checkpoints.seconds
            bar.set_postfix({"loss": f"{loss.total.item():.3f}", "tokens/s": f"{speed:,.0f}"}, refresh=False)
            bar.update()
    checkpoints.save(progress, trained, every_optimizer, best)
    set_weights(model, best)
    return progress


def _optimizer(trained: nn.Module, plan: Plan, others: Sequence[Optimizer]) -> Optimizer:
    """Of what the others do not train."""
    theirs = {id(parameter) for other in others for group in other.param_groups for parameter in group["params"]}
    parameters = [p for p in trained.parameters() if p.requires_grad and id(p) not in theirs]
    if plan.optimizer.name == "adam":
        return torch.optim.Adam(parameters, lr=plan.learning_rate, fused=True)
    return torch.optim.Adagrad(parameters, lr=plan.learning_rate)  # fused only in later releases of PyTorch


def _set_gradients(trained: nn.ModuleDict, objective: Objective, plan: Plan, step: int) -> Loss:
    """The loss of a step, which is a function of the weights, the seed and the step alone, and its gradient."""
    torch.manual_seed(plan.seed * _STEPS_PER_SEED + step)
    trained.train()
    loss = objective(step)
    trained.zero_grad()
    if loss.total.requires_grad:
        torch.autograd.backward(loss.total)
    parts = filter(None, (list(part.parameters()) for part in trained.values()))
    norms = [nn.utils.clip_grad_norm_(part, plan.optimizer.gradient_clip) for part in parts]
    _check_finite(plan, step, {"loss": loss.total.item(), "norm of its gradient": sum(norm.item() for norm in norms)})
    return loss


def _update(optimizer: Optimizer, loss: Loss, plan: Plan, progress: Progress) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(progress.step, plan.steps, plan.learning_rate, plan.optimizer)
    optimizer.step()
    facts = {"loss": loss.total.detach(), **loss.facts, **loss.after()}
    progress.step += 1
    progress.tokens += loss.tokens
    for name, fact in facts.items():
        progress.sums[name] = progress.sums.get(name, 0.0) + fact.item()
        progress.counts[name] = progress.counts.get(name, 0) + 1


def _check_finite(plan: Plan, step: int, numbers: dict[str, float]) -> None:
    if not all(math.isfinite(number) for number in numbers.values()):
        what = " and ".join(f"the {name} is {number}" for name, number in numbers.items())
        raise UserError(
            f"{plan.name}: at step {step} {what}: lower {plan.name}.learning_rate or "
            f"{plan.name}.optimizer.gradient_clip (the last checkpoint is whole)"
        )


def _set_coverage(model: Any, plan: Plan, step: int) -> None:
    if plan.coverage_from is not None:
        model.uses_coverage = model.uses_coverage or step >= plan.coverage_from


def _validation_is_due(progress: Progress, plan: Plan) -> bool:
    if progress.history and progress.history[-1]["step"] == progress.step:
        return False
    if progress.step == 0:
        return plan.validate_start
    return progress.step % plan.validation.every == 0 or progress.step == plan.steps


def _validate(
    model: nn.Module, validate: Validate, plan: Plan, progress: Progress, best: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Add a row to the history; returns the best weights so far."""
    model.eval()
    scores = validate()
    _check_finite(plan, progress.step, {"validation loss": scores["validation_loss"]})
    means = {name: total / progress.counts[name] for name, total in progress.sums.items()}
    progress.history.append({"step": progress.step, **means, **scores})
    progress.sums, progress.counts = {}, {}
    metric = plan.validation.metric
    score = -scores["validation_loss"] if metric == "loss" else scores[f"validation_{metric}"]
    if progress.best_score is None or score > progress.best_score:
        progress.best_score, progress.best_step, progress.stale_validations = score, progress.step, 0
        return {name: tensor.clone() for name, tensor in weights(model).items()}
    progress.stale_validations += 1
    progress.stopped_early = progress.stale_validations >= plan.validation.patience
    return best


def _line(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:g}" if name == "step" else f"{name} {value:.4f}" for name, value in row.items())
