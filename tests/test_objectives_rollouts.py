import pytest
import torch
from objective_cases import MAX_TOKENS, Recorder, finetune_config, make_table, odd_rewards

from rlseq2seq.objectives.returns import sequence_returns, shaped_returns
from rlseq2seq.objectives.rollouts import pay, sample_rollouts


@pytest.mark.parametrize("returns", ["sequence", "discounted", "shaped"])
def test_rollouts_are_paid_as_the_parameters_say(device: torch.device, returns: str) -> None:
    model, batch = make_table(device)
    torch.manual_seed(0)
    memory = model.encode(batch.sources, batch.source_lengths)
    written = sample_rollouts(model, memory, MAX_TOKENS, 20)
    assert len(written.lengths.unique()) > 1
    paid = pay(written, batch, Recorder(), finetune_config("reinforce", returns=returns, gamma=0.5))
    of_prefixes, width = odd_rewards(written.tokens), written.tokens.shape[1]
    torch.testing.assert_close(paid.rewards, of_prefixes[:, -1])
    expected = {
        "sequence": sequence_returns(of_prefixes[:, -1], written.lengths, width),
        "discounted": sequence_returns(of_prefixes[:, -1], written.lengths, width, gamma=0.5),
        "shaped": shaped_returns(of_prefixes, written.lengths, 0.5),
    }
    torch.testing.assert_close(paid.returns, expected[returns])
