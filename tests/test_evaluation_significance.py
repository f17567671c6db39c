import random as random_module
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from rlseq2seq.evaluation import significance
from rlseq2seq.evaluation.metrics import CorpusMetric, bleu
from rlseq2seq.evaluation.significance import (
    bootstrap,
    bootstrap_interval,
    corpus_difference,
    corpus_p_value,
    group_totals,
    holm,
    paired_difference,
    paired_p_value,
)

Floats = NDArray[np.float64]
TRIALS = 300


def _array(*values: float) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _clustered(random: np.random.Generator, groups: int, mean: float) -> tuple[Floats, list[str]]:
    """Values around ``mean``, in groups of one to nine pairs that share half of their variance."""
    sizes = random.integers(1, 10, size=groups)
    names = np.repeat([f"g{number}" for number in range(groups)], sizes)
    shared = np.repeat(random.normal(size=groups), sizes)
    return mean + shared + random.normal(size=len(names)), list(names)


def test_group_totals_by_hand() -> None:
    statistics = np.asarray([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0], [5.0, 50.0]])
    totals = group_totals(statistics, ["b", "", "a", "b", ""])
    assert totals.tolist() == [[3, 30], [5, 50], [2, 20], [5, 50]]  # a, b, and two pairs by themselves


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "b", "c"]])
def test_groups_must_match_pairs(groups: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(groups)} groups for 2 pairs"):
        group_totals(np.ones((2, 1)), groups)


def test_no_pairs_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(_array(), [], samples=100, seed=0)


