"""Finding pairs that say the same: within the corpus, and between what is trained on and what is held out."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from rlseq2seq.data.sources.python_docstrings.harvest import Candidate

# Bodies below this many characters (``return self._name``) are alike by chance.
MIN_BODY_CHARACTERS = 80
# Targets of fewer words that differ in one of them say different things.
MIN_NEAR_WORDS = 5

_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the"})

Words = tuple[str, ...]


def normal_words(text: str) -> Words:
    """What counts when two targets are compared: words without case, articles, punctuation and a final s."""
    words = (word for word in _WORD.findall(text.lower()) if word not in _ARTICLES)
    return tuple(word.removesuffix("s") if len(word) > 3 else word for word in words)


def without_duplicates(candidates: Iterable[Candidate]) -> tuple[list[Candidate], Counter[str]]:
    """Keep the first of the candidates that have the same target or the same body, and count the others."""
    kept: list[Candidate] = []
    counts: Counter[str] = Counter()
    targets: set[Words] = set()
    bodies: set[str] = set()
    for candidate in candidates:
        words = normal_words(candidate.pair.target)
        body = candidate.body if len(candidate.body) >= MIN_BODY_CHARACTERS else None
        if words in targets:
            counts["duplicate_targets"] += 1
        elif body in bodies:
            counts["duplicate_bodies"] += 1
        else:
            kept.append(candidate)
        targets.add(words)
        if body is not None:
            bodies.add(body)
    return kept, counts


def far_from(held_out: Iterable[Candidate], candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keep the candidates that are near none of those held out.

    Near is a target that one word (changed, added or taken away) tells apart, or a function of the same name whose
    target shares half of the words: modules that mirror each other, as for two devices, do not help one another.
    """
    near: set[Words] = set()
    named: dict[str, list[frozenset[str]]] = {}
    for other in held_out:
        words = normal_words(other.pair.target)
        near.update(_near_keys(words))
        named.setdefault(other.pair.name, []).append(frozenset(words))

    def is_far(candidate: Candidate) -> bool:
        words = normal_words(candidate.pair.target)
        namesakes = named.get(candidate.pair.name, ())
        return near.isdisjoint(_near_keys(words)) and not any(_overlap(words, other) >= 0.5 for other in namesakes)

    return [candidate for candidate in candidates if is_far(candidate)]


def _overlap(words: Words, others: frozenset[str]) -> float:
    """Shared words over all words (Jaccard)."""
    return len(others.intersection(words)) / len(others.union(words))


def _near_keys(words: Words) -> Iterator[Words]:
    """The words, and the words less each one of them: what two targets share if one word tells them apart."""
    if len(words) >= MIN_NEAR_WORDS:
        yield words
        for index in range(len(words)):
            yield words[:index] + words[index + 1 :]
