"""Which first sentences make sense as the summary of a function."""

import re

MIN_WORDS = 3
MAX_WORDS = 30
_MIN_LETTERS = 0.8
_MAX_FOREIGN = 0.05

_WORD = re.compile(r"\w+")
_POINTS_ELSEWHERE = re.compile(
    r"""(see|refer\ to|cf)\b(?!\ (if|whether|how|which))
    | ((the\ )?same\ as|(just|exactly)\ (as|like)|alias)\b
    | (doc|docs|docstring|documentation)\b
    | (inherit|overrid|overload|override|implement)(s|ed|ing|en)?\b.*\b(base|parent|super|abstract|from|docstring)
    | implements?\ \S+\.$
    | wrapper\ (for|around|of)\ \S+\.$
    | .*\b(base|parent|super)\ ?class\.$
    | .*\b(docstring|documentation)\b.*\bdetails
    | .*__doc__""",
    re.IGNORECASE | re.VERBOSE,
)
_OBSOLETE = re.compile(
    r"""\W*(deprecated|obsolete|legacy)\b
    | .*\b(is|are|was|been|now)\ (deprecated|obsolete|superseded)
    | .*\bdeprecated\ (since|in\ favou?r|method|alias|function)""",
    re.IGNORECASE | re.VERBOSE,
)
_REMARK = re.compile(
    r"""\W*(
      (todo|fixme|xxx|nb|n\.b|notes?|warning|important|unused|placeholder)\b
    | hack:
    | (we|i)\b
    | (this\ is|to\ be)\ (for|used|called|needed)\b
    | internal(\ use)?(\ only)?\W*$
    | (only\ )?for\ internal\ use
    | (do\ not|don't|not)\ (use|call|implemented|supported)
    | (unit\ ?)?tests?\ (that|case|of)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_UNFINISHED = re.compile(
    r"(.*\W)?(the|an|and|or|of|by|where|is|are|be|becomes?|follows|following|as|that|when|if|via|i\.e|e\.g)[ .:]*$|.*:$"
)
# A call, an assignment, what English has no signs for.
_CODE = re.compile(r"[@\w.]*\w\(|\S+ :?=+ |.*([\\{}`]|->|=>|<-|>>>|%\(|%s|::|\)\.\w|;$|https?:)")


def objection(sentence: str) -> str | None:
    """Why ``sentence`` is no summary, in a word or two, or None if it is one."""
    words = len(_WORD.findall(sentence))
    if not words:
        return "no summary"
    if not MIN_WORDS <= words <= MAX_WORDS:
        return "too short" if words < MIN_WORDS else "too long"
    if sum(not character.isascii() for character in sentence) > _MAX_FOREIGN * len(sentence):
        return "not English"
    reasons = (
        (_POINTS_ELSEWHERE, "points elsewhere"),
        (_OBSOLETE, "obsolete"),
        (_REMARK, "a remark"),
        (_UNFINISHED, "unfinished"),
    )
    for pattern, reason in reasons:
        if pattern.match(sentence):
            return reason
    if _looks_like_code(sentence):
        return "code"
    return None


def _looks_like_code(sentence: str) -> bool:
    letters = sum(character.isalpha() or character in " .,'-" for character in sentence)
    unbalanced = sum(map(sentence.count, "([")) != sum(map(sentence.count, ")]"))
    return (
        letters < _MIN_LETTERS * len(sentence)
        or unbalanced
        or not (sentence[0].isalnum() or sentence[0] in "\"'_")
        or _CODE.match(sentence) is not None
    )
