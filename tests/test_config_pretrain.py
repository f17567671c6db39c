from typing import Any

import pytest

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.errors import UserError


def pretrain(**changes: Any) -> PretrainConfig:
    return parse(PretrainConfig, {**read_params()["pretrain"], **changes}, "pretrain")


SHARES = ["label_smoothing", "weight_average"]


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [0.0, 0.1, 0.999])
def test_a_share_may_be_anything_below_1(name: str, value: float) -> None:
    assert getattr(pretrain(**{name: value}), name) == value


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, "0.1", None, True])
def test_a_share_may_be_nothing_else(name: str, value: Any) -> None:
    # At 1 the target would have no part in the loss, and new weights none in their average.
    with pytest.raises(UserError, match=rf"^pretrain\.{name}"):
        pretrain(**{name: value})
