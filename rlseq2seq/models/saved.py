"""A trained model as one folder that can be used anywhere: weights, tokenizer, configuration, and its critic."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlseq2seq.config.base import parse
from rlseq2seq.config.critic import CriticConfig
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.data.vocabulary import CONFIG_FILE as TOKENIZER_CONFIG_FILE
from rlseq2seq.data.vocabulary import MODEL_FILE as TOKENIZER_FILE
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.models.critic import ActionCritic
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.transformer import Transformer

WEIGHTS_FILE = "model.safetensors"
CRITIC_FILE = "critic.safetensors"
CONFIG_FILE = "config.json"

# What a file that was cut, or is another checkpoint's, gives; sentencepiece has no error of its own.
_DAMAGE = (ValueError, LookupError, TypeError, RuntimeError, SafetensorError)


def new_model(config: ModelConfig, vocabulary_size: int, limits: TokenizationConfig) -> PointerModel:
    """An untrained model of the architecture that ``config`` names, for texts within ``limits``."""
    if config.architecture == "lstm":
        return PointerGenerator(config, vocabulary_size)
    return Transformer(config, vocabulary_size, limits.max_source_tokens, limits.max_target_tokens)


def save_model(folder: Path, model: PointerModel, vocabulary: Vocabulary, critic: ActionCritic | None = None) -> None:
    """Write ``model`` and ``vocabulary`` into ``folder``, and the ``critic`` that may guide its decoding."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": asdict(model.config), "uses_coverage": model.uses_coverage}
    _save_weights(model, folder / WEIGHTS_FILE)
    if critic is not None:
        config["critic"] = asdict(critic.config)
        _save_weights(critic, folder / CRITIC_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    vocabulary.save(folder)


def _save_weights(module: nn.Module, path: Path) -> None:
    save_file({name: tensor.cpu() for name, tensor in weights(module).items()}, path)


def load_model(folder: Path, device: torch.device) -> tuple[PointerModel, Vocabulary]:
    """Read what `save_model` wrote.

    Raises:
        UserError: the folder is not there, not whole, or of a version with other parameters.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is not a checkpoint: {name} is not there; "
                "train one with `dvc repro`, or name the folder of one"
            )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        vocabulary = Vocabulary.load(folder)
        model_config = parse(ModelConfig, config["model"], f"{CONFIG_FILE}: model")
        model = new_model(model_config, len(vocabulary), vocabulary.config)
        model.uses_coverage = config["uses_coverage"]
        set_weights(model, load_file(folder / WEIGHTS_FILE))
    except _DAMAGE as error:
        raise UserError(f"{folder} is damaged ({error!r}): copy the checkpoint again") from None
    except UserError as error:
        raise _of_another_version(folder, error) from None
    return model.to(device), vocabulary


def load_critic(folder: Path, model: PointerModel, device: torch.device) -> ActionCritic | None:
    """The critic of ``model``, which `load_model` read from ``folder``; None where none was saved.

    Raises:
        UserError: its weights are not there, or are not those of a critic of such a model.
    """
    config = json.loads((folder / CONFIG_FILE).read_text())
    if "critic" not in config:
        return None
    try:
        critic_config = parse(CriticConfig, config["critic"], f"{CONFIG_FILE}: critic")
    except UserError as error:
        raise _of_another_version(folder, error) from None
    critic = ActionCritic(model.feature_size, model.vocabulary_size, critic_config)
    try:
        set_weights(critic, load_file(folder / CRITIC_FILE))
    except (OSError, *_DAMAGE) as error:
        raise UserError(f"{folder / CRITIC_FILE} is damaged ({error!r}): copy the checkpoint again") from None
    return critic.to(device)


def _of_another_version(folder: Path, error: UserError) -> UserError:
    return UserError(
        f"{folder} has other parameters than this version of rlseq2seq, or was edited ({error}): train it again, or "
        "use the version that made it"
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters by name, tied ones once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy ``values`` into the parameters (in place: memory as aligned as before, so sums come out the same).

    Raises:
        ValueError: they are not those of the model.
    """
    parameters = weights(model)
    odd = parameters.keys() ^ values.keys()
    odd |= {name for name in parameters.keys() & values.keys() if parameters[name].shape != values[name].shape}
    if odd:
        raise ValueError(f"the weights and {CONFIG_FILE} differ in {min(odd)}")
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
