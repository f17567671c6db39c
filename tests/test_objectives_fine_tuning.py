import pytest
import torch
from objective_cases import SIZE, finetune_config, run, tuned
from tiny import move, random_batch, tiny_model

from rlseq2seq.config.base import read_params
from rlseq2seq.errors import UserError
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood

METHODS = ["reinforce", "self_critical", "rloo", "grpo", "mrt"]


def fixed(eta: float) -> dict[str, object]:
    return {"schedule": "constant", "start": eta, "end": eta, "steps": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_eta_mixes_in_maximum_likelihood(device: torch.device, method: str, eta: float) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    rl, _ = run(model, batch, finetune_config(method))
    mle = maximum_likelihood(model, model.encode(batch.sources, batch.source_lengths), batch, 0.25)
    loss, _ = run(model, batch, finetune_config(method, eta=fixed(eta), coverage__weight=0.25))
    torch.testing.assert_close(loss.total, eta * rl.total + (1 - eta) * mle.total)
    assert loss.tokens == (rl.tokens if eta > 0 else 0) + (mle.tokens if eta < 1 else 0)
    assert ("nll" in loss.facts) == (eta < 1)


def test_eta_follows_its_schedule(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    schedule = {"schedule": "linear", "start": 0.0, "end": 1.0, "steps": 10}
    fine_tuning = tuned(model, finetune_config("rloo", eta=schedule))
    torch.manual_seed(0)
    at_4 = fine_tuning(batch, 4).total
    torch.testing.assert_close(at_4, run(model, batch, finetune_config("rloo", eta=fixed(0.4)))[0].total)


def test_the_share_of_likelihood_may_read_own_words(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    own = read_params()["finetune"]["exposure_bias"] | {"method": "e2e_backprop", "probability": fixed(1.0)}
    gold = run(model, batch, finetune_config("rloo", eta=fixed(0.5)))[0].facts["nll"]
    assert run(model, batch, finetune_config("rloo", eta=fixed(0.5), exposure_bias=own))[0].facts["nll"] != gold


def test_the_share_of_own_words_follows_its_schedule(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    from_0 = {"schedule": "step", "start": 0.0, "end": 1.0, "steps": 3}
    own = read_params()["finetune"]["exposure_bias"] | {"method": "e2e_backprop", "probability": from_0}
    fine_tuning = tuned(model, finetune_config("rloo", eta=fixed(0.5), exposure_bias=own))
    before, after = (fine_tuning(batch, step).facts["nll"] for step in (2, 3))
    assert before == run(model, batch, finetune_config("rloo", eta=fixed(0.5)))[0].facts["nll"] != after


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_what_is_to_be_remembered_is_told_beside_likelihood_too(device: torch.device, eta: float) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    fine_tuning = tuned(model, finetune_config("reinforce", baseline="moving_average", eta=fixed(eta)))
    fine_tuning(batch, 0).after()
    assert fine_tuning.state.mean_return.tolist() != [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_the_encoder_runs_once_however_many_samples(device: torch.device, method: str) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(0, SIZE, copies=1), device)
    sources = []
    model.encoder.register_forward_hook(lambda _, inputs, __: sources.append(len(inputs[0])))
    run(model, batch, finetune_config(method, samples=5, eta=fixed(0.5)))
    assert sources == [len(batch.rows)]


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("rloo", {"samples": 1}, "finetune: samples is 1, but rloo compares the samples of a source with each other"),
        ("grpo", {"samples": 1}, "set it to 2 or more"),
        ("rloo", {"baseline": "learned"}, "finetune: baseline learned is for reinforce"),
        ("reinforce", {"gamma": 0.0}, "finetune.gamma is 0.0"),
        ("reinforce", {"eta": fixed(1.5)}, "finetune.eta.start is 1.5"),
        ("rloo", {"kl__target": 1.0}, "finetune.kl: target adapts a weight that is above 0"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_a_reason(
    method: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        finetune_config(method, **changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)
