"""Words of a text, by three rules: what rewards and text statistics count.

``surface`` sees every character that is not a space, so nothing a model writes goes uncounted, and ``cased`` sees
whether it is a capital too, as BLEU does of most translations. ``rouge`` sees what the rouge-score package sees: runs
of a-z and 0-9, and neither punctuation nor letters of other alphabets.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Literal

WordRule = Literal["surface", "cased", "rouge"]

# Letters and digits of any alphabet hold together; an underscore is a mark like any other, as in get_tensor.
_SURFACE = re.compile(r"[^\W_]+|\S")
_ROUGE = re.compile(r"[a-z0-9]+")

_FINAL_SIGMA, _SIGMA = "\u03c2", "\u03c3"


def split_words(text: str, rule: WordRule) -> list[str]:
    """Split ``text`` into words, which are lower-cased, but for ``cased``.

    A lower-cased sigma at the end of a word counts as any other: a piece of a word does not tell whether it ends there.

    ``surface``: a run of letters and digits (Unicode) is a word, and every other character that is not a space is a
    word by itself: punctuation marks, symbols, underscores, combining marks that stand apart from their letter.
    Joined, the words are the lower-cased text without its spaces. A run of a script written without spaces is one
    word.

    ``cased``: the same, spelled as they are.

    ``rouge``: what ``rouge_score.tokenizers.DefaultTokenizer(use_stemmer=False)`` gives.
    """
    if rule == "cased":
        return _SURFACE.findall(text)
    pattern = _SURFACE if rule == "surface" else _ROUGE
    return pattern.findall(text.lower().replace(_FINAL_SIGMA, _SIGMA))


def cut_words(text: str, words: int) -> str:
    """The beginning of ``text`` up to the end of its ``words``-th surface word, spelled and spaced as it was."""
    ends = [match.end() for match in islice(_SURFACE.finditer(text), words)]
    return text[: ends[-1]].lstrip() if ends else ""


def mean_words(texts: Iterable[str]) -> float:
    """Mean number of surface words of ``texts``; 0 where there are no texts."""
    lengths = [len(split_words(text, "surface")) for text in texts]
    return sum(lengths) / len(lengths) if lengths else 0.0
