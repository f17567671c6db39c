"""The forerunner's binary files, against a writer of the wire format written from its specification."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlseq2seq.data.pairs import SPLITS
from rlseq2seq.data.sources import tf_bin
from rlseq2seq.data.sources.tf_bin import examples, fields, read_features
from rlseq2seq.errors import UserError

# {"abstract": "<s> a </s>", "article": ""}: 47 bytes, worked out by hand from tensorflow/core/example/example.proto and
# feature.proto, and from the encoding of protocol buffers.
BY_HAND = bytes.fromhex(
    "0a2d"  # Example.features, 45 bytes
    "0a1a" "0a08" "6162737472616374" "120e" "0a0c" "0a0a" "3c733e2061203c2f733e"  # "abstract": "<s> a </s>"
    "0a0f" "0a07" "61727469636c65" "1204" "0a02" "0a00"  # "article": ""
)  # fmt: skip


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tf_example(**features: bytes | list[bytes]) -> bytes:
    entries = b""
    for name, values in features.items():
        listed = values if isinstance(values, list) else [values]
        content = field(1, b"".join(field(1, value) for value in listed))
        entries += field(1, field(1, name.encode()) + field(2, content))
    return field(1, entries)


def prefixed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("<q", len(message)) + message for message in messages)


def pair(article: str, abstract: str) -> bytes:
    return tf_example(article=article.encode(), abstract=abstract.encode())


def test_bytes_worked_out_by_hand() -> None:
    assert read_features(BY_HAND) == {"abstract": [b"<s> a </s>"], "article": [b""]}
    assert read_features(tf_example(abstract=b"<s> a </s>", article=b"")) == read_features(BY_HAND)


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.lists(st.binary(max_size=300), max_size=3), max_size=4))
def test_features_are_read_back(features: dict[str, list[bytes]]) -> None:
    assert read_features(tf_example(**features)) == features  # type: ignore[arg-type]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for read in (read_features, lambda data: list(fields(data, 1))):
        with suppress(ValueError, IndexError):
            read(message)


def test_other_features_and_wire_types_are_passed_over() -> None:
    numbers = field(1, field(1, b"length") + field(2, field(3, field(1, varint(300)))))  # an int64 list
    others = varint(2 << 3 | 0) + varint(2**63) + varint(3 << 3 | 1) + b"12345678" + varint(4 << 3 | 5) + b"1234"
    message = others + tf_example(article=b"a", abstract=b"b") + field(1, numbers) + others
    assert read_features(message) == {"article": [b"a"], "abstract": [b"b"], "length": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train_000.bin").write_bytes(
        prefixed(pair("a b", "<s> one . </s> <s> two . </s>"), pair("", "<s> x </s>"))
    )
    (tmp_path / "train_001.bin").write_bytes(prefixed(pair("é", "<s> three </s>")))
    (tmp_path / "train_002.bin").write_bytes(b"")  # its writer leaves one behind a full chunk
    (tmp_path / "val.bin").write_bytes(prefixed(pair("v", "no marks")))
    (tmp_path / "test_000.bin").write_bytes(prefixed(pair("t", "<s> tee </s>")))
    return tmp_path


def test_the_chunks_of_each_split_in_order(folder: Path) -> None:
    for _ in range(2):
        corpus = tf_bin.load(str(folder))
        pairs = {split: [(pair.source, pair.target) for pair in corpus.splits[split]] for split in SPLITS}
        assert pairs == {
            "train": [("a b", "one . two ."), ("é", "three")],
            "validation": [("v", "no marks")],
            "test": [("t", "tee")],
        }
        assert corpus.facts["skipped_blank_train"] == 1
        (folder / "chunked").mkdir(exist_ok=True)  # where its own scripts leave them
        for path in folder.glob("*.bin"):
            path.rename(folder / "chunked" / path.name)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (prefixed(pair("a", "b"))[:-1], r"is cut short or damaged after example 0"),
        (prefixed(pair("a", "b")) + b"\x05\x00", r"is cut short or damaged after example 1"),
        (prefixed(pair("a", "b")) + struct.pack("<q", 10**15), r"is cut short or damaged after example 1"),
        (prefixed(pair("a", "b")) + struct.pack("<q", -1), r"is cut short or damaged after example 1"),
        (prefixed(pair("a", "b"), tf_example(article=b"a")), r", example 2 has no feature 'abstract'"),
        (prefixed(tf_example(article=b"\xff", abstract=b"b")), r", example 1 is no tf\.Example of texts in UTF-8"),
        (prefixed(b"\x0a\xff"), r", example 1 is no tf\.Example"),
        (prefixed(b"\x0a\x05abc"), r", example 1 is no tf\.Example"),
        (prefixed(b"\xff" * 11), r", example 1 is no tf\.Example"),
        (prefixed(b"\x0b"), r", example 1 is no tf\.Example"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, content: bytes, told: str) -> None:
    (folder / "val.bin").write_bytes(content)
    corpus = tf_bin.load(str(folder))
    with pytest.raises(UserError, match=rf"val\.bin{told}" if told.startswith(",") else rf"val\.bin {told}"):
        list(corpus.splits["validation"])


def test_examples_are_read_as_they_are_asked_for(folder: Path) -> None:
    (folder / "val.bin").write_bytes(prefixed(b"one", b"two")[:-1])
    found = examples(folder / "val.bin")
    assert next(found) == b"one"
    with pytest.raises(UserError, match="after example 1"):
        next(found)


def test_a_folder_without_such_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\*\.bin, val\*\.bin and test\*\.bin: name their folder"):
        tf_bin.load(str(tmp_path))
