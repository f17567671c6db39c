from typing import Any

import pytest
import torch
from objective_cases import Recorder, finetune_config, make_table
from torch import Tensor

from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.objectives.rollouts import pay

PREFIXES = torch.tensor([[0.5, 0.25, 1.0], [0.25, 0.75, 0.75]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"returns": "sequence", "gamma": 0.5}, [[1.0, 1.0, 1.0], [0.75, 0.75, 0.75]]),
        ({"returns": "discounted", "gamma": 0.5}, [[0.25, 0.5, 1.0], [0.375, 0.75, 0.75]]),
        # 0.5 - 0.5 * 0.25 + 0.25 * 0.75; -0.25 + 0.5 * 0.75; 0.75, and 0.25 + 0.5 * 0.5; 0.5
        ({"returns": "shaped", "gamma": 0.5}, [[0.5625, 0.125, 0.75], [0.5, 0.5, 0.5]]),
        ({"returns": "shaped", "gamma": 1.0}, [[1.0, 0.5, 0.75], [0.75, 0.5, 0.5]]),
    ],
)
def test_rollouts_are_paid_as_the_parameters_say(
    device: torch.device, changes: dict[str, Any], expected: list[list[float]]
) -> None:
    def of_prefixes(tokens: Tensor) -> Tensor:
        return PREFIXES.to(tokens.device)

    tokens = torch.tensor([[4, 5, 3], [4, 3, 0]], device=device)
    written = Hypotheses(tokens, torch.tensor([3, 2], device=device), torch.zeros(2, device=device))
    paid = pay(written, make_table(device)[1], Recorder(of_prefixes), finetune_config("reinforce", **changes))
    assert paid.rewards.tolist() == [1.0, 0.75]
    assert paid.returns.tolist() == expected
