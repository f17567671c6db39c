"""What a critic remembers. A transition is known by its token, which counts all that were ever pushed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlseq2seq.config.critic import ReplayConfig
from rlseq2seq.config.training import ProbabilityConfig
from rlseq2seq.models.saved import set_weights, weights
from rlseq2seq.objectives.replay import SMALLEST_PRIORITY, Replay, Replayed, Transitions
from rlseq2seq.token_ids import PAD

FEATURES, WIDTH = 5, 6
CPU = torch.device("cpu")
MODES = ["uniform", "prioritized"]


def make_replay(capacity: int = 40, **changes: Any) -> Replay:
    importance = ProbabilityConfig("constant", 0.5, 0.5, 1)
    values = {"sampling": "uniform", "priority_exponent": 0.6, "importance": importance, "half_precision": False}
    return Replay(FEATURES, WIDTH, ReplayConfig(**{"capacity": capacity, **values, **changes}))


def told_by(tokens: Tensor, last: Tensor, width: int = WIDTH) -> Transitions:
    """Transitions of which everything follows from the token."""
    number = tokens.float()
    wide = number[:, None] + torch.arange(1, width + 1)
    return Transitions(
        features=(number[:, None] + torch.arange(FEATURES)).sin(),
        gate_logits=number.cos() * 9,
        attention=wide.sin().abs(),
        source_ids=(wide * 100_003).long(),
        tokens=tokens,
        rewards=number / 7,
        returns=-number / 3,
        last=last,
    )


def rollouts(first: int, *lengths: int, width: int = WIDTH, device: torch.device = CPU) -> Transitions:
    """Rollouts of ``lengths``, whose tokens count from ``first`` on."""
    ends = torch.tensor(lengths).cumsum(0) - 1
    last = torch.zeros(sum(lengths), dtype=torch.bool)
    last[ends] = True
    made = told_by(torch.arange(first, first + sum(lengths)), last, width)
    return Transitions(*(x.to(device) for x in made))


def assert_same(found: Transitions, expected: Transitions) -> None:
    for name in Transitions._fields:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        assert one.is_contiguous(), name
        assert torch.equal(one, other), name


def assert_told_by_tokens(found: Transitions) -> None:
    found = Transitions(*(x.cpu() for x in found))
    assert_same(found, told_by(found.tokens, found.last))


def assert_identical(one: Replayed, other: Replayed) -> None:
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.weights, other.weights)
    assert_same(one.now, other.now)
    assert_same(one.then, other.then)


def frequencies(replay: Replay, draws: int) -> Tensor:
    """How often each transition comes, by the place at which it was pushed."""
    return replay.sample(draws, 0.5, CPU).now.tokens.bincount(minlength=len(replay)) / draws


@pytest.mark.parametrize("sampling", MODES)
def test_what_is_sampled_is_what_was_pushed(sampling: str, device: torch.device) -> None:
    torch.manual_seed(0)
    replay = make_replay(sampling=sampling)
    assert len(replay) == 0
    replay.push(rollouts(0, 3, 1, 4, device=device))
    assert len(replay) == 8
    sample = replay.sample(100, 0.5, device)
    assert sample.rows.device == CPU
    assert all(x.device.type == device.type for x in (*sample.now, *sample.then, sample.weights))
    assert_told_by_tokens(sample.now)
    assert set(sample.now.tokens.tolist()) == set(range(8))
    assert set(sample.now.tokens[sample.now.last].tolist()) == {2, 3, 7}
    assert torch.equal(sample.then.tokens[~sample.now.last], sample.now.tokens[~sample.now.last] + 1)
    assert (sample.weights == 1).all()
    assert sample.weights.dtype == torch.float32


@pytest.mark.parametrize("sampling", MODES)
@pytest.mark.parametrize("capacity", [1, 2, 7, 40, 64])
def test_what_follows_a_transition_is_right_however_often_the_ring_wraps(sampling: str, capacity: int) -> None:
    torch.manual_seed(0)
    replay, pushed = make_replay(capacity, sampling=sampling), 0
    for _ in range(60):
        lengths = torch.randint(1, 9, (int(torch.randint(1, 7, ())),)).tolist()
        replay.push(rollouts(pushed, *lengths))
        pushed += sum(lengths)
        assert len(replay) == min(pushed, capacity)
        sample = replay.sample(12 * capacity, 0.5, CPU)
        assert_told_by_tokens(sample.now)
        assert (sample.now.tokens >= pushed - len(replay)).all()
        assert (sample.now.tokens < pushed).all()
        goes_on = ~sample.now.last
        assert_told_by_tokens(Transitions(*(x[goes_on] for x in sample.then)))
        assert torch.equal(sample.then.tokens[goes_on], sample.now.tokens[goes_on] + 1)
        # Their values are multiplied by 0 where they do not count.
        assert all(x.isfinite().all() for x in sample.then)


def test_of_more_than_it_can_hold_it_keeps_the_end() -> None:
    replay = make_replay(10)
    replay.push(rollouts(0, 4))
    replay.push(rollouts(4, 8, 9, 3, 5))
    assert len(replay) == 10
    assert set(replay.sample(500, 0.5, CPU).now.tokens.tolist()) == set(range(19, 29))


def test_no_rollouts_change_nothing() -> None:
    replay = make_replay(sampling="prioritized")
    replay.push(rollouts(0, 4))
    before = {name: value.clone() for name, value in weights(replay).items()}
    replay.push(Transitions(*(x[:0] for x in rollouts(0, 4))))
    assert all(torch.equal(value, before[name]) for name, value in weights(replay).items())


def test_a_rollout_that_is_not_whole_is_refused() -> None:
    replay = make_replay()
    with pytest.raises(ValueError, match="pushed whole"):
        replay.push(Transitions(*(x[:-1] for x in rollouts(0, 3, 2))))
    assert len(replay) == 0


def test_shorter_sources_are_padded_over_what_was_there() -> None:
    replay = make_replay(4)
    replay.push(rollouts(0, 4))
    replay.push(rollouts(4, 3, width=2))
    replay.push(rollouts(7, 1, width=0))
    now = replay.sample(200, 0.5, CPU).now
    assert now.tokens.unique().tolist() == [4, 5, 6, 7]
    for width, mine in ((2, now.tokens < 7), (0, now.tokens == 7)):
        expected = told_by(now.tokens[mine], now.last[mine], width)
        assert torch.equal(now.attention[mine, :width], expected.attention)
        assert torch.equal(now.source_ids[mine, :width], expected.source_ids)
        assert (now.attention[mine, width:] == 0).all()
        assert (now.source_ids[mine, width:] == PAD).all()


def test_a_source_that_is_too_wide_is_not_cut() -> None:
    with pytest.raises(RuntimeError, match="size"):
        make_replay().push(rollouts(0, 4, width=WIDTH + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_precision_is_of_states_and_nothing_else(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    replay, states = make_replay(half_precision=True), ("features", "gate_logits", "attention")
    pushed = rollouts(0, 7, 9)
    replay.push(pushed._replace(**{name: getattr(pushed, name).to(dtype) for name in states}))
    now = replay.sample(100, 0.5, CPU).now
    expected = told_by(now.tokens, now.last)
    rounded = {name: getattr(expected, name).to(dtype).half().float() for name in states}
    assert_same(now, expected._replace(**rounded))


def test_half_precision_halves_what_states_take() -> None:
    def size(replay: Replay) -> int:
        return sum(x.nbytes for x in replay.parameters())

    full, half = make_replay(1000), make_replay(1000, half_precision=True)
    # Its parts begin at multiples of four bytes.
    saved = 2 * FEATURES + 2 * WIDTH + 2
    assert abs(size(full) - size(half) - 1000 * saved) <= 1000 * 3 * 3


@pytest.mark.parametrize("count", [1, 20])
def test_a_sample_stays_what_it_was(count: int) -> None:
    replay = make_replay(8)
    replay.push(rollouts(0, 8))
    sample = replay.sample(count, 0.5, CPU)
    copy = [x.clone() for x in (*sample.now, *sample.then)]
    replay.push(rollouts(8, 8))
    replay.sample(count, 0.5, CPU)
    assert all(torch.equal(x, y) for x, y in zip((*sample.now, *sample.then), copy, strict=True))


def test_uniform_samples_are_independent_and_alike_in_frequency() -> None:
    torch.manual_seed(0)
    replay, draws = make_replay(40), 30_000
    replay.push(rollouts(0, 30))
    replay.set_errors(torch.arange(30), torch.arange(30.0))  # which are nothing to it
    found = frequencies(replay, draws)
    chi_square = draws * ((found - 1 / 30) ** 2 * 30).sum().item()
    # 29 degrees of freedom: in one run of 1,000 it is outside of these.
    assert 10 < chi_square < 60
    assert (replay.sample(50, 1.0, CPU).weights == 1).all()


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0])
def test_priorities_are_powers_of_errors(exponent: float, device: torch.device) -> None:
    torch.manual_seed(0)
    replay = make_replay(40, sampling="prioritized", priority_exponent=exponent)
    replay.push(rollouts(0, 10, 20))
    errors = torch.randn(30, device=device)
    order = torch.randperm(30)
    replay.set_errors(order, errors[order.to(device)])
    expected = (errors.cpu().double().abs() + SMALLEST_PRIORITY) ** exponent
    expected /= expected.sum()
    # A draw from each of as many equal parts: less than two off.
    assert ((frequencies(replay, 10_000) - expected).abs() * 10_000 < 2).all()


def test_importance_weights_undo_the_preference() -> None:
    torch.manual_seed(0)
    replay = make_replay(8, sampling="prioritized", priority_exponent=1.0)
    replay.push(rollouts(0, 4))
    replay.set_errors(torch.arange(4), torch.tensor([1.0, -2.0, 4.0, 1.0]))
    for importance, by_hand in (
        (1.0, [1.0, 1 / 2, 1 / 4, 1.0]),  # N P = 1/2, 1, 2, 1/2: weights 2, 1, 1/2, 2 over 2
        (0.5, [1.0, 0.5**0.5, 1 / 2, 1.0]),
        (0.0, [1.0, 1.0, 1.0, 1.0]),
    ):
        sample = replay.sample(64, importance, CPU)
        assert sample.now.tokens.unique().tolist() == [0, 1, 2, 3]
        torch.testing.assert_close(sample.weights, torch.tensor(by_hand)[sample.now.tokens], atol=1e-5, rtol=0.0)


def test_the_largest_weight_of_a_sample_is_one() -> None:
    torch.manual_seed(0)
    replay = make_replay(64, sampling="prioritized")
    replay.push(rollouts(0, 64))
    replay.set_errors(torch.arange(64), torch.rand(64) + 0.5)
    # The rarest of all is hardly ever among three.
    assert all(replay.sample(3, 0.7, CPU).weights.max() == 1 for _ in range(20))


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_what_is_new_has_the_largest_priority_so_far(exponent: float) -> None:
    torch.manual_seed(0)
    replay = make_replay(8, sampling="prioritized", priority_exponent=exponent)
    replay.push(rollouts(0, 2))
    assert frequencies(replay, 1000).tolist() == pytest.approx([0.5, 0.5], abs=0.002)
    replay.set_errors(torch.arange(2), torch.tensor([-9.0, 3.0]))
    replay.set_errors(torch.tensor([0]), torch.tensor([0.0]))  # the largest so far is 9 still
    replay.push(rollouts(2, 1))
    expected = torch.tensor([SMALLEST_PRIORITY, 3.0, 9.0]) ** exponent
    torch.testing.assert_close(frequencies(replay, 1200), expected / expected.sum(), atol=0.002, rtol=0.0)
    # What takes the place of others, takes their priorities too.
    replay.push(rollouts(3, 8))
    counts = replay.sample(800, 1.0, CPU).now.tokens.bincount(minlength=11)
    assert counts[3:].tolist() == pytest.approx([100] * 8, abs=2)


def test_what_has_no_error_is_drawn_again_some_day() -> None:
    torch.manual_seed(0)
    replay = make_replay(3, sampling="prioritized")
    replay.push(rollouts(0, 3))
    replay.set_errors(torch.arange(3), torch.tensor([0.0, 1.0, 0.0]))
    assert set(replay.sample(50_000, 0.5, CPU).now.tokens.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("sampling", MODES)
def test_randomness_is_that_of_the_global_generator(sampling: str) -> None:
    replay = make_replay(sampling=sampling)
    replay.push(rollouts(0, 30))
    torch.manual_seed(3)
    one, two = (replay.sample(20, 0.5, CPU) for _ in range(2))
    torch.manual_seed(3)
    assert_identical(replay.sample(20, 0.5, CPU), one)
    assert_identical(replay.sample(20, 0.5, CPU), two)
    assert not torch.equal(one.rows, two.rows)


@pytest.mark.parametrize("sampling", MODES)
@pytest.mark.parametrize("half_precision", [False, True])
def test_a_restored_one_goes_on_as_the_saved_one_does(sampling: str, half_precision: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = (make_replay(50, sampling=sampling, half_precision=half_precision) for _ in range(2))

    def go_on(replay: Replay, pushed: int) -> list[Replayed]:
        samples = []
        for step in range(8):
            torch.manual_seed(step)
            replay.push(rollouts(pushed + 10 * step, 3, 7))
            samples.append(replay.sample(30, 0.4, CPU))
            replay.set_errors(samples[-1].rows, 20 * samples[-1].now.features[:, 0])
        return samples

    go_on(one, 0)
    save_file(weights(one), tmp_path / "replay.safetensors")
    set_weights(other, load_file(tmp_path / "replay.safetensors"))
    for expected, found in zip(go_on(one, 80), go_on(other, 80), strict=True):
        assert_identical(found, expected)
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.mark.parametrize("sampling", MODES)
def test_it_stays_as_it_is_where_the_model_goes(sampling: str) -> None:
    replay = make_replay(sampling=sampling)
    replay.push(rollouts(0, 5))
    around = torch.nn.ModuleList([torch.nn.Linear(2, 2), replay])
    before = {name: (value.dtype, value.data_ptr()) for name, value in weights(replay).items()}
    around.to(torch.float64).to("meta")
    assert {name: (value.dtype, value.data_ptr()) for name, value in weights(replay).items()} == before
    assert around[0].weight.device.type == "meta"
    assert not any(parameter.requires_grad for parameter in replay.parameters())


def test_it_is_pinned_where_there_is_cuda() -> None:
    assert make_replay().ring.is_pinned() == torch.cuda.is_available()
