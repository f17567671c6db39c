from pathlib import Path
from typing import Any

import pytest
from params_cases import PARAMS, changed, written

from rlseq2seq.config.base import parse
from rlseq2seq.config.check import check_params
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.errors import UserError


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_coverage_belongs_to_additive_scores(tmp_path: Path, stage: str) -> None:
    params = changed(f"{stage}.coverage.from_step", lambda mapping, name: mapping.__setitem__(name, 0))
    check_params(written(tmp_path, params))
    params["model"]["attention"]["score"] = "bilinear"
    with pytest.raises(
        UserError, match=rf"^{stage}\.coverage\.from_step is 0: must be null .* bilinear, as coverage is"
    ):
        check_params(written(tmp_path, params))
    params[stage]["coverage"]["from_step"] = None
    check_params(written(tmp_path, params))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_coverage_belongs_to_the_lstm(tmp_path: Path, stage: str) -> None:
    params = changed(f"{stage}.coverage.from_step", lambda mapping, name: mapping.__setitem__(name, 0))
    params["model"]["architecture"] = "transformer"
    with pytest.raises(
        UserError, match=rf"^{stage}\.coverage\.from_step is 0: must be null .* transformer, as coverage is a part of"
    ):
        check_params(written(tmp_path, params))
    params[stage]["coverage"]["from_step"] = None
    check_params(written(tmp_path, params))


@pytest.mark.parametrize("name", ["temporal", "intra_decoder"])
def test_temporal_and_intra_decoder_attention_belong_to_the_lstm(name: str) -> None:
    values = changed(f"model.attention.{name}", lambda mapping, name: mapping.__setitem__(name, True))["model"]
    parse(ModelConfig, values, "model")
    with pytest.raises(
        UserError, match=rf"^model: attention\.{name} is true, but a Transformer has attention of its own"
    ):
        parse(ModelConfig, values | {"architecture": "transformer"}, "model")


@pytest.mark.parametrize(
    ("size", "changes", "told"),
    [
        (12, {"heads": 6}, ""),
        (12, {"heads": 12, "positions": "learned"}, ""),
        (12, {"heads": 12}, "embedding_size is 12: must be a multiple of transformer.heads, 12, and of twice that for"),
        (12, {"heads": 5}, "embedding_size is 12: must be a multiple of transformer.heads, 5"),
        (12, {"heads": 5, "positions": "learned"}, "embedding_size is 12: must be a multiple of transformer.heads, 5"),
        (8, {"layers": 2, "copy_head": {"layer": 2, "head": 4}}, ""),
        (
            8,
            {"layers": 2, "copy_head": {"layer": 3, "head": 1}},
            "copy_head is head 1 of layer 3, but there are 4 heads",
        ),
        (
            8,
            {"layers": 2, "copy_head": {"layer": 1, "head": 5}},
            "copy_head is head 5 of layer 1, but there are 4 heads",
        ),
        (8, {"copy_head": {"layer": 1}}, "model.transformer.copy_head.head is missing"),
        (8, {"copy_head": {"layer": 0, "head": 1}}, "model.transformer.copy_head.layer is 0: must be greater"),
    ],
)
def test_a_transformer_s_sizes_fit_together(size: int, changes: dict[str, Any], told: str) -> None:
    model = PARAMS["model"]
    values = {**model, "embedding_size": size, "architecture": "transformer"}
    values["transformer"] = {**model["transformer"], "heads": 4, **changes}
    if told:
        with pytest.raises(UserError) as caught:
            parse(ModelConfig, values, "model")
        assert told in str(caught.value) and "\n" not in str(caught.value)
    else:
        parse(ModelConfig, values, "model")
