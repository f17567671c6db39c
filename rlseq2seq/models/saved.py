"""A trained model as one folder that can be used anywhere: weights, tokenizer, configuration."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlseq2seq.config.base import parse
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.data.vocabulary import CONFIG_FILE as TOKENIZER_CONFIG_FILE
from rlseq2seq.data.vocabulary import MODEL_FILE as TOKENIZER_FILE
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.models.pointer_generator import PointerGenerator

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def save_model(folder: Path, model: PointerGenerator, vocabulary: Vocabulary) -> None:
    """Write ``model`` and ``vocabulary`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.cpu() for name, tensor in weights(model).items()}, folder / WEIGHTS_FILE)
    config = {"model": asdict(model.config), "uses_coverage": model.uses_coverage}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    vocabulary.save(folder)


def load_model(folder: Path, device: torch.device) -> tuple[PointerGenerator, Vocabulary]:
    """Read what `save_model` wrote.

    Raises:
        UserError: the folder is not there, or not whole.
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
        model = PointerGenerator(parse(ModelConfig, config["model"], str(folder / CONFIG_FILE)), len(vocabulary))
        model.uses_coverage = config["uses_coverage"]
        set_weights(model, load_file(folder / WEIGHTS_FILE))
    # What a file that was cut, or is another checkpoint's, gives; sentencepiece has no error of its own.
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({error!r}): copy the checkpoint again") from None
    return model.to(device), vocabulary


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
        raise ValueError(f"{WEIGHTS_FILE} and {CONFIG_FILE} differ in {min(odd)}")
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
