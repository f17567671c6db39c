"""What the search steps take and refuse, and how they fit into PyTorch."""

import pytest
import torch
from search_cases import Sizes, make_mixture
from tiny import from_logits, on
from torch import Tensor

from rlseq2seq.ops import Beams, Mixture, SearchRules, beam_step, greedy_step, sample_step, start_beams

STEPS = ["greedy_step", "sample_step", "beam_step"]


def arguments_of(
    step: str, device: torch.device, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor | float | None]:
    """What the operator takes, by name: 2 sources, 3 rows each."""
    mixture = on(make_mixture(3, Sizes(2, 3, 65, 9, 4), dtype=dtype), device)
    arguments: dict[str, Tensor | float | None] = dict(mixture._asdict())
    if step == "sample_step":
        noise = torch.rand(6, generator=torch.Generator().manual_seed(0)).to(device)
        arguments |= {"noise": noise, "temperature": 0.9, "top_k": 20, "top_p": 0.95}
    if step == "beam_step":
        beams, _, _ = beam_step(mixture, start_beams(2, 3, 4, like=mixture.features), 0, SearchRules())
        arguments |= beams._asdict()
        arguments |= {"step": 1, "length_penalty": 1.0, "block_ngrams": 1, "min_tokens": 2}
    return arguments


@pytest.mark.parametrize("step", STEPS)
def test_non_contiguous_inputs(device: torch.device, step: str) -> None:
    operator, arguments = getattr(torch.ops.rlseq2seq, step), arguments_of(step, device)
    strided = {
        name: torch.stack([value, value], -1)[..., 0] if isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }
    for found, expected in zip(operator(**strided), operator(**arguments), strict=True):
        torch.testing.assert_close(found, expected)  # another matrix product, and perhaps other rounding


@pytest.mark.parametrize("step", STEPS)
def test_rows_that_share_a_source_are_rows_with_a_copy_of_it(device: torch.device, step: str) -> None:
    operator, arguments = getattr(torch.ops.rlseq2seq, step), arguments_of(step, device)
    copied = arguments | {"source_ids": arguments["source_ids"].repeat_interleave(3, 0)}
    for found, expected in zip(operator(**copied), operator(**arguments), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_changed_in_place(device: torch.device, step: str) -> None:
    operator, arguments = getattr(torch.ops.rlseq2seq, step), arguments_of(step, device)
    before = {name: value.clone() for name, value in arguments.items() if isinstance(value, Tensor)}
    results = operator(**arguments)
    for name, value in before.items():
        assert torch.equal(arguments[name], value), name
        assert all(result.data_ptr() != arguments[name].data_ptr() for result in results), name


def wrong_cases() -> list[tuple[str, str, object, str]]:
    """Operator, argument, what becomes of it, and the sentence."""
    cases = [
        (step, *case)
        for step in STEPS
        for case in [
            ("features", lambda x: x.int(), "features must be float32, float64 or, on CUDA, bfloat16, not Int"),
            ("features", lambda x: x[0], r"features must be Float \[\*, \*\] on .*, not Float \[5\]"),
            ("weight", lambda x: x[:, :4], r"weight must be Float \[\*, 5\] on .*, not Float \[65, 4\]"),
            ("weight", lambda x: x[:0], "weight must have a row for each token, but it has none"),
            ("bias", lambda x: x.double(), r"bias must be Float \[65\] on .*, not Double \[65\]"),
            ("gate_logits", lambda x: x[:, None], r"gate_logits must be Float \[6\] on .*, not Float \[6, 1\]"),
            ("attention", lambda x: x[:4], r"attention must be Float \[6, \*\] on .*, not Float \[4, 9\]"),
            ("source_ids", lambda x: x[:, 1:], r"source_ids must be Long \[\*, 9\] on .*, not Long \[2, 8\]"),
            ("source_ids", lambda x: x.int(), r"source_ids must be Long \[\*, 9\] on .*, not Int \[2, 9\]"),
            ("source_ids", lambda x: x.repeat(2, 1), "the number of rows, 6, must be a multiple of .* sources, 4"),
            ("source_ids", lambda x: x.to("cpu" if x.is_cuda else "meta"), "source_ids is on (meta|cpu)|not Long"),
        ]
    ]
    return [
        *cases,
        ("sample_step", "noise", lambda x: x[:5], r"noise must be Float \[6\] on .*, not Float \[5\]"),
        ("sample_step", "noise", lambda x: x.long(), "noise must be float32 or float64, not Long"),
        ("sample_step", "temperature", lambda _: 0.0, "temperature must be above 0 and finite, not 0"),
        ("sample_step", "top_k", lambda _: -1, r"top_k must be 0 \(all tokens\) or above, not -1"),
        ("sample_step", "top_p", lambda _: 0.0, "top_p must be above 0, not 0"),
        ("beam_step", "tokens", lambda x: x[:1], "tokens has 1 x 3 hypotheses but the mixture has 6 rows"),
        ("beam_step", "scores", lambda x: x.double(), r"scores must be Float \[2, 3\] on .*, not Double"),
        ("beam_step", "finished_tokens", lambda x: x[:, :, 1:], r"finished_tokens must be Long \[2, 3, 4\]"),
        ("beam_step", "finished_scores", lambda x: x[:, 1:], r"finished_scores must be Float \[2, 3\]"),
        ("beam_step", "step", lambda _: 4, "step must be in 0 to 3, the room that tokens has, not 4"),
        ("beam_step", "length_penalty", lambda _: float("nan"), "length_penalty must be finite, not nan"),
        ("beam_step", "block_ngrams", lambda _: -1, r"block_ngrams must be 0 \(none\) or above, not -1"),
    ]


@pytest.mark.parametrize(("step", "name", "wrong", "sentence"), wrong_cases())
def test_wrong_arguments_raise_one_sentence(
    device: torch.device, step: str, name: str, wrong: object, sentence: str
) -> None:
    arguments = arguments_of(step, device)
    arguments[name] = wrong(arguments[name])  # type: ignore[operator]
    with pytest.raises(ValueError, match=sentence) as raised:
        getattr(torch.ops.rlseq2seq, step)(**arguments)
    assert str(raised.value).startswith(f"{step}: ") and str(raised.value).count("\n") == 0


def test_too_many_beams_and_too_few_tokens_are_refused(device: torch.device) -> None:
    logits = torch.zeros(1025, 8, device=device)
    with pytest.raises(ValueError, match="beam_step: tokens has 1025 hypotheses a source, more than the 1024"):
        beam_step(from_logits(logits), start_beams(1, 1025, 1, like=logits), 0, SearchRules())
    with pytest.raises(ValueError, match="beam_step: weight must have a row for each reserved token, not 3 rows"):
        beam_step(from_logits(logits[:2, :3]), start_beams(1, 2, 1, like=logits), 0, SearchRules())


def test_ids_below_zero(device: torch.device) -> None:
    mixture = make_mixture(3, Sizes(2, 1, 65, 9, 4))
    mixture.source_ids[1, 2] = -7
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"greedy_step: source_ids\[1, 2\] is -7, below 0\."):
            greedy_step(mixture)
    else:  # to look at them would wait for the device
        assert greedy_step(on(mixture, device)).tokens.ge(0).all()


