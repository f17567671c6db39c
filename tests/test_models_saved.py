import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from critic_cases import random_critic
from safetensors.torch import load_file, save_file
from tiny import MODELS, tiny_model

from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.saved import CONFIG_FILE, CRITIC_FILE, WEIGHTS_FILE, load_critic, load_model, save_model

CPU = torch.device("cpu")


def make_model(vocabulary: Vocabulary, *, coverage: bool = False) -> PointerGenerator:
    return tiny_model(len(vocabulary), dtype=torch.float32, coverage=coverage)


@pytest.mark.parametrize("variant", MODELS, ids=str)
def test_a_model_comes_back_bit_for_bit(
    tmp_path: Path, device: torch.device, vocabulary: Vocabulary, variant: Any
) -> None:
    model = variant.model(len(vocabulary), dtype=torch.float32)
    save_model(tmp_path / "new" / "folder", model.to(device), vocabulary)
    loaded, loaded_vocabulary = load_model(tmp_path / "new" / "folder", device)
    assert loaded.config == model.config and loaded.uses_coverage is variant.coverage
    mine, theirs = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) and theirs[name].device.type == device.type for name in mine)
    assert (loaded.output.weight is loaded.embedding.weight) == (variant.output_weights != "separate")
    text = "return the mean of values"
    assert loaded_vocabulary.config == vocabulary.config
    assert loaded_vocabulary.encode_source(text) == vocabulary.encode_source(text)


def test_a_model_may_be_saved_over_another(tmp_path: Path, vocabulary: Vocabulary) -> None:
    for coverage in (False, True):
        save_model(tmp_path, make_model(vocabulary, coverage=coverage), vocabulary)
    assert load_model(tmp_path, CPU)[0].uses_coverage


@pytest.fixture
def checkpoint(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    save_model(tmp_path, make_model(vocabulary), vocabulary)
    return tmp_path


def assert_user_error(folder: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_model(folder, CPU)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in (str(folder), *parts)), message


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", "tokenizer.json"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    assert_user_error(checkpoint, "is not a checkpoint", name, "dvc repro")


def test_what_is_no_checkpoint_is_told(checkpoint: Path) -> None:
    assert_user_error(checkpoint / "nowhere", "is not a checkpoint")
    assert_user_error(checkpoint / "config.json", "is not a checkpoint")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", "tokenizer.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_told(checkpoint: Path, name: str, share: float) -> None:
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(data[: int(share * len(data))])
    if name == "config.json" and share == 0.99:
        (checkpoint / name).write_bytes(data.rstrip()[:-1])
    assert_user_error(checkpoint, "damaged")


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    del weights["bridge.weight"]
    save_file(weights, folder / WEIGHTS_FILE)


def with_a_weight_of_another_shape(folder: Path) -> None:
    # One that PyTorch would stretch to fit without a word.
    weights = load_file(folder / WEIGHTS_FILE)
    save_file({**weights, "bridge.weight": weights["bridge.weight"][:1].clone()}, folder / WEIGHTS_FILE)


def with_a_weight_more(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS_FILE), "other": torch.zeros(1)}, folder / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (without_a_weight, "bridge.weight"),
        (with_a_weight_of_another_shape, "bridge.weight"),
        (with_a_weight_more, "other"),
        (lambda folder: (folder / CONFIG_FILE).write_text('{"uses_coverage": false}'), "model"),
        (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "damaged"),
        (lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe"), "damaged"),
        (lambda folder: (folder / "tokenizer.model").write_bytes(b"no model of sentencepiece"), "damaged"),
    ],
)
def test_damage_is_told_in_a_sentence(checkpoint: Path, damage: Callable[[Path], None], part: str) -> None:
    damage(checkpoint)
    assert_user_error(checkpoint, part)


def test_a_wrong_value_in_the_configuration_is_told(checkpoint: Path) -> None:
    config = json.loads((checkpoint / CONFIG_FILE).read_text())
    config["model"]["decoder_size"] = "big"
    (checkpoint / CONFIG_FILE).write_text(json.dumps(config))
    assert_user_error(checkpoint, "decoder_size")


@pytest.mark.parametrize(("name", "section"), [("config.json", "model"), ("tokenizer.json", None)])
def test_a_checkpoint_of_a_version_with_fewer_parameters_is_told(
    checkpoint: Path, name: str, section: str | None
) -> None:
    config = json.loads((checkpoint / name).read_text())
    (config if section is None else config[section]).popitem()
    (checkpoint / name).write_text(json.dumps(config))
    assert_user_error(checkpoint, "other parameters than this version", "is missing", "train it again")


# Its critic.


@pytest.mark.parametrize("dueling", [True, False])
@pytest.mark.parametrize("layers", [[], [7], [6, 5]])
def test_a_critic_comes_back_bit_for_bit(
    tmp_path: Path, device: torch.device, vocabulary: Vocabulary, layers: list[int], dueling: bool
) -> None:
    model = make_model(vocabulary)
    critic = random_critic(model.feature_size, len(vocabulary), layers=layers, dueling=dueling, device="cuda:7")
    save_model(tmp_path, model, vocabulary, critic.to(device))
    loaded = load_critic(tmp_path, load_model(tmp_path, device)[0], device)
    assert loaded is not None and loaded.config == critic.config
    mine, theirs = dict(critic.named_parameters()), dict(loaded.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) and theirs[name].device.type == device.type for name in mine)


def test_a_model_without_a_critic_has_none_even_over_one_that_had(tmp_path: Path, vocabulary: Vocabulary) -> None:
    model = make_model(vocabulary)
    save_model(tmp_path, model, vocabulary, random_critic(model.feature_size, len(vocabulary)))
    assert load_critic(tmp_path, model, CPU) is not None
    save_model(tmp_path, model, vocabulary)
    assert load_critic(tmp_path, model, CPU) is None


def without_the_critic_s_file(folder: Path) -> None:
    (folder / CRITIC_FILE).unlink()


def with_half_of_the_critic_s_file(folder: Path) -> None:
    data = (folder / CRITIC_FILE).read_bytes()
    (folder / CRITIC_FILE).write_bytes(data[: len(data) // 2])


def with_the_critic_of_another_vocabulary(folder: Path) -> None:
    weights = load_file(folder / CRITIC_FILE)
    save_file({**weights, "actions.bias": weights["actions.bias"][:-1].clone()}, folder / CRITIC_FILE)


def with_a_wrong_value(folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["critic"]["layers"] = "big"
    (folder / CONFIG_FILE).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (without_the_critic_s_file, CRITIC_FILE),
        (with_half_of_the_critic_s_file, CRITIC_FILE),
        (with_the_critic_of_another_vocabulary, "actions.bias"),
        (with_a_wrong_value, "critic.layers is 'big'"),
    ],
)
def test_a_damaged_critic_is_told_in_a_sentence(
    tmp_path: Path, vocabulary: Vocabulary, damage: Callable[[Path], None], part: str
) -> None:
    model = make_model(vocabulary)
    save_model(tmp_path, model, vocabulary, random_critic(model.feature_size, len(vocabulary)))
    damage(tmp_path)
    with pytest.raises(UserError) as caught:
        load_critic(tmp_path, model, CPU)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message and part in message, message
