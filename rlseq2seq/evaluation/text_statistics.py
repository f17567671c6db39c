"""What a score does not show: how long texts are, whether they repeat themselves, what they are made of.

A reward that can be cheated shows here first: rows of commas, loops, empty or endless texts.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from rlseq2seq.rewards.words import split_words


def text_statistics(texts: Sequence[str], sources: Sequence[str]) -> dict[str, float]:
    """Describe what a system wrote, in surface words (`split_words`), where a punctuation mark is a word.

    Shares are of all n-grams of all texts together, so a text too short to have an n-gram counts neither way, and a
    share of nothing is 0.

    Args:
        texts: [pairs] outputs.
        sources: [pairs] what each was made from.

    Returns:
        ``words``: mean number of words; ``empty``: number of texts without a word; and shares from 0 to 1 of
        ``repetition``: trigrams that stood earlier in the same text; ``punctuation``: words that are punctuation marks
        or symbols (Unicode categories P and S); ``novel_1``, ``novel_2``, ``novel_3``: n-grams that are nowhere in
        the source (as in See et al., 2017, figure 6).

    Raises:
        ValueError: ``texts`` and ``sources`` differ in length.
    """
    words = [split_words(text, "surface") for text in texts]
    total = sum(map(len, words))
    return {
        "words": total / max(len(words), 1),
        "empty": sum(not text for text in words),
        "repetition": _repetition(words),
        "punctuation": sum(_is_punctuation(word) for text in words for word in text) / max(total, 1),
        **_novelty(words, sources),
    }


def _is_punctuation(word: str) -> bool:
    return unicodedata.category(word[0])[0] in "PS"


def _repetition(texts: Sequence[list[str]]) -> float:
    trigrams = [_ngrams(text, 3) for text in texts]
    count = sum(map(len, trigrams))
    return (count - sum(len(set(text)) for text in trigrams)) / max(count, 1)


def _novelty(texts: Sequence[list[str]], sources: Sequence[str]) -> dict[str, float]:
    count, novel = Counter[int](), Counter[int]()
    for text, source in zip(texts, sources, strict=True):
        words = split_words(source, "surface")  # of one at a time: those of all may be gigabytes
        for n in (1, 2, 3):
            known, ngrams = set(_ngrams(words, n)), _ngrams(text, n)
            count[n] += len(ngrams)
            novel[n] += sum(ngram not in known for ngram in ngrams)
    return {f"novel_{n}": novel[n] / max(count[n], 1) for n in (1, 2, 3)}


def _ngrams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))
