"""Rewards on the n-grams of what is written: whether they repeat, and whether the source has them.

In batched tensor operations on hashes of words, of which a column may hold an unfinished state (`ops.word_hashes`).
Each takes what is `Compared` and returns [N], or [N, T] where prefixes were asked for.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlseq2seq.ops import WordHashes
from rlseq2seq.rewards.units import Compared

# Of a polynomial over the hashes of words, modulo 2^64; odd, and another than that of the hashes themselves.
_BASE = 0xD1342543DE82EF95 - (1 << 64)


def repetition(compared: Compared, n: int) -> Tensor:
    """Minus the share of n-grams that stood earlier in the same text: -1 to 0, and 0 where there is no n-gram."""
    words = compared.written
    values, complete = ngram_values(words, n), _complete(words, n)
    settled = _settled(words)
    # Equal ones come to stand side by side, in the order of their columns. A state that is gone
    # on with has not stood earlier: the word did that it grew to.
    ordered, order = values.sort(dim=1, stable=True)
    original = (settled & complete).gather(1, order)
    before = original.cumsum(1) - original.long()
    first = torch.ones_like(original)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    repeats = before > torch.where(first, before, 0).cummax(1).values if values.shape[1] else original
    return -_share(words, n, torch.zeros_like(complete).scatter(1, order, repeats) & complete)


def novelty(compared: Compared, n: int) -> Tensor:
    """Share of n-grams that are nowhere in the source (See et al. 2017, figure 6); 0 where there is no n-gram."""
    words = compared.written
    return _share(words, n, _complete(words, n) & ~_in_source(compared, n))


def copy_rate(compared: Compared) -> Tensor:
    """Share of words that are in the source; 0 where there is no word."""
    words = compared.written
    return _share(words, 1, _complete(words, 1) & _in_source(compared, 1))


def ngram_values(words: WordHashes, n: int) -> Tensor:
    """Hashes [N, W] of the n-grams that end with the word of each column; undefined where fewer words are before."""
    values = words.hashes
    if n > 1 and values.numel():
        before = (_beginnings(words) - 1).clamp(min=0)
        for _ in range(n - 1):
            values = values.gather(1, before) * _BASE + words.hashes
    return values


def word_counts(words: WordHashes) -> Tensor:
    """Numbers of words [N], or [N, T] of those of each prefix."""
    return words.lengths if words.ends is None else _at_ends(words, _numbers(words))


def _share(words: WordHashes, n: int, counted: Tensor) -> Tensor:
    """Of all n-grams of each text, or prefix, those of columns that are ``counted`` [N, W]."""
    total = (word_counts(words) - n + 1).clamp(min=1)
    if words.ends is None:
        return counted.sum(1) / total
    # A state that is gone on with counts only where a prefix ends with it.
    settled = _settled(words)
    return _at_ends(words, (counted & settled).cumsum(1) + (counted & ~settled)) / total


def _in_source(compared: Compared, n: int) -> Tensor:
    """Whether the source has the n-gram that ends with a column [N, W]."""
    words, sources = compared.written, compared.sources
    # What is no n-gram gets a value that an n-gram has as seldom as two that differ have the same.
    known = ngram_values(sources, n).masked_fill(~_complete(sources, n), torch.iinfo(torch.int64).max).sort(1).values
    if not known.shape[1]:
        return torch.zeros_like(words.hashes, dtype=torch.bool)
    values = ngram_values(words, n).reshape(len(known), -1)
    places = torch.searchsorted(known, values)
    found = known.gather(1, places.clamp(max=known.shape[1] - 1)) == values
    return found.view_as(words.hashes)


def _there(words: WordHashes) -> Tensor:
    """Which columns hold a word [N, W]."""
    return torch.arange(words.hashes.shape[1], device=words.hashes.device) < words.lengths[:, None]


def _goes_on(words: WordHashes) -> Tensor:
    """Which columns hold the word of the column before, grown [N, W]."""
    there = _there(words)
    return torch.zeros_like(there) if words.continues is None else words.continues & there


def _settled(words: WordHashes) -> Tensor:
    """Which columns hold words that are not gone on with [N, W]."""
    return ~pad(_goes_on(words)[:, 1:], (0, 1)) if words.hashes.shape[1] else _there(words)


def _numbers(words: WordHashes) -> Tensor:
    """How many words the columns up to each one hold [N, W]."""
    return (~_goes_on(words)).cumsum(1)


def _beginnings(words: WordHashes) -> Tensor:
    """The column in which the word of each column begins [N, W]."""
    columns = torch.arange(words.hashes.shape[1], device=words.hashes.device)
    return torch.where(_goes_on(words), 0, columns).cummax(1).values


def _complete(words: WordHashes, n: int) -> Tensor:
    """Which columns end an n-gram [N, W]."""
    return _there(words) & (_numbers(words) >= n)


def _at_ends(words: WordHashes, values: Tensor) -> Tensor:
    """Values [N, T] at the ends of each prefix of those [N, W] of columns; 0 where it holds no word."""
    assert words.ends is not None
    return pad(values, (1, 0)).gather(1, words.ends)
