from pathlib import Path

import pytest

from rlseq2seq.config.base import parse, read_params
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
