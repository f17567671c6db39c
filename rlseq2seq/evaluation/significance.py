"""How far a score can be trusted: bootstrap intervals and paired randomisation tests over groups of pairs.

Pairs of one group (a module, a document) resemble one another, so they are no independent evidence: whole groups are
resampled. An empty group name makes a pair a group by itself.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Random numbers held at once: bounds memory, whatever the number of groups.
_BLOCK = 1 << 22


def group_totals(statistics: Floats, groups: Sequence[str]) -> Floats:
    """Sum ``statistics`` [pairs, counts] over the pairs of each group: [groups, counts], groups in order of name.

    Raises:
        ValueError: there are no pairs, or not as many groups as pairs.
    """
    if len(groups) != len(statistics) or not len(groups):
        raise ValueError(f"{len(groups)} groups for {len(statistics)} pairs: one each, and at least one, is needed")
    names = np.asarray(groups)
    distinct, index = np.unique(names, return_inverse=True)
    alone = names == ""
    index[alone] = len(distinct) + np.arange(alone.sum())
    index = np.unique(index, return_inverse=True)[1]
    totals = np.zeros((index.max() + 1, statistics.shape[1]))
    np.add.at(totals, index, statistics)
    return totals


def bootstrap(
    statistics: Floats, groups: Sequence[str], samples: int, seed: int, score: Callable[[Floats], Floats]
) -> tuple[float, float]:
    """95% interval of a corpus score, by the bootstrap percentile method over groups.

    Each sample draws as many groups as there are, with replacement, with all their pairs (Koehn, 2004, "Statistical
    Significance Tests for Machine Translation Evaluation", with groups for sentences).

    Args:
        statistics: [pairs, counts], whose sum over a corpus determines its score.
        groups: [pairs] names.
        samples: number of resampled corpora.
        seed: of the draws; the same for every system compared.
        score: sums [samples, counts] -> scores [samples].

    Returns:
        The 2.5% and 97.5% points of the resampled scores.

    Raises:
        ValueError: as `group_totals`.
    """
    totals = group_totals(statistics, groups)
    random = np.random.default_rng(seed)
    scores = []
    for block in _blocks(samples, len(totals)):
        draws = random.integers(len(totals), size=(block, len(totals)))
        draws += len(totals) * np.arange(block)[:, None]
        times_drawn = np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape)
        scores.append(score(times_drawn @ totals))
    low, high = np.percentile(np.concatenate(scores), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_interval(values: Floats, groups: Sequence[str], samples: int, seed: int) -> tuple[float, float]:
    """95% interval of the mean of ``values`` [pairs]. Groups differ in size, so a sample's mean is sum / count.

    Arguments and errors as `bootstrap`.
    """
    statistics = np.column_stack([values, np.ones(len(values))])
    return bootstrap(statistics, groups, samples, seed, lambda sums: sums[:, 0] / sums[:, 1])


def paired_difference(a: Floats, b: Floats, groups: Sequence[str], samples: int, seed: int) -> tuple[float, float]:
    """95% interval of the mean of ``a - b``, both [pairs] and of the same pairs. The rest as `bootstrap_interval`."""
    return bootstrap_interval(a - b, groups, samples, seed)


def paired_p_value(a: Floats, b: Floats, groups: Sequence[str], samples: int, seed: int) -> float:
    """Two-sided p-value of the mean of ``a - b``, by a paired randomisation test.

    If neither system were better, either's outputs for a group could as well be the other's; so the sign of each
    group's difference is drawn anew, and p is the share of draws as far from 0 as what was observed (Noreen, 1989,
    "Computer-Intensive Methods for Testing Hypotheses"; Riezler and Maxwell, 2005, "On Some Pitfalls in Automatic
    Evaluation and Significance Testing for MT"). The observed assignment counts as one draw, so p is never 0: its
    least value is 1 / (samples + 1).

    Args:
        a: [pairs] scores of one system.
        b: [pairs] scores of the other, for the same pairs.
        groups: [pairs] names.
        samples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: as `group_totals`.
    """
    differences = group_totals((a - b)[:, None], groups)[:, 0]
    # Sums that are equal but for rounding are ties, and ties count.
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    as_far = sum(
        int((np.abs(signs @ differences) >= observed).sum()) for signs in _signs(samples, len(differences), seed)
    )
    return (as_far + 1) / (samples + 1)


def corpus_difference(
    a: Floats, b: Floats, groups: Sequence[str], samples: int, seed: int, score: Callable[[Floats], Floats]
) -> tuple[float, float]:
    """95% interval of ``score`` of one system less that of the other, both on the same resampled groups.

    Args:
        a: [pairs, counts] statistics of one system.
        b: [pairs, counts] of the other, for the same pairs.
        groups: as the rest: see `bootstrap`.
    """
    counts = a.shape[1]
    both = np.hstack([a, b])
    return bootstrap(both, groups, samples, seed, lambda sums: score(sums[:, :counts]) - score(sums[:, counts:]))


def corpus_p_value(
    a: Floats, b: Floats, groups: Sequence[str], samples: int, seed: int, score: Callable[[Floats], Floats]
) -> float:
    """Two-sided p-value of the difference between two corpus scores, by the test of `paired_p_value`.

    A corpus score is no mean of the pairs' scores. So each draw exchanges the two systems' statistics for about half of
    the groups, and both corpora are scored anew (Riezler and Maxwell, 2005).

    Args:
        a: [pairs, counts] statistics of one system, whose sum over a corpus determines its score.
        b: [pairs, counts] of the other, for the same pairs.
        groups: [pairs] names.
        samples: number of draws.
        seed: of the draws.
        score: sums [samples, counts] -> scores [samples].

    Raises:
        ValueError: as `group_totals`.
    """
    differences, total = group_totals(a - b, groups), (a + b).sum(axis=0)

    def apart(signs: Floats) -> Floats:
        exchanged = signs @ differences
        return np.abs(score((total + exchanged) / 2) - score((total - exchanged) / 2))

    # Scores that are equal but for rounding are ties, and ties count.
    observed = float(apart(np.ones((1, len(differences))))[0]) - 1e-9
    as_far = sum(int((apart(signs) >= observed).sum()) for signs in _signs(samples, len(differences), seed))
    return (as_far + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of tests that are made together, in their order (Holm, 1979, "A Simple Sequentially Rejective
    Multiple Test Procedure").

    The i-th smallest of m (from 0) is multiplied by m - i, is never below what a smaller one became, nor above 1. At
    any level, what is still below it is wrong, in one test or more, no more often than that, however the tests depend
    on each other.
    """
    corrected = [0.0] * len(p_values)
    so_far = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = so_far
    return corrected


def _signs(samples: int, groups: int, seed: int) -> Iterator[Floats]:
    """``samples`` rows of a sign, +1 or -1, for each group, in blocks."""
    random = np.random.default_rng(seed)
    for block in _blocks(samples, groups):
        yield 2 * random.integers(2, size=(block, groups), dtype=np.int8).astype(np.float64) - 1


def _blocks(samples: int, groups: int) -> Iterator[int]:
    """``samples`` in parts small enough that part x groups stays within `_BLOCK`."""
    size = max(1, _BLOCK // groups)
    for start in range(0, samples, size):
        yield min(size, samples - start)
