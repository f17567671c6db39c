"""The binary files of the TensorFlow RLSeq2Seq and of the pointer-generator before it, without TensorFlow.

A file is examples one after the other, each an 8-byte little-endian length and that many bytes of a tf.Example with the
features ``article`` and ``abstract`` (sentences between <s> and </s>), texts in UTF-8.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from rlseq2seq.data.pairs import Corpus
from rlseq2seq.data.sources.splits import FROM_A_FOLDER, Rows, assemble, by_split
from rlseq2seq.errors import UserError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers
_SENTENCE = re.compile(r"<s>(.*?)</s>", re.DOTALL)


def load(path: str) -> Corpus:
    """Pairs of the files ``train*.bin``, ``val*.bin`` and ``test*.bin`` in a folder, or in ``chunked`` there.

    Raises:
        UserError: there are none (here); one is cut short or something else (from the iterators).
    """
    folders = [Path(path), Path(path) / "chunked"]
    splits = next(filter(None, (by_split(folder.glob("*.bin"), folder) for folder in folders)), {})
    if not splits:
        raise UserError(f"{path} has no train*.bin, val*.bin and test*.bin: name their folder (data.path)")
    readers = {split: partial(_rows, paths) for split, paths in splits.items()}
    return assemble(readers, path, [FROM_A_FOLDER])


def _rows(paths: Sequence[Path]) -> Rows:
    for path in paths:
        for number, example in enumerate(examples(path), start=1):
            where = f"{path}, example {number}"
            try:
                features = read_features(example)
                texts = {name: b"".join(features[name]).decode() for name in ("article", "abstract")}
            except KeyError as error:
                raise UserError(f"{where} has no feature {error}: it needs article and abstract") from None
            except (ValueError, IndexError, struct.error):
                raise UserError(f"{where} is no tf.Example of texts in UTF-8: make or copy the file again") from None
            sentences = [sentence.strip() for sentence in _SENTENCE.findall(texts["abstract"])]
            yield {"source": texts["article"], "target": " ".join(sentences) or texts["abstract"]}


def examples(path: Path) -> Iterator[bytes]:
    """The bytes of each example.

    Raises:
        UserError: the file cannot be read, or ends within an example.
    """
    number = 0
    try:
        with path.open("rb") as file:
            left = path.stat().st_size
            while prefix := file.read(8):
                length = struct.unpack("<q", prefix)[0] if len(prefix) == 8 else -1
                left -= 8 + length
                if length < 0 or left < 0:
                    raise UserError(f"{path} is cut short or damaged after example {number}: make or copy it again")
                number += 1
                yield file.read(length)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): see to its permissions and its disk") from None


def read_features(example: bytes) -> dict[str, list[bytes]]:
    """The values of each feature of a tf.Example that is a list of bytes.

    ``Example{Features features = 1}``, ``Features{map<string, Feature> feature = 1}``, ``Feature{BytesList = 1}``,
    ``BytesList{repeated bytes value = 1}`` (tensorflow/core/example).

    Raises:
        ValueError, IndexError: these bytes are no such thing.
    """
    found: dict[str, list[bytes]] = {}
    for features in fields(example, 1):
        for entry in fields(features, 1):
            for name in fields(entry, 1):
                lists = [values for feature in fields(entry, 2) for values in fields(feature, 1)]
                found[name.decode()] = [value for values in lists for value in fields(values, 1)]
    return found


def fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """What the fields with the number ``wanted`` of a protocol buffer hold, those of a length in bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _LENGTH:
            length, place = _varint(message, place)
        elif kind == _VARINT:
            start = place
            _, place = _varint(message, place)
            length, place = place - start, start
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("a field ends behind its message")
        if number == wanted and kind == _LENGTH:
            yield message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift >= 70:
            raise ValueError("a number of more than 64 bits")
