"""A trained model as one folder that can be used anywhere: weights, tokenizer, configuration."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

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
    save_file({name: parameter.detach().cpu() for name, parameter in model.named_parameters()}, folder / WEIGHTS_FILE)
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
        _set_weights(model, load_file(folder / WEIGHTS_FILE))
    # What a file that was cut, or is another checkpoint's, gives; sentencepiece has no error of its own.
    except (ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged ({error!r}): copy the checkpoint again") from None
    return model.to(device), vocabulary


def _set_weights(model: PointerGenerator, weights: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    odd = parameters.keys() ^ weights.keys()
    odd |= {name for name in parameters.keys() & weights.keys() if parameters[name].shape != weights[name].shape}
    if odd:
        raise ValueError(f"{WEIGHTS_FILE} and {CONFIG_FILE} differ in {min(odd)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