@pytest.mark.parametrize("step", STEPS)
def test_opcheck(device: torch.device, step: str) -> None:
    for dtype in (torch.float32, torch.float64):
        torch.library.opcheck(getattr(torch.ops.rlseq2seq, step).default, (), arguments_of(step, device, dtype))


def test_steps_compile_without_a_graph_break(device: torch.device) -> None:
    mixture = on(make_mixture(3, Sizes(2, 3, 65, 9, 4)), device)
    beams = start_beams(2, 3, 4, like=mixture.features)
    noise = torch.rand(6, device=device)

    def steps(mixture: Mixture, beams: Beams, noise: Tensor) -> list[Tensor]:
        greedy, sampled = greedy_step(mixture), sample_step(mixture, noise, temperature=0.9)
        extended, rows, tokens = beam_step(mixture, beams, 0, SearchRules(1.0, 2, 1))
        return [*greedy, *sampled, *extended, rows, tokens + 1]

    compiled = torch.compile(steps, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(mixture, beams, noise), steps(mixture, beams, noise), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("step", STEPS)
def test_no_gradient_flows(device: torch.device, step: str) -> None:
    arguments = arguments_of(step, device)
    mixture = Mixture(*(arguments[name] for name in Mixture._fields))  # type: ignore[arg-type]
    mixture.weight.requires_grad_()
    if step == "greedy_step":
        assert not greedy_step(mixture).log_probs.requires_grad
    elif step == "sample_step":
        assert not sample_step(mixture, arguments["noise"]).log_probs.requires_grad
    else:
        beams = Beams(*(arguments[name] for name in Beams._fields))  # type: ignore[arg-type]
        assert not beam_step(mixture, beams, 1, SearchRules())[0].scores.requires_grad


def test_options_as_large_as_they_come(device: torch.device) -> None:
    mixture = on(make_mixture(3, Sizes(2, 3, 65, 9, 4), dtype=torch.float32), device)
    mixture.bias[0] = -torch.inf
    found = sample_step(mixture, torch.rand(6, device=device), temperature=1e50)
    assert found.log_probs.isfinite().all() and (found.tokens > 0).all()
    beams = start_beams(2, 3, 4, like=mixture.features)
    rules = SearchRules(block_ngrams=2**63 - 1)
    for mine, theirs in zip(
        beam_step(mixture, beams, 2, rules)[0], beam_step(mixture, beams, 2, SearchRules())[0], strict=True
    ):
        assert torch.equal(mine, theirs)


def test_no_noise_at_all_finds_a_token_far_from_the_first(device: torch.device) -> None:
    logits = torch.full((1, 512), -200.0, device=device)
    logits[0, 300] = 0
    found = sample_step(from_logits(logits), torch.zeros(1, device=device))
    assert found.tokens.item() == 300 and found.log_probs.item() == 0
