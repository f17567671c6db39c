"""Parameters of the comparison: methods as changes to the section `finetune`."""

from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import PARAMS, STRICT, parse, read_params
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.training import Count, Seed
from rlseq2seq.errors import UserError

COMPARISON = Path("experiments/comparison/params.yaml")

# What every other method is compared with: maximum likelihood, trained on for as long.
CONTROL = "mle"

# It names files and folders, where a dash ends it.
MethodName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


@dataclass(frozen=True, config=STRICT)
class ComparisonConfig:
    """``run`` and ``seeds``: which methods, and each from which seeds. ``methods``: changes by dotted key."""

    updates: Count
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    run: Annotated[tuple[MethodName, ...], Field(min_length=2)]
    methods: dict[MethodName, dict[str, Any]]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unknown = [name for name in self.run if name not in self.methods]
        if unknown:
            raise ValueError(f"run has {unknown[0]}, which is not among methods: add it there, or take it out of run")
        if CONTROL not in self.run:
            raise ValueError(f"run lacks {CONTROL}, with which the others are compared: put it in")
        if len(set(self.run)) < len(self.run) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("run or seeds has something twice: keep one of it")
        return self


def load_comparison() -> tuple[ComparisonConfig, dict[str, FinetuneConfig]]:
    """The comparison, and for each of its ``methods`` the section `finetune` with its changes, but for the seed.

    Raises:
        UserError: the first key of any method that `finetune` does not have or whose value it does not take, or as
            `rlseq2seq.config.base.load`.
    """
    comparison = parse(ComparisonConfig, read_params(COMPARISON), "comparison")
    section = read_params(PARAMS)["finetune"]
    shared = {"updates": comparison.updates}
    changed = {name: _changed(section, changes | shared, name) for name, changes in comparison.methods.items()}
    if changed[CONTROL].reinforces:
        raise UserError(
            f"methods.{CONTROL} of {COMPARISON} reinforces: set its eta.start and eta.end to 0.0, as it is what "
            "reinforcement is compared with"
        )
    return comparison, changed


def _changed(section: dict[str, Any], changes: dict[str, Any], method: str) -> FinetuneConfig:
    values = deepcopy(section)
    for key, value in changes.items():
        *path, name = key.split(".")
        mapping: Any = values
        for part in path:
            mapping = mapping.get(part) if isinstance(mapping, dict) else None
        if not isinstance(mapping, dict) or name not in mapping:
            raise UserError(
                f"methods.{method} of {COMPARISON} has {key}, which is not a parameter of finetune: see "
                "params.yaml for the names"
            )
        mapping[name] = value
    try:
        return parse(FinetuneConfig, values, "finetune")
    except UserError as error:
        raise UserError(f"methods.{method} of {COMPARISON}: {error}") from None
