"""Parameters of actor-critic training: the critic, what it learns from, and how the actor learns from it."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.dataclasses import dataclass

from rlseq2seq.config.base import STRICT
from rlseq2seq.config.training import Count, Fraction, NonNegative, Positive, ProbabilityConfig

DeviceName = Annotated[str, StringConstraints(pattern=r"^(cpu|cuda(:[0-9]+)?)$")]


@dataclass(frozen=True, config=STRICT)
class TargetNetworkConfig:
    """``polyak`` moves it by ``tau`` of the way to the critic after each update, ``hard`` all of it after ``every``."""

    update: Literal["polyak", "hard"]
    tau: Annotated[float, Field(gt=0, le=1)]
    every: Count


@dataclass(frozen=True, config=STRICT)
class ReplayConfig:
    """``capacity`` in transitions. ``priority_exponent`` and ``importance`` are for ``prioritized`` sampling."""

    capacity: Count
    sampling: Literal["uniform", "prioritized"]
    priority_exponent: Fraction
    importance: ProbabilityConfig
    half_precision: bool


@dataclass(frozen=True, config=STRICT)
class CriticConfig:
    kind: Literal["q", "state_value"]
    actor: Literal["advantage", "all_actions"]
    layers: tuple[Count, ...]
    dueling: bool
    learning_rate: Positive
    device: DeviceName | None
    warmup_updates: Annotated[int, Field(ge=0)]
    updates: Count
    batch_size: Count
    target: Literal["expected", "double"]
    true_q: ProbabilityConfig
    target_network: TargetNetworkConfig
    variance_penalty: NonNegative
    gae_lambda: Fraction
    replay: ReplayConfig

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind == "state_value" and self.actor == "all_actions":
            raise ValueError("actor all_actions needs a value for each action: set kind to q, or actor to advantage")
        if self.replay.capacity < self.batch_size:
            raise ValueError(
                f"replay.capacity is {self.replay.capacity}, but batch_size takes {self.batch_size} transitions from "
                "it: set it to as many or more"
            )
        return self
