"""The vocabulary file of the TensorFlow RLSeq2Seq and of the pointer-generator before it: `word count` a line."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rlseq2seq.data.byte_lines import byte_lines
from rlseq2seq.errors import UserError


class FileWords(NamedTuple):
    """``words`` are normal; ``skipped`` lines before the last one read have words that no text can hold."""

    words: list[str]
    skipped: int


def read_words(path: Path, count: int, normalize: Callable[[str], str]) -> FileWords:
    """The first ``count`` words of ``path`` that texts can hold, in the file's order.

    Args:
        path: a word, spaces or a tab, and how often it was seen, a line; most frequent first; ``.gz`` or not.
        count: words at most; the file may have fewer.
        normalize: what is done to a text before its words are looked up. A word that it changes into one that came
            before, or into several words or none, is skipped: in lower case, "The" is "the".

    Raises:
        UserError: the file is missing, has a line that is no word and count, or has no words.
    """
    if not path.is_file():
        raise UserError(
            f"tokenization.vocabulary_file asks for '{path}', and there is no such file: put it there, or correct "
            "params.yaml"
        )
    words: dict[str, None] = {}
    skipped = 0
    for number, line in byte_lines(path):
        if len(words) == count:
            break
        normal = normalize(_word(line, f"{path}, line {number}")).split()
        if len(normal) == 1 and normal[0] not in words:
            words[normal[0]] = None
        else:
            skipped += 1
    if not words:
        raise UserError(f"{path} has no words: a vocabulary file has a word and its count a line")
    return FileWords(list(words), skipped)


def _word(line: bytes, where: str) -> str:
    try:
        word, times = line.rsplit(maxsplit=1)  # as bytes, so that a no-break space is a word: one that is skipped
        if int(times) >= 0:
            return word.decode()
    except ValueError:  # of the decoding, of a missing field, of a count that is none
        pass
    raise UserError(f"{where} is no word and its count: correct or take out the line") from None
