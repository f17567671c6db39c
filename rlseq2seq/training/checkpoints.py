"""Checkpoints of a run: what it needs to go on where it was, written whole or not at all.

Nothing here keeps a random state: the randomness of a step is a function of the seed and the step.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from rlseq2seq.models.saved import set_weights, weights

_PREFIX = "step-"


@dataclass
class Progress:
    """How far a run is. ``history`` has a row for each validation; ``sums`` are of facts since then, with ``counts``
    of the steps that told each. ``tokens`` counts those trained on."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    stale_validations: int = 0
    stopped_early: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0


class Checkpoints:
    """The checkpoints in ``folder``; the last one whole is the one that counts.

    ``seconds`` is what the updates took, over all the processes that made them. It is kept beside the checkpoints: they
    are the same bits however long it took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0

    def save(
        self, progress: Progress, model: nn.Module, optimizers: Sequence[Optimizer], best: dict[str, Tensor]
    ) -> None:
        """Write a checkpoint beside the last one, then let it take that one's place."""
        target = self.folder / f"{_PREFIX}{progress.step:09d}"
        if target.exists():
            return
        part = self.folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(weights(model), part / "model.safetensors")
        save_file(best, part / "best.safetensors")
        for index, optimizer in enumerate(optimizers):
            save_file(_flatten(optimizer), part / _optimizer_file(index))
        (part / "progress.json").write_text(json.dumps(asdict(progress)))
        for path in (*part.iterdir(), part):
            _sync(path)
        seconds = self.folder / "seconds.part"
        seconds.write_text(repr(self.seconds))
        seconds.replace(self.folder / "seconds")
        part.rename(target)
        _sync(self.folder)
        for older in self._all()[:-1]:
            shutil.rmtree(older)

    def load(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> tuple[Progress, dict[str, Tensor]] | None:
        """Set ``model`` and ``optimizers`` to the last checkpoint; return its progress and best weights, if any."""
        found = self._all()
        if not found:
            return None
        if (self.folder / "seconds").exists():
            self.seconds = float((self.folder / "seconds").read_text())
        device = next(model.parameters()).device
        set_weights(model, load_file(found[-1] / "model.safetensors"))
        for index, optimizer in enumerate(optimizers):
            _restore(optimizer, load_file(found[-1] / _optimizer_file(index)))
        best = {name: tensor.to(device) for name, tensor in load_file(found[-1] / "best.safetensors").items()}
        return Progress(**json.loads((found[-1] / "progress.json").read_text())), best

    def _all(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))


def _optimizer_file(index: int) -> str:
    return f"optimizer-{index}.safetensors"


def _flatten(optimizer: Optimizer) -> dict[str, Tensor]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, values in state.items() for name, tensor in values.items()}


def _restore(optimizer: Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
