import math
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from params_cases import PARAMS, changed, written

from rlseq2seq.config.base import load, parse
from rlseq2seq.config.check import SECTIONS, check_params
from rlseq2seq.config.data import DataConfig
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.config.reward import RewardConfig
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.errors import UserError

ROOT = Path(__file__).parents[1]

PATHS = {"tokenization.word_vectors", "tokenization.vocabulary_file"}  # or null
TEXTS_OR_NULL = {"data.path", "data.hub.config", "data.hub.revision"}
SOME_TEXT = {"data.hub.name", "data.hub.source", "data.hub.target"}
NULLABLE = {
    "pretrain.coverage.from_step",
    "finetune.coverage.from_step",
    "finetune.kl.target",
    "finetune.reward.target_words",
    "runtime.threads",
    "runtime.workers",
}
NULL_OR_TEXT = {"finetune.reward.function", "finetune.critic.device"}
NULL_OR_MAPPING = {"model.transformer.copy_head"}
ANY_TEXT = {f"data.files.{key}" for key in ("train", "validation", "test", "source_suffix", "target_suffix")}
FRACTIONS = {"finetune.kl.target"}  # null by default
SEEDS = {"pretrain.seed", "finetune.seed"}


def walk(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of params.yaml, with the sections and mappings, and its default."""
    for name, value in values.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from walk(value, f"{prefix}{name}.")


KEYS = dict(walk(PARAMS))


def wrong_texts(key: str, default: str) -> list[str]:
    if key in ANY_TEXT:
        return []
    return [""] if key in SOME_TEXT else ["no_such_thing", "", f"{default} "]


def wrong_values(key: str, default: Any) -> list[Any]:
    """Values that the type or the range of ``key`` does not allow."""
    if isinstance(default, dict):
        return [None, [], "text", 1, True]
    if isinstance(default, bool):
        return [0, 1, 1.0, "true", "yes", None, []]
    if isinstance(default, list) and isinstance(default[0], int):
        return ["text", None, {}, 1, ["3"], [0], [1.5], [True], [[3]]]
    if isinstance(default, list):
        return ["text", None, {}, 1, [3], [""], [["numpy"]]]
    if key in NULL_OR_MAPPING:
        return ["text", 1, 0.5, True, []]
    if key in PATHS:
        return [1, 0.5, True, [], {}, "", "corpus", "glove.txt", "/corpus/glove.txt", "corpus/../glove.txt"]
    if key in TEXTS_OR_NULL:
        return [1, 0.5, True, [], {}, ""]
    if isinstance(default, float):
        return ["0.1", "1e-4", True, False, -1, -0.1, math.inf, -math.inf, math.nan, [], {}, None]
    if isinstance(default, str):
        return [1, 0.5, True, None, [], {}, *wrong_texts(key, default)]
    fractions = [] if key in FRACTIONS else [1.0, 10.5]
    wrong = ["10", "1", True, False, *fractions, math.inf, -1, [], {}]
    return wrong + ([] if key in NULLABLE | NULL_OR_TEXT else [None]) + ([2**32] if key in SEEDS else [])


def message(section: str, params: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        parse(SECTIONS[section], params[section], section)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_project_s_params_are_right_and_complete() -> None:
    check_params(ROOT / "params.yaml")
    assert list(PARAMS) == list(SECTIONS)


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_gives_a_line_with_key_value_and_what_is_allowed(key: str) -> None:
    for wrong in wrong_values(key, KEYS[key]):
        params = changed(key, lambda mapping, name, wrong=wrong: mapping.__setitem__(name, wrong))
        text = message(key.split(".")[0], params)
        shown, allowed = text.split(": ", 1)
        where, value = shown.split(" is ", 1)
        # In a list it is the item that is wrong.
        told, place = (wrong[0], f"{key}.0") if isinstance(wrong, list) and wrong else (wrong, key)
        assert (where, value) == (place, repr(told))
        assert len(allowed) > 8


@pytest.mark.parametrize("key", [key for key in KEYS if "." in key])
def test_a_missing_key_is_named(key: str) -> None:
    text = message(key.split(".")[0], changed(key, lambda mapping, name: mapping.pop(name)))
    assert text.startswith(f"{key} is missing: ")


@pytest.mark.parametrize("key", [key for key in KEYS if isinstance(KEYS[key], dict)])
def test_an_unknown_key_is_named(key: str) -> None:
    text = message(key.split(".")[0], changed(key, lambda mapping, name: mapping[name].update(bet_size=3)))
    assert text.startswith(f"{key}.bet_size is not a parameter: ")


def test_of_several_bad_keys_the_first_is_told_and_the_rest_are_counted() -> None:
    values = {**PARAMS["model"], "embedding_size": 0, "dropout": 2.0, "copy": 1}
    with pytest.raises(
        UserError, match=r"^model\.embedding_size is 0: must be greater than or equal to 1 \(and 2 more\)$"
    ):
        parse(ModelConfig, values, "model")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("data.python_docstrings.validation_share", 0.0, "greater than 0"),
        ("data.python_docstrings.test_share", 0.5, "less than 0.5"),
        ("data.source", "docstrings", "'python_docstrings', 'cnn_dailymail', 'xsum', 'gigaword', 'newsroom', 'aeslc'"),
        ("data.multi30k.target", "ru", "'cs', 'de', 'en' or 'fr'"),
        ("data.hub.name", "https://huggingface.co/datasets/a/b", "a name of huggingface.co/datasets, such as"),
        ("data.hub.name", "../a", "a name of huggingface.co/datasets, such as"),
        ("tokenization.type", "sentence", "'unigram', 'bpe', 'word' or 'char'"),
        ("tokenization.vocabulary_size", 4, "greater than or equal to 8"),
        ("tokenization.max_target_tokens", 1, "greater than or equal to 2"),
        ("model.dropout", 1.0, "less than 1"),
        ("model.attention.score", "dot", "'additive' or 'bilinear'"),
        ("model.architecture", "gru", "'lstm' or 'transformer'"),
        ("model.transformer.positions", "sinusoidal", "'rotary' or 'learned'"),
        ("model.output_weights", "shared", "'tied', 'projected' or 'separate'"),
        ("tokenization.word_vectors", "/data/glove.txt", "in corpus/"),
        ("pretrain.epochs", 0, "greater than or equal to 1"),
        ("pretrain.learning_rate", 0.0, "greater than 0"),
        ("pretrain.optimizer.gradient_clip", 0.0, "greater than 0"),
        ("pretrain.optimizer.name", "sgd", "'adam' or 'adagrad'"),
        ("pretrain.validation.every", 0, "greater than or equal to 1"),
        ("finetune.eta.start", 1.01, "less than or equal to 1"),
        ("pretrain.exposure_bias.alpha.start", 0.0, "greater than 0"),
        ("finetune.samples", 0, "greater than or equal to 1"),
        ("finetune.reward.metric", "rouge", "'rouge_1', 'rouge_2', 'rouge_l', 'bleu', 'chrf', 'length', 'repetition'"),
        ("finetune.reward.words", "word", "'surface', 'cased', 'rouge', 'stemmed' or 'pieces'"),
        ("finetune.reward.beta", 0.0, "greater than 0"),
        ("finetune.reward.ngram", 5, "less than or equal to 4"),
        ("finetune.reward.target_words", 0, "greater than or equal to 1"),
        ("finetune.reward.add.length", -0.1, "greater than or equal to 0"),
        ("finetune.reward.function", "my_rewards", "must be package.module:name, such as my_rewards:score"),
        ("evaluate.bootstrap_samples", 99, "greater than or equal to 100"),
        ("evaluate.decoding.beam_size", 0, "greater than or equal to 1"),
        ("runtime.device", "gpu", "auto"),
        ("runtime.checkpoint_every", 0, "greater than or equal to 1"),
    ],
)
def test_ranges_are_told(key: str, value: object, allowed: str) -> None:
    text = message(key.split(".")[0], changed(key, lambda mapping, name: mapping.__setitem__(name, value)))
    assert text.startswith(f"{key} is {value!r}: ") and allowed in text


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("key", ["finetune.eta.start", "finetune.coverage.weight", "evaluate.decoding.length_penalty"])
def test_a_whole_number_does_for_a_fraction(key: str, value: int) -> None:
    section = key.split(".")[0]
    params = changed(key, lambda mapping, name: mapping.__setitem__(name, value))
    config = parse(SECTIONS[section], params[section], section)
    for name in key.split(".")[1:]:
        config = getattr(config, name)
    assert config == value and type(config) is float


@pytest.mark.parametrize("key", sorted(NULLABLE))
def test_what_may_be_null_may_be_a_number_too(key: str) -> None:
    section = key.split(".")[0]
    for value in (None, 1):
        params = changed(key, lambda mapping, name, value=value: mapping.__setitem__(name, value))
        params["finetune"]["kl"]["weight"] = 1.0  # which the target is for
        parse(SECTIONS[section], params[section], section)


def test_a_path_is_there_where_it_is_read_and_nowhere_else() -> None:
    def data(source: str, path: str | None) -> DataConfig:
        return parse(DataConfig, {**PARAMS["data"], "source": source, "path": path}, "data")

    for source in ("cnn_dailymail", "xsum", "gigaword", "aeslc", "multi30k", "hub"):
        assert data(source, None).path is None and data(source, "here").path == "here"
    for source in ("newsroom", "tf_bin"):
        assert data(source, "here").path == "here"
        with pytest.raises(UserError, match=rf"^data: path is null, but {source} cannot be fetched: name the folder"):
            data(source, None)
    for source in ("python_docstrings", "files"):
        assert data(source, None).path is None
        with pytest.raises(UserError, match=rf"^data: path is 'here', but {source} reads what its own keys say: set"):
            data(source, "here")


def test_a_translation_needs_two_languages() -> None:
    values = {**PARAMS["data"], "multi30k": {"source": "en", "target": "en", "test": "test_2016_flickr"}}
    with pytest.raises(UserError, match=r"^data\.multi30k: source and target are both en: a translation needs two"):
        parse(DataConfig, values, "data")


def test_word_vectors_may_lie_anywhere_in_corpus() -> None:
    for value in (None, "corpus/glove.txt", "corpus/glove/100.txt.gz"):
        config = parse(TokenizationConfig, {**PARAMS["tokenization"], "word_vectors": value}, "tokenization")
        assert config.word_vectors == value


def test_rloo_needs_two_samples_and_self_critical_one() -> None:
    values = {**PARAMS["finetune"], "method": "self_critical", "samples": 1}
    assert parse(FinetuneConfig, values, "finetune").samples == 1
    values = {**values, "method": "rloo"}
    with pytest.raises(UserError, match=r"^finetune: samples is 1, but rloo compares .* set it to 2 or more$"):
        parse(FinetuneConfig, values, "finetune")
    assert parse(FinetuneConfig, {**values, "samples": 2}, "finetune").samples == 2


@pytest.mark.parametrize("changes", [{"metric": "function"}, {"add": {"function": 0.5}}])
def test_a_reward_s_function_is_there_where_it_is_asked_for_and_nowhere_else(changes: dict[str, Any]) -> None:
    reward = PARAMS["finetune"]["reward"]
    asked = {**reward, **changes, "add": {**reward["add"], **changes.get("add", {})}}
    with pytest.raises(UserError, match=r"^reward\.function is None: must be package\.module:name, as metric or"):
        parse(RewardConfig, asked, "reward")
    with pytest.raises(UserError, match=r"^reward\.function is 'mine:score': must be null, unless metric is function"):
        parse(RewardConfig, {**reward, "function": "mine:score"}, "reward")
    assert parse(RewardConfig, {**asked, "function": "a.b_c:score"}, "reward").weights()["function"] > 0
    for path in ("mine", "mine:", ":score", "mine.py:a.b", "my-module:score", "mine:score()", "a:b\n"):
        with pytest.raises(UserError, match=r"^reward\.function is .*: must be package\.module:name"):
            parse(RewardConfig, {**asked, "function": path}, "reward")


def test_the_weight_of_a_reward_s_metric_is_1_and_what_is_0_is_left_out() -> None:
    reward = PARAMS["finetune"]["reward"]
    assert parse(RewardConfig, reward, "reward").weights() == {"rouge_l": 1.0}
    added = {**reward, "metric": "bleu", "add": {**reward["add"], "bleu": 0.5, "length": 0.25}}
    assert parse(RewardConfig, added, "reward").weights() == {"bleu": 1.5, "length": 0.25}


def test_lists_become_tuples_and_nothing_can_be_changed() -> None:
    config = parse(DataConfig, PARAMS["data"], "data")
    assert config.python_docstrings.packages == tuple(PARAMS["data"]["python_docstrings"]["packages"])
    hash(config)
    with pytest.raises(FrozenInstanceError):
        config.source = "files"  # type: ignore[misc]


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("0.1e+1", 1.0), ("5e-324", 5e-324)])
def test_yaml_1_2_numbers(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub("(?m)^  learning_rate: .*", f"  learning_rate: {text}", (ROOT / "params.yaml").read_text()))
    assert load(PretrainConfig, "pretrain", path).learning_rate == value


@pytest.mark.parametrize("value", [0.1, 1 / 3, 2**-1074, 1.7976931348623157e308, 123456789.123456789])
def test_fractions_keep_every_bit(value: float) -> None:
    assert parse(PretrainConfig, {**PARAMS["pretrain"], "learning_rate": value}, "pretrain").learning_rate == value


def test_a_section_that_is_unknown_or_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^pertrain is not a section of .*: the sections are data, tokenization, model"
    ):
        check_params(written(tmp_path, {"pertrain": {}, **PARAMS}))
    for section in SECTIONS:
        rest = {name: values for name, values in PARAMS.items() if name != section}
        with pytest.raises(UserError, match=f"has no section '{section}'"):
            check_params(written(tmp_path, rest))


def test_a_bad_key_of_a_late_section_is_found_by_the_check_of_all(tmp_path: Path) -> None:
    params = changed("evaluate.decoding.beam_size", lambda mapping, name: mapping.__setitem__(name, "4"))
    with pytest.raises(UserError, match=r"^evaluate\.decoding\.beam_size is '4': must be a valid integer$"):
        check_params(written(tmp_path, params))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must be a mapping of sections"),
        (b"- a\n", "must be a mapping of sections"),
        (b"model: [1\n", "is not YAML"),
        (b"model: {}\nmodel: {}\n", "is not YAML.*duplicate key"),
        (b"model: \xff\n", "is not YAML"),
        (b"model: !!python/object:os.system {}\n", "is not YAML"),
        (b"1: {}\n", "1 is not a section"),
    ],
)
def test_a_file_that_is_no_params_is_told_in_a_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        check_params(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is not here: run from the project's root"):
        check_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "value", ["2024-01-01", "!!binary aGVsbG8=", "!!set {a, b}", "? [1, 2]\n: 3", "{1: 2}", "{null: 2}"]
)
def test_what_only_yaml_can_say_is_told_too(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    indented = value.replace("\n", "\n    ")
    path.write_text(re.sub("(?m)^  copy: .*", f"  copy:\n    {indented}", (ROOT / "params.yaml").read_text()))
    with pytest.raises(UserError, match=r"^model\.copy is ") as caught:
        check_params(path)
    assert "\n" not in str(caught.value)
