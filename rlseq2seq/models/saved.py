"""A trained model as one folder that can be used anywhere: weights, tokenizer, configuration."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rlseq2seq.config.base import parse
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.models.pointer_generator import PointerGenerator

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def save_model(folder: Path, model: PointerGenerator, vocabulary: Vocabulary) -> None:
    """Write ``model`` and ``vocabulary`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: parameter.detach().cpu() for name, parameter in model.named_parameters()}, folder / WEIGHTS_FILE)
    config = {"model": asdict(model.config), "uses_coverage": model.uses_coverage}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    vocabulary.save(folder)


def load_model(folder: Path, device: torch.device) -> tuple[PointerGenerator, Vocabulary]:
    """Read what `save_model` wrote.

    Raises:
        UserError: the folder is not there, or not whole.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        model_config = parse(ModelConfig, config["model"], str(folder / CONFIG_FILE))
        vocabulary = Vocabulary.load(folder)
        weights = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a checkpoint: {Path(error.filename).name} is not there; "
            "train one with `dvc repro`, or name the folder of one"
        ) from None
    except (json.JSONDecodeError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({error!r}): copy the checkpoint again") from None
    model = PointerGenerator(model_config, len(vocabulary))
    model.uses_coverage = config["uses_coverage"]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return model.to(device), vocabulary
