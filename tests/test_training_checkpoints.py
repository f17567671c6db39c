from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_model
from torch import Tensor, nn

from rlseq2seq.models.saved import set_weights, weights
from rlseq2seq.training import checkpoints as module
from rlseq2seq.training.checkpoints import Checkpoints, Progress

OPTIMIZERS = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


class KilledError(Exception):
    """What stands here for a `kill -9`: nothing catches it."""


def make(kind: str = "adam", seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = tiny_model(11, seed, dtype=torch.float32)
    return model, OPTIMIZERS[kind](model.parameters(), lr=0.1, fused=True)


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, count: int) -> None:
    for step in range(first, first + count):
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    values = optimizer.state_dict()["state"]
    return {f"{i}.{name}": tensor for i, named in values.items() for name, tensor in named.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_model_optimizer_progress_and_best_come_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model, optimizer = make(kind)
    take_steps(model, optimizer, 0, 3)
    best = {name: tensor + 1 for name, tensor in weights(model).items()}
    history: list[dict[str, float]] = [{"step": 2, "validation_loss": 1 / 3}]
    progress = Progress(3, 2, -1 / 3, 1, False, history, {"loss": 0.1 + 0.2})
    Checkpoints(tmp_path / "run").save(progress, model, [optimizer], best)

    other_model, other_optimizer = make(kind, seed=1)
    loaded = Checkpoints(tmp_path / "run").load(other_model, [other_optimizer])
    assert loaded is not None
    assert loaded[0] == progress
    assert same(loaded[1], best)
    assert same(weights(other_model), weights(model))
    assert same(state(other_optimizer), state(optimizer))
    for pair in ((model, optimizer), (other_model, other_optimizer)):
        take_steps(*pair, first=3, count=2)
    assert same(weights(other_model), weights(model))
    assert same(state(other_optimizer), state(optimizer))


def test_there_may_be_no_best_yet_and_no_state(tmp_path: Path) -> None:
    model, optimizer = make()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(model, [optimizer]) is None
    checkpoints.save(Progress(0), model, [optimizer], {})
    assert checkpoints.load(model, [optimizer]) == (Progress(0), {})


def test_a_tied_parameter_is_one(tmp_path: Path) -> None:
    model, optimizer = make()
    Checkpoints(tmp_path).save(Progress(1), model, [optimizer], {})
    names = load_file(tmp_path / "step-000000001" / "model.safetensors").keys()
    assert names == dict(model.named_parameters()).keys() and "output.weight" not in names


def test_only_the_last_one_is_kept(tmp_path: Path) -> None:
    model, optimizer = make()
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 50, 1000, 999_999_999):
        checkpoints.save(Progress(step), model, [optimizer], {})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["seconds", f"step-{step:09d}"]


def test_the_same_step_is_not_written_twice(tmp_path: Path) -> None:
    model, optimizer = make()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress(5), model, [optimizer], {})
    before = (tmp_path / "step-000000005").stat().st_mtime_ns
    checkpoints.save(Progress(5), model, [optimizer], {})
    assert (tmp_path / "step-000000005").stat().st_mtime_ns == before


def test_seconds_go_on_from_the_last_checkpoint_and_are_not_in_it(tmp_path: Path) -> None:
    model, optimizer = make()
    first = Checkpoints(tmp_path)
    first.seconds = 1.5
    first.save(Progress(5), model, [optimizer], {})
    first.seconds = 2.5  # of steps whose checkpoint is never written
    second = Checkpoints(tmp_path)
    assert second.load(model, [optimizer]) is not None and second.seconds == 1.5
    assert "seconds" not in {path.name for path in (tmp_path / "step-000000005").iterdir()}


def killing(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the ``call``-th call of the function ``name`` of the module, from 1, be the last thing that is done."""
    owner: Any = Path if name == "rename" else (module.shutil if name == "rmtree" else module)
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1, 1000))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise KilledError
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, deadly)


MOMENTS = [
    *(("save_file", call) for call in (1, 2, 3)),
    *(("_sync", call) for call in (1, 2, 3, 4, 5)),
    ("rename", 1),
]


@pytest.mark.parametrize(("name", "call"), MOMENTS)
def test_a_kill_before_the_end_of_a_save_leaves_the_last_one(
    name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = make()
    take_steps(model, optimizer, 0, 1)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress(1), model, [optimizer], {})
    saved = {name: tensor.clone() for name, tensor in weights(model).items()}
    take_steps(model, optimizer, 1, 1)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        killing(patch, name, call)
        checkpoints.save(Progress(2), model, [optimizer], {})

    other_model, other_optimizer = make(seed=1)
    assert checkpoints.load(other_model, [other_optimizer]) == (Progress(1), {})
    assert same(weights(other_model), saved)
    # And what the kill left is in nobody's way.
    checkpoints.save(Progress(2), model, [optimizer], {})
    assert checkpoints.load(other_model, [other_optimizer]) == (Progress(2), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seconds", "step-000000002"]


@pytest.mark.parametrize(("name", "call"), [("_sync", 6), ("rmtree", 2)])
def test_a_kill_while_the_older_one_is_removed_leaves_the_new_one(
    name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = make()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress(1), model, [optimizer], {})
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        killing(patch, name, call)
        checkpoints.save(Progress(2), model, [optimizer], {})
    (tmp_path / "step-000000001" / "model.safetensors").unlink()  # half of it was removed
    assert checkpoints.load(model, [optimizer]) == (Progress(2), {})
    checkpoints.save(Progress(3), model, [optimizer], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seconds", "step-000000003"]


def test_weights_are_set_in_place_and_whole() -> None:
    model, _ = make()
    other, _ = make(seed=1)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    set_weights(model, weights(other))
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert same(weights(model), weights(other))
    with pytest.raises(ValueError, match="differ in attention_coverage"):
        set_weights(model, {})
