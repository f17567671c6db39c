from dataclasses import replace

import pytest
import torch
from objective_cases import (
    MAX_TOKENS,
    Recorder,
    everything,
    expected_rewards,
    finetune_config,
    gradient,
    make_table,
    odd_rewards,
    run,
)
from torch.nn.functional import pad

from rlseq2seq.data.batches import pad_rows
from rlseq2seq.decoding.hypotheses import token_lengths
from rlseq2seq.errors import UserError
from rlseq2seq.objectives.minimum_risk import repeated
from rlseq2seq.objectives.scoring import score_tokens


def by_definition(model: torch.nn.Module, batch: object, recorder: Recorder, sharpness: float) -> torch.Tensor:
    """Minus the mean over sources of the expected reward of their unique texts, by way of all that can be written."""
    tokens, log_probs = everything(model, batch)  # type: ignore[arg-type]
    place = {tuple(row): i for i, row in enumerate(tokens.tolist())}
    total = log_probs.new_zeros(())
    asked = pad(recorder.tokens[0], (0, MAX_TOKENS - recorder.tokens[0].shape[1])).view(len(log_probs), -1, MAX_TOKENS)
    for source, rows in enumerate(asked.tolist()):
        unique = sorted({place[tuple(row)] for row in rows})
        assert len(unique) < len(rows)
        q = (sharpness * log_probs[source, unique]).softmax(0)
        total = total - (q * odd_rewards(tokens[unique])[:, -1]).sum()
    return total / len(log_probs)


@pytest.mark.parametrize("sharpness", [1.0, 0.005, 3.0])
def test_risk_is_that_of_the_unique_samples(device: torch.device, sharpness: float) -> None:
    model, batch = make_table(device)
    loss, recorder = run(model, batch, finetune_config("mrt", samples=40, mrt__sharpness=sharpness))
    expected = by_definition(model, batch, recorder, sharpness)
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(gradient(loss.total, model), gradient(expected, model))


def test_with_every_text_sampled_it_is_the_expected_reward(device: torch.device) -> None:
    model, batch = make_table(device)
    loss, _ = run(model, batch, finetune_config("mrt", samples=4000, mrt__sharpness=1.0))
    exact = gradient(expected_rewards(model, batch).mean(), model)
    found = gradient(-loss.total, model)
    assert (found - exact).norm() / exact.norm() < 0.05


def test_the_reference_joins_the_set_once(device: torch.device) -> None:
    model, batch = make_table(device)
    targets, lengths = (x.to(device) for x in pad_rows([[4, 3], [5, 5, 3]]))
    batch = replace(batch, targets=targets, target_lengths=lengths)
    config = finetune_config("mrt", samples=30, mrt__sharpness=1.0, mrt__reference=True)
    loss, recorder = run(model, batch, config)
    asked = recorder.tokens[0].view(2, 31, -1)
    assert asked[:, -1, :2].tolist() == [[4, 3], [5, 5]]
    torch.testing.assert_close(loss.total, by_definition(model, batch, recorder, 1.0))
    # What is told is told of the samples: what they got, and how sure the model was of them.
    assert loss.facts["reward"].item() == pytest.approx(recorder.rewards[0].view(2, 31)[:, :30].mean().item())
    samples = asked[:, :30].flatten(0, 1)
    scored = score_tokens(model, model.encode(batch.sources, batch.source_lengths), samples, token_lengths(samples))
    assert loss.facts["entropy"].item() == pytest.approx(-scored.log_probs.mean().item())


def test_repeated_samples_are_found_within_a_source() -> None:
    tokens = torch.tensor([[1, 2], [1, 2], [1, 3], [1, 2], [1, 2], [1, 2]])
    assert repeated(tokens, 2).tolist() == [[False, True, False], [False, True, True]]


@pytest.mark.parametrize(
    "changes", [{"returns": "shaped"}, {"returns": "discounted"}, {"kl__weight": 0.1}, {"entropy": 0.1}, {"samples": 1}]
)
def test_what_does_not_go_with_it_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"finetune: .*(set|mrt)"):
        finetune_config("mrt", **changes)
