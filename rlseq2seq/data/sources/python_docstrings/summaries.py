"""From a docstring to its first sentence and the rest, both as plain text without markup."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

# What ends a summary although no blank line comes before it: a field, a section, a list, a doctest, a directive.
_FIELD = re.compile(r":[a-z]+( [^:`]+)?:(\s|$)|[:@](param|return|returns|raise|raises|see|since|type|var)\b")
_SECTION = re.compile(
    r"(args|arguments|attributes|caveats?|examples?|exceptions?|explanation|input|inputs|keyword arg(ument)?s|kwargs"
    r"|methods?|notes?|options|output|outputs|parameters?|params|raises|references?|returns?|see also|side effects"
    r"|signature|throws|todo|usage|warnings?|warns|yields)\s*(:.{0,60})?$",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"([-*+•]|\(?\d+[.)]|\(?[a-z]\))\s")
_DOCTEST = re.compile(r"(>>>|In \[\d+\]:|\$ )")
_DIRECTIVE = re.compile(r"\.\.(\s|$)")
_RULE = re.compile(r"[^\w\s]{3,}$")
_SIGNATURE = re.compile(r"`{0,2}[\w.]+\s?\([^()]*(\([^()]*\)[^()]*)*\)`{0,2}\s*(->.*|--?|[:.])?$")

# A full stop after these ends no sentence; after the second kind it does if a capital follows.
_ABBREVIATION = re.compile(
    r"a\.k\.a|al|approx|ca|cf|dr|e\.g|eg|eq|eqn|eqns|eqs|esp|excl|figs?|i\.e|ie|incl|mrs?|pp|.*\.", re.IGNORECASE
)
_PERHAPS_ABBREVIATION = re.compile(
    r"abbrev|args?|ch|chap|coeff|dims?|ed|etc|ex|jr|max|min|no|num|p|par|prof|refs?|resp|sect?|spec|st|v\.s|viz|vol|vs"
    r"|w\.r\.t|wrt",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=[\"')\]`*]*(\s|$))")

_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\s*\[#?\w{1,12}\]_", ""),  # footnotes
        (r"(?::[\w.+-]+)?:[\w+-]+:`([^`<]+?)\s*<[^`>]+>`", r"\1"),  # :role:`text <target>`
        (r"(?::[\w.+-]+)?:[\w+-]+:`~(?:[\w.]*\.)?([^`]+)`", r"\1"),  # :role:`~package.name`
        (r"(?::[\w.+-]+)?:[\w+-]+:`!?([^`]+)`", r"\1"),
        (r"`([^`<]+?)\s*<[^`>]+>`_{0,2}", r"\1"),  # `text <address>`_
        (r"`{1,3}~?([^`]+?)`{1,3}_{0,2}", r"\1"),
        (r"\[([^\][]+)\](?:\([^)\s]+\)|\[[^\][]*\])", r"\1"),  # [text](address), [text][key]
        (r"\b[BCILMUX]\{([^{}]*)\}", r"\1"),  # epytext
        (r"</?(code|i|b|em|strong|tt|p)>", ""),
        (r"(?<![\w*])\*\*([^*\s][^*]*[^*\s]|[^*\s])\*\*(?![\w*])", r"\1"),
        (r"(?<![\w*])\*([^*\s][^*]*[^*\s]|[^*\s])\*(?![\w*])", r"\1"),
        (r"\$([^$]+)\$", r"\1"),
        (r"\\(?=[*_`|\s])", ""),  # escapes of markup
        (r"\s*(?<!\.)\.\.$", "."),
    )
)
# What every pattern above needs: most lines have none of it.
_MARKED = re.compile(r"[`*$\\{<\]]|\.\.$")


@dataclass(frozen=True)
class Summary:
    """The first sentence of a docstring, on one line, and what follows it. ``sentence`` is empty if there is none."""

    sentence: str
    rest: str


def summarize(docstring: str) -> Summary:
    """Take a docstring apart, without a signature or directive before its first sentence, and without doctests."""
    lines = inspect.cleandoc(docstring).splitlines()
    start = _skip_preamble(lines)
    stop = start
    while stop < len(lines) and not _ends_summary(lines, stop, start):
        stop += 1
    paragraph = " ".join(line.strip() for line in lines[start:stop])
    cut = sentence_end(paragraph)
    return Summary(
        sentence=_finish(plain_text(paragraph[:cut])),
        rest="\n".join(filter(None, map(plain_text, [paragraph[cut:], *_without_doctests(lines[stop:])]))),
    )


def _without_doctests(lines: list[str]) -> Iterator[str]:
    """Leave out examples with their output: they last until a blank line."""
    in_doctest = False
    for line in lines:
        in_doctest = bool(line.strip()) and (in_doctest or line.lstrip().startswith(">>>"))
        if not in_doctest:
            yield line


def plain_text(line: str) -> str:
    """Remove reStructuredText, Markdown and epytext markup, and underlining; join runs of blanks."""
    line = line.strip()
    if _RULE.match(line):
        return ""
    if _MARKED.search(line):
        for pattern, replacement in _MARKUP:
            line = pattern.sub(replacement, line)
    return " ".join(line.split())


def sentence_end(text: str) -> int:
    """Where the first sentence of ``text`` ends (its length if it has but one)."""
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        while end < len(text) and text[end] in "\"')]`*":
            end += 1
        before, after = text[: match.start()], text[end:].lstrip("\"'`*([ ")
        if match[0] == "." and after and _is_abbreviated(before, after):
            continue
        goes_on = end > match.end() and after[:1].islower()  # a quoted sentence within this one
        if not (goes_on or _is_open(text[:end])):
            return end
    return len(text)


def _is_abbreviated(before: str, after: str) -> bool:
    word = before.split()[-1].lstrip("([{'\"`*") if before.strip() else ""
    if _PERHAPS_ABBREVIATION.fullmatch(word):
        return not after[0].isupper()
    return _ABBREVIATION.fullmatch(word) is not None


def _is_open(text: str) -> bool:
    # Brackets of both kinds together: a half-open interval [0, 1) is closed.
    return sum(map(text.count, "([")) > sum(map(text.count, ")]")) or text.count("`") % 2 == 1


def _skip_preamble(lines: list[str]) -> int:
    """Index of the first line that may begin a summary."""
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        if _DIRECTIVE.match(line):
            index += 1
            while index < len(lines) and (not lines[index].strip() or lines[index][0].isspace()):
                index += 1
        elif not line or _RULE.match(line) or _SIGNATURE.match(line):
            index += 1
        else:
            break
    return index


def _ends_summary(lines: list[str], index: int, start: int) -> bool:
    line = lines[index].strip()
    if not line or any(kind.match(line) for kind in (_FIELD, _SECTION, _LIST_ITEM, _DOCTEST, _DIRECTIVE, _RULE)):
        return True
    if index == start:
        return False
    previous = lines[index - 1].strip()
    # A line broken long before the margin, where the next begins with a capital, is a sentence without its full stop.
    word = line.split()[0]
    return len(previous) + len(word) < 60 and re.match(r"[A-Z][a-z]+", word) is not None and previous[-1] not in ",-(/"


def _finish(sentence: str) -> str:
    """End with a full stop, whether or not the author did."""
    if sentence.count('"') + sentence.count("'") == 1:  # what is left of a pair that the next sentence closes
        sentence = sentence.strip("\"'")
    if not sentence or sentence[-1] == ":" or sentence.rstrip("\"')]")[-1:] in (".", "!", "?"):
        return sentence
    return sentence.rstrip(",;-") + "."
