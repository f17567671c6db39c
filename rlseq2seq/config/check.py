"""All of params.yaml at once: a bad key of a late stage is told before the first one works."""

from pathlib import Path

from rlseq2seq.config.base import PARAMS, load, read_params
from rlseq2seq.config.data import DataConfig
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.errors import UserError

SECTIONS = {
    "data": DataConfig,
    "tokenization": TokenizationConfig,
    "model": ModelConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "runtime": RuntimeConfig,
}


def check_params(path: Path = PARAMS) -> None:
    """Raises:
    UserError: the first key that is unknown, missing, ill-typed or out of range, in any section, or that another
        section rules out.
    """
    for name in read_params(path):
        if name not in SECTIONS:
            raise UserError(f"{name} is not a section of {path}: the sections are {', '.join(SECTIONS)}")
    for name, kind in SECTIONS.items():
        load(kind, name, path)
    _check_coverage(path)
    _check_case(path)


def _check_coverage(path: Path) -> None:
    model = load(ModelConfig, "model", path)
    if model.architecture == "transformer":
        where, reason = "model.architecture is transformer", "coverage is a part of the LSTM's attention"
    elif model.attention.score == "bilinear":
        where = "model.attention.score is bilinear"
        reason = "coverage is a term inside additive scores (arXiv:1704.04368 Eq. 11)"
    else:
        return
    pretrain, finetune = load(PretrainConfig, "pretrain", path), load(FinetuneConfig, "finetune", path)
    for name, coverage in (("pretrain", pretrain.coverage), ("finetune", finetune.coverage)):
        if coverage.from_step is not None:
            raise UserError(
                f"{name}.coverage.from_step is {coverage.from_step}: must be null where {where}, as {reason}"
            )


def _check_case(path: Path) -> None:
    tokenization, finetune = load(TokenizationConfig, "tokenization", path), load(FinetuneConfig, "finetune", path)
    if tokenization.lowercase and finetune.reward.words == "cased":
        raise UserError(
            "finetune.reward.words is cased: must be another where tokenization.lowercase is true, as the model then "
            "writes no capitals, and a target's words that have some could never be matched"
        )
