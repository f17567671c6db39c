"""Pretrained vectors of words, read from a text file: what an embedding may start from.

A line is a word and its numbers, as GloVe writes them (Pennington et al. 2014); word2vec's text format has a line with
the number of words and the size before them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from rlseq2seq.data.byte_lines import byte_lines
from rlseq2seq.errors import UserError
from rlseq2seq.token_ids import END

_FILE = "word_vectors.safetensors"
_LARGEST = float(np.finfo(np.float32).max)


class WordVectors(NamedTuple):
    """``vectors`` [M, E] float32 of the pieces ``ids`` [M] int64, which ascend."""

    ids: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]

    def save(self, folder: Path) -> None:
        save_file(self._asdict(), folder / _FILE)


def load_word_vectors(folder: Path) -> WordVectors | None:
    """What `WordVectors.save` wrote into ``folder``, or None if nothing did."""
    return WordVectors(**load_file(folder / _FILE)) if (folder / _FILE).is_file() else None


def read_word_vectors(path: Path, piece_texts: Iterable[str]) -> WordVectors:
    """The vectors in ``path`` of the pieces that are whole words: those that begin one, and punctuation.

    ``piece_texts`` are `Vocabulary.piece_texts`. The file is read line by line. Of a word that it has twice, the first
    vector counts.

    Raises:
        UserError: the file is missing, cut or empty, has vectors of several sizes, a number that is none in a vector
            that is wanted, or none of the pieces.
    """
    if not path.is_file():
        raise UserError(
            f"tokenization.word_vectors asks for '{path}', and there is no such file: put it there, or correct "
            "params.yaml"
        )
    wanted, size = _whole_words(piece_texts), 0
    found: dict[int, list[float]] = {}
    for number, ended_line in tqdm(byte_lines(path), desc="reading word vectors", unit=" words", delay=2):
        line, where = ended_line.rstrip(), f"{path}, line {number}"
        if not line or (number == 1 and _is_header(line)):
            continue
        size = size or line.count(b" ")
        word = _word(line, size, where)
        for id_ in wanted.pop(word, ()):
            found[id_] = [_number(field, where) for field in line[len(word) + 1 :].split(b" ")]
    if not size:
        raise UserError(f"{path} is empty: a file of word vectors has a word and its numbers a line")
    if not found:
        raise UserError(
            f"{path} has none of the vocabulary's words: see to its language, and that both are in lower case or "
            "neither (tokenization.lowercase)"
        )
    ids = sorted(found)
    return WordVectors(np.array(ids, np.int64), np.array([found[id_] for id_ in ids], np.float32))


def _whole_words(piece_texts: Iterable[str]) -> dict[bytes, list[int]]:
    words: dict[bytes, list[int]] = {}
    for id_, text in enumerate(piece_texts):
        word = text.strip()
        if id_ > END and word and (text.startswith(" ") or not any(character.isalnum() for character in word)):
            words.setdefault(word.encode(), []).append(id_)
    return words


def _is_header(line: bytes) -> bool:
    fields = line.split(b" ")
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _word(line: bytes, size: int, where: str) -> bytes:
    spaces = line.count(b" ")
    if not spaces:
        raise UserError(f"{where} has a word and no numbers: a line is both, with a space between any two")
    if spaces == size:
        return line[: line.index(b" ")]
    # Some files have words with spaces in them (GloVe's of Common Crawl: ". . ."), but none whose end is a number.
    word = line.rsplit(b" ", size)[0]
    if spaces < size or _is_number(word.rsplit(b" ", 1)[-1]):
        raise UserError(
            f"{where} has {spaces} numbers and the lines before it {size}: the vectors of a file are all of one size"
        )
    return word


def _is_number(field: bytes) -> bool:
    try:
        return abs(float(field)) <= _LARGEST  # nan is not
    except ValueError:
        return False


def _number(field: bytes, where: str) -> float:
    if not _is_number(field):
        raise UserError(f"{where}: {field.decode(errors='replace')!r} is no number: correct or take out the line")
    return float(field)
