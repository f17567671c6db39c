from typing import Any

import pytest

from rlseq2seq.config.base import parse, read_params
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.errors import UserError


def pretrain(**changes: Any) -> PretrainConfig:
    return parse(PretrainConfig, {**read_params()["pretrain"], **changes}, "pretrain")


@pytest.mark.parametrize("value", [0.0, 0.1, 0.999])
def test_a_share_below_1_may_be_smoothed(value: float) -> None:
    assert pretrain(label_smoothing=value).label_smoothing == value


@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, "0.1", None, True])
def test_nothing_else_may(value: Any) -> None:
    # At 1 the target would have no part in the loss.
    with pytest.raises(UserError, match=r"^pretrain\.label_smoothing"):
        pretrain(label_smoothing=value)