def test_bootstrap_draws_whole_groups() -> None:
    """Of groups a = {0} and b = {1, 1, 1}: twice a has mean 0, each once 3 / 4 and twice b 1, in odds 1 : 2 : 1."""
    seen: list[Floats] = []

    def mean(sums: Floats) -> Floats:
        seen.append(sums[:, 0] / sums[:, 1])
        return seen[-1]

    statistics = np.asarray([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    interval = bootstrap(statistics, ["a", "b", "b", "b"], samples=20_000, seed=0, score=mean)
    values, counts = np.unique(np.concatenate(seen), return_counts=True)
    assert values.tolist() == [0, 0.75, 1]
    assert counts / 20_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    assert interval == (0, 1)
    assert interval == bootstrap_interval(_array(0, 1, 1, 1), ["a", "b", "b", "b"], samples=20_000, seed=0)


def test_interval_of_one_group_is_its_mean() -> None:
    assert bootstrap_interval(_array(1, 2, 6), ["a", "a", "a"], samples=100, seed=0) == (3, 3)


def test_pairs_without_a_group_are_drawn_one_by_one() -> None:
    values = np.arange(400.0)
    low, high = bootstrap_interval(values, [""] * 400, samples=4000, seed=0)
    # Mean 199.5, standard error 115.47 / 20.
    assert (low, high) == pytest.approx((199.5 - 1.96 * 5.77, 199.5 + 1.96 * 5.77), abs=0.8)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    by_group = by_pair = 0
    for _ in range(TRIALS):
        values, groups = _clustered(random, groups=60, mean=3)
        low, high = bootstrap_interval(values, groups, samples=400, seed=0)
        by_group += low <= 3 <= high
        low, high = bootstrap_interval(values, [""] * len(values), samples=400, seed=0)
        by_pair += low <= 3 <= high
    assert 0.91 <= by_group / TRIALS <= 0.98
    assert by_pair / TRIALS < 0.85  # what resampling pairs would have claimed to be 95%


def test_p_value_is_uniform_when_there_is_no_difference() -> None:
    random = np.random.default_rng(0)
    by_group, by_pair = [], []
    for _ in range(TRIALS):
        values, groups = _clustered(random, groups=40, mean=0)
        by_group.append(paired_p_value(values, np.zeros_like(values), groups, samples=200, seed=0))
        by_pair.append(paired_p_value(values, np.zeros_like(values), [""] * len(values), samples=200, seed=0))
    for level in (0.05, 0.25, 0.5, 0.75):
        deviation = np.sqrt(level * (1 - level) / TRIALS)
        assert np.mean(np.asarray(by_group) <= level) == pytest.approx(level, abs=3 * deviation)
    assert np.mean(np.asarray(by_pair) <= 0.05) > 0.12  # what pairs taken for independent would have claimed


def test_p_value_finds_an_effect() -> None:
    random = np.random.default_rng(0)
    values, groups = _clustered(random, groups=200, mean=0.5)
    noise = random.normal(size=len(values))
    assert paired_p_value(values + noise, noise, groups, samples=2000, seed=0) == 1 / 2001
    assert paired_p_value(noise, values + noise, groups, samples=2000, seed=0) == 1 / 2001
    low, high = paired_difference(values + noise, noise, groups, samples=2000, seed=0)
    assert 0 < low < 0.5 < high < 1


@pytest.mark.parametrize(
    ("differences", "groups", "p_value"),
    [
        ([2.0, 3.0], ["a", "a"], 1.0),  # one group: both signs are as far from 0
        ([1.0, 1.0], ["", ""], 1 / 2),  # ++ and -- of four
        ([1.0, 1.0, 1.0], ["a", "b", "c"], 1 / 4),  # +++ and --- of eight
        ([3.0, -1.0, 1.0], ["a", "b", "c"], 3 / 4),  # |3 - 1 + 1| or more: all but +-- and -++ of eight
        ([3.0, -1.0, 1.0], ["a", "b", "b"], 1.0),  # b cancels out
        ([0.0, 0.0], ["", ""], 1.0),
        ([0.1, 0.2, 0.3, -0.3], ["a", "b", "c", "d"], 3 / 4),  # half of them ties, but for rounding
    ],
)
def test_p_value_by_hand(differences: list[float], groups: list[str], p_value: float) -> None:
    zeros = np.zeros(len(differences))
    got = paired_p_value(_array(*differences), zeros, groups, samples=20_000, seed=0)
    assert got == pytest.approx(p_value, abs=0.015)
    assert 0 < got <= 1


def test_order_of_the_pairs_does_not_matter() -> None:
    random = np.random.default_rng(0)
    values, groups = _clustered(random, groups=50, mean=0.2)
    other = random.normal(size=len(values))
    order = random.permutation(len(values))
    shuffled = [groups[pair] for pair in order]
    for function in (paired_difference, paired_p_value):
        straight = function(values, other, groups, samples=500, seed=3)
        assert function(values[order], other[order], shuffled, samples=500, seed=3) == pytest.approx(straight)


def test_seed_decides() -> None:
    values, groups = _clustered(np.random.default_rng(0), groups=50, mean=0)
    first, again, other = (bootstrap_interval(values, groups, samples=500, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_every_sample_counts_once_however_they_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = _clustered(np.random.default_rng(0), groups=50, mean=0.25)
    whole = paired_p_value(values, np.zeros_like(values), groups, samples=5000, seed=0)
    interval = bootstrap_interval(values, groups, samples=5000, seed=0)
    monkeypatch.setattr(significance, "_BLOCK", 7 * 50)
    counts: list[int] = []

    def count(sums: Floats) -> Floats:
        counts.append(len(sums))
        return sums[:, 0]

    bootstrap(np.ones((len(values), 1)), groups, samples=5000, seed=0, score=count)
    assert sum(counts) == 5000 and max(counts) == 7
    assert paired_p_value(values, np.zeros_like(values), groups, samples=5000, seed=0) == pytest.approx(whole, abs=0.03)
    assert bootstrap_interval(values, groups, samples=5000, seed=0) == pytest.approx(interval, abs=0.03)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # times 3, 1 (but not below 0.06), 2 and 4
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.5, 0.9, 0.001], [1.0, 1.0, 0.003]),
    ],
)
def test_holm_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_holm_finds_what_is_not_there_no_more_often_than_its_level() -> None:
    random = np.random.default_rng(0)
    # Five tests of nothing among five of something, which is found and so does not count any more.
    wrong = [min(holm([*random.uniform(size=5), *[1e-4] * 5])[:5]) <= 0.05 for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(1 - 0.99**5, abs=0.012)


def _translations(count: int, better: float) -> tuple[list[str], list[str], list[str]]:
    """Outputs of two systems, of which the first is right a little more often, and the references."""
    chooser = random_module.Random(0)
    words = [
        "a",
        "man",
        "in",
        "blue",
        "shirt",
        "stands",
        "on",
        "the",
        "ladder",
        "and",
        "cleans",
        "window",
        "of",
        "house",
    ]
    references = [" ".join(chooser.choices(words, k=chooser.randint(5, 14))) for _ in range(count)]

    def system(share: float) -> list[str]:
        return [
            " ".join(word if chooser.random() < share else chooser.choice(words) for word in text.split())
            for text in references
        ]

    return system(0.6 + better), system(0.6), references


@pytest.mark.parametrize("better", [0.0, 0.015, 0.03, 0.2])
def test_p_value_of_bleu_is_that_of_sacrebleu(better: float) -> None:
    ours, theirs, references = _translations(250, better)
    a, b = (bleu(texts, [[text] for text in references], lowercase=False) for texts in (ours, theirs))
    found = corpus_p_value(a.statistics, b.statistics, [""] * 250, samples=4000, seed=1, score=a.scores)
    systems: list[tuple[str, Sequence[str]]] = [("theirs", theirs), ("ours", ours)]
    _, results = PairedTest(systems, {"bleu": BLEU()}, [references], test_type="ar", n_samples=4000)()
    (result,) = (column[1] for name, column in results.items() if name != "System")
    # Each is a share of 4,000 draws.
    error = 4 * (2 * max(found * (1 - found), 1e-3) / 4000) ** 0.5
    assert not isinstance(result, str) and result.p_value == pytest.approx(found, abs=error)


def _bleu_of(*texts: str) -> CorpusMetric:
    return bleu(texts, [["a b c d e"]] * len(texts), lowercase=False)


@pytest.mark.parametrize(
    ("a", "b", "groups", "p_value"),
    [
        (["a b c d e"] * 2, ["a b c d"] * 2, ["x", "x"], 1.0),  # one group: exchanged as a whole, it is as far
        (["a b c d e"] * 2, ["a b c d"] * 2, ["", ""], 1 / 2),
        (["a b c d e"] * 3, ["a b c d"] * 3, ["x", "y", "z"], 1 / 4),
        (["a b c d e", "a b c d"], ["a b c d", "a b c d e"], ["", ""], 1.0),  # equal as corpora
    ],
)
def test_p_value_of_bleu_by_hand(a: list[str], b: list[str], groups: list[str], p_value: float) -> None:
    one, other = _bleu_of(*a), _bleu_of(*b)
    got = corpus_p_value(one.statistics, other.statistics, groups, samples=20_000, seed=0, score=one.scores)
    assert got == pytest.approx(p_value, abs=0.015)


def test_of_means_the_corpus_tests_are_the_paired_ones() -> None:
    random = np.random.default_rng(0)
    values, groups = _clustered(random, groups=40, mean=0.3)
    other = random.normal(size=len(values))
    a, b = (np.column_stack([column, np.ones(len(values))]) for column in (values, other))

    def mean(sums: Floats) -> Floats:
        return sums[:, 0] / sums[:, 1]

    found = corpus_difference(a, b, groups, 2000, 0, mean)
    assert found == pytest.approx(paired_difference(values, other, groups, 2000, 0))
    assert found[0] < (values - other).mean() < found[1]
    p_value = corpus_p_value(a, b, groups, 2000, 0, lambda totals: totals[:, 0])
    assert p_value == paired_p_value(values, other, groups, 2000, 0)


def test_interval_of_a_difference_in_bleu_covers_it_as_often_as_it_says() -> None:
    """Of two systems that are alike, 0: in 95 of 100 corpora."""
    covered = 0
    ours, theirs, references = _translations(6000, 0.0)
    for start in range(0, 6000, 60):
        part = slice(start, start + 60)
        a, b = (bleu(texts[part], [[text] for text in references[part]], lowercase=False) for texts in (ours, theirs))
        low, high = corpus_difference(a.statistics, b.statistics, [""] * 60, 200, 0, a.scores)
        covered += low <= 0 <= high
    assert 88 <= covered <= 99
