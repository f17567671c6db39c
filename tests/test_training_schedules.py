import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq2seq.config.training import OptimizerConfig
from rlseq2seq.training.schedules import learning_rate


def config(decay: str, warmup: int) -> OptimizerConfig:
    return OptimizerConfig(name="adam", warmup_steps=warmup, decay=decay, gradient_clip=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decay", "warmup", "rates"),
    [
        # Warm-up of 3: a quarter, a half, three quarters, and then the peak of 8 at step 3.
        ("constant", 3, [2, 4, 6, 8, 8, 8, 8]),
        ("linear", 3, [2, 4, 6, 8, 6, 4, 2]),
        # 8 (1 + cos(pi k / 4)) / 2 for k = 0 .. 3
        ("cosine", 3, [2, 4, 6, 8, 6.82842712474619, 4, 1.1715728752538097]),
        ("constant", 0, [8, 8, 8, 8, 8, 8, 8]),
        ("linear", 0, [8, 48 / 7, 40 / 7, 32 / 7, 24 / 7, 16 / 7, 8 / 7]),
        # A run that ends before its warm-up does.
        ("linear", 15, [0.5, 1, 1.5, 2, 2.5, 3, 3.5]),
        ("cosine", 7, [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_rates_by_hand(decay: str, warmup: int, rates: list[float]) -> None:
    assert [learning_rate(step, 7, 8.0, config(decay, warmup)) for step in range(7)] == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_rate_would_be_0_after_the_last_step(decay: str) -> None:
    assert learning_rate(50, 50, 1.0, config(decay, 5)) == pytest.approx(0, abs=1e-12)


@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 50), st.integers(1, 60), st.floats(1e-9, 1e3))
def test_rates_are_positive_rise_to_the_peak_and_fall(decay: str, warmup: int, total: int, peak: float) -> None:
    rates = [learning_rate(step, total, peak, config(decay, warmup)) for step in range(total)]
    assert all(0 < rate <= peak for rate in rates)
    rising, falling = rates[: warmup + 1], rates[warmup:]
    assert rising == sorted(rising) and falling == sorted(falling, reverse=True)
    assert total <= warmup or rates[warmup] == peak
