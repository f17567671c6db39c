from pathlib import Path

import pytest
from params_cases import changed, written

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.check import check_params
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.errors import UserError

VALUES = read_params(Path(__file__).parents[1] / "params.yaml")["tokenization"]


def parsed(**changes: object) -> TokenizationConfig:
    return parse(TokenizationConfig, {**VALUES, **changes}, "tokenization")


def test_a_vocabulary_file_is_of_words() -> None:
    assert parsed(type="word", vocabulary_file="corpus/vocab").vocabulary_file == "corpus/vocab"
    with pytest.raises(UserError, match=r"^tokenization: vocabulary_file has words and type is bpe: set type to word"):
        parsed(type="bpe", vocabulary_file="corpus/vocab")


@pytest.mark.parametrize("path", ["vocab", "/corpus/vocab", "corpus", "corpus/../vocab", ""])
def test_a_vocabulary_file_lies_where_the_pipeline_sees_it(path: str) -> None:
    with pytest.raises(UserError, match=r"^tokenization\.vocabulary_file is .*: must be a file in corpus/"):
        parsed(type="word", vocabulary_file=path)


def test_capitals_are_rewarded_where_the_model_writes_some(tmp_path: Path) -> None:
    params = changed("finetune.reward.words", lambda mapping, name: mapping.__setitem__(name, "cased"))
    with pytest.raises(UserError, match=r"^finetune\.reward\.words is cased: must be another where .*lowercase is"):
        check_params(written(tmp_path, params))
    params["tokenization"]["lowercase"] = False
    check_params(written(tmp_path, params))
