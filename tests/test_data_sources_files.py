"""A user's own files: what is written is read back, and what cannot be read is named by file and line."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlseq2seq.config.data import FilesConfig
from rlseq2seq.data.pairs import SPLITS, Pair
from rlseq2seq.data.sources import files
from rlseq2seq.errors import UserError

GOOD = '{"source": "a b", "target": "c"}\n'


def config(folder: Path, kind: str, ending: str = "") -> FilesConfig:
    names = {split: str(folder / f"{split}{ending}") for split in SPLITS}
    return FilesConfig(format=kind, **names, source_suffix=".source", target_suffix=".target")  # type: ignore[arg-type]


def write(path: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def corpus(folder: Path, kind: str, train: str | bytes) -> FilesConfig:
    """Good validation and test files, beside a train file to be tried."""
    good = {"jsonl": GOOD, "tsv": "a b\tc\n"}[kind]
    for split in SPLITS:
        write(folder / f"{split}.{kind}", train if split == "train" else good)
    return config(folder, kind, f".{kind}")


def read_train(settings: FilesConfig) -> list[Pair]:
    return list(files.load(settings).splits["train"])


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
LINE_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\ufeff"), max_size=20).filter(
    str.strip
)
Row = tuple[str, str, list[str]]  # source, target, references
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.lists(TEXTS, max_size=2)), min_size=1, max_size=5)
LINE_ROWS = st.lists(st.tuples(LINE_TEXTS, LINE_TEXTS, st.lists(LINE_TEXTS, max_size=2)), min_size=1, max_size=5)
AS_WRITTEN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
COMPRESSED = st.sampled_from(["", ".gz"])


@AS_WRITTEN
@given(ROWS, COMPRESSED, st.booleans())
def test_json_lines_are_read_back(tmp_path: Path, rows: list[Row], gz: str, ascii: bool) -> None:
    lines = [{"source": source, "target": target, "references": more} for source, target, more in rows]
    for split in SPLITS:
        text = "\n".join(json.dumps(line, ensure_ascii=ascii) for line in lines)
        write(tmp_path / f"{split}.jsonl{gz}", text)
    loaded = files.load(config(tmp_path, "jsonl", f".jsonl{gz}"))
    for split in SPLITS:
        read = [(pair.source, pair.target, list(pair.references)) for pair in loaded.splits[split]]
        assert read == rows
        assert loaded.facts[f"references_{split}"] == sum(len(more) for _, _, more in rows)


@AS_WRITTEN
@given(LINE_ROWS, COMPRESSED, st.sampled_from(["\n", "\r\n"]))
def test_tsv_is_read_back(tmp_path: Path, rows: list[Row], gz: str, newline: str) -> None:
    for split in SPLITS:
        write(tmp_path / f"{split}.tsv{gz}", newline.join("\t".join([a, b, *more]) for a, b, more in rows))
    loaded = files.load(config(tmp_path, "tsv", f".tsv{gz}"))
    assert [(pair.source, pair.target, list(pair.references)) for pair in loaded.splits["train"]] == rows


@AS_WRITTEN
@given(st.lists(st.tuples(LINE_TEXTS, LINE_TEXTS), min_size=1, max_size=5), COMPRESSED, COMPRESSED)
def test_parallel_files_are_read_back(tmp_path: Path, rows: list[tuple[str, str]], gz: str, target_gz: str) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    for split in SPLITS:
        write(tmp_path / f"{split}.source{gz}", "".join(f"{source}\n" for source, _ in rows))
        write(tmp_path / f"{split}.target{target_gz}", "".join(f"{target}\n" for _, target in rows))
    loaded = files.load(config(tmp_path, "parallel"))
    assert [(pair.source, pair.target) for pair in loaded.splits["test"]] == rows


def test_what_a_row_does_not_say(tmp_path: Path) -> None:
    full = '{"source": "s", "target": "t", "id": "x", "group": "g", "name": "n", "more": 1}'
    first, second = read_train(corpus(tmp_path, "jsonl", GOOD + full))
    assert first == Pair(id="train:1", source="a b", target="c", group="", name="", references=())
    assert second == Pair(id="x", source="s", target="t", group="g", name="n", references=())


def test_blank_lines_at_the_end_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    assert len(read_train(corpus(tmp_path, "jsonl", b"\xef\xbb\xbf" + GOOD.encode() + b"\n  \n\n"))) == 1
    write(tmp_path / "train.source", "one\ntwo\n\n")
    write(tmp_path / "train.target", "eins\nzwei")
    for split in ("validation", "test"):
        write(tmp_path / f"{split}.source", "one")
        write(tmp_path / f"{split}.target", "eins")
    assert [pair.target for pair in read_train(config(tmp_path, "parallel"))] == ["eins", "zwei"]


def test_empty_columns_after_the_target_are_no_references(tmp_path: Path) -> None:
    assert read_train(corpus(tmp_path, "tsv", "a\tb\t\tc\t \n"))[0].references == ("c",)


def test_lines_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    pairs = iter(files.load(corpus(tmp_path, "jsonl", GOOD * 3 + "broken\n")).splits["train"])
    assert [next(pairs).id for _ in range(3)] == ["train:1", "train:2", "train:3"]
    with pytest.raises(UserError, match="line 4 is not JSON"):
        next(pairs)


@pytest.mark.parametrize(
    ("kind", "line", "complaint"),
    [
        ("jsonl", '{"source": "a"', r"line 2 is not JSON \(Expecting ',' delimiter\): write one object a line"),
        ("jsonl", "[" * 100_000, r"line 2 is not JSON \(nested too deep\)"),
        ("jsonl", '{"source": "a", "n": ' + "1" * 5000 + "}", r"line 2 is not JSON \(a number of too many digits\)"),
        ("jsonl", "[1]", "line 2 is not an object"),
        ("jsonl", '{"source": "a"}', "line 2 has no target"),
        ("jsonl", '{"target": "a"}', "line 2 has no source"),
        ("jsonl", '{"source": 7, "target": "a"}', "line 2: source must be a text, and is 7"),
        ("jsonl", '{"source": "a", "target": ["b"]}', r'line 2: target must be a text, and is \["b"\]'),
        ("jsonl", '{"source": " ", "target": "a"}', "line 2: source is empty"),
        ("jsonl", '{"source": "a", "target": ""}', "line 2: target is empty"),
        ("jsonl", '{"source": "a", "target": "b", "references": "c"}', "line 2: references must be a list of texts"),
        ("jsonl", '{"source": "a", "target": "b", "references": [3]}', "line 2: references must be a text, and is 3"),
        ("jsonl", '{"source": "a", "target": "b", "references": [""]}', "line 2: references is empty"),
        ("jsonl", '{"source": "a", "target": "b", "group": 3}', "line 2: group must be a text, and is 3"),
        ("jsonl", '{"source": "\\ud800", "target": "b"}', "line 2: source has half a character"),
        ("tsv", "only a source", "line 2 has no tab"),
        ("tsv", "\ttarget", "line 2: source is empty"),
        ("tsv", "source\t", "line 2: target is empty"),
        ("tsv", "", "line 2 has no tab"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, kind: str, line: str, complaint: str) -> None:
    good = {"jsonl": GOOD, "tsv": "a b\tc\n"}[kind]
    settings = corpus(tmp_path, kind, f"{good}{line}\n{good}")
    with pytest.raises(UserError, match=complaint) as error:
        read_train(settings)
    assert str(error.value).startswith(settings.train)
    assert "\n" not in str(error.value)


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    settings = corpus(tmp_path, "tsv", "a\tb\nna\u00efve\tc\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"train.tsv, line 2 is not UTF-8 \(byte 0xef at 2\)"):
        read_train(settings)


def cut(data: bytes) -> bytes:
    return gzip.compress(data)[:-20]


def not_compressed(data: bytes) -> bytes:
    return data


def bad_block(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[10] = 0xFF  # behind the header: a block of the type that is none
    return bytes(packed)


def bad_checksum(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize("damage", [cut, not_compressed, bad_block, bad_checksum])
def test_a_damaged_gzip_file(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    settings = corpus(tmp_path, "jsonl", "")
    lines = "".join(f'{{"source": "{n * n * n}", "target": "{n}"}}\n' for n in range(1, 500)).encode()
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.jsonl.gz").write_bytes(damage(lines))
    with pytest.raises(UserError, match=r"train\.jsonl\.gz is no whole gzip file"):
        read_train(settings)


@pytest.mark.parametrize(
    ("sources", "targets", "complaint"),
    [
        ("a\nb\nc\n", "x\ny\n", r"train\.target ends before line 3 of .*train\.source"),
        ("a\n", "x\ny\n", r"train\.source ends before line 2 of .*train\.target"),
    ],
)
def test_parallel_files_out_of_step(tmp_path: Path, sources: str, targets: str, complaint: str) -> None:
    for split in SPLITS:
        write(tmp_path / f"{split}.source", sources)
        write(tmp_path / f"{split}.target", targets)
    with pytest.raises(UserError, match=complaint):
        read_train(config(tmp_path, "parallel"))


def test_blank_lines_of_parallel_files_are_left_out_of_training_and_nowhere_else(tmp_path: Path) -> None:
    for split in SPLITS:
        write(tmp_path / f"{split}.source", "a\n\nc\n \ne\n")
        write(tmp_path / f"{split}.target", "v\nw\n\n\nz\n")
    loaded = files.load(config(tmp_path, "parallel"))
    assert [(pair.id, pair.source, pair.target) for pair in loaded.splits["train"]] == [
        ("train:1", "a", "v"),
        ("train:5", "e", "z"),
    ]
    assert loaded.facts == {"references_train": 0, "skipped_blank_train": 3}
    with pytest.raises(UserError, match=r"test\.source, line 2: source is empty"):
        list(loaded.splits["test"])
    write(tmp_path / "validation.source", "a\nb\nc\nd\ne\n")
    with pytest.raises(UserError, match=r"validation\.target, line 3: target is empty"):
        list(files.load(config(tmp_path, "parallel")).splits["validation"])


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"train\.jsonl is empty: a corpus needs at least one train pair"):
        read_train(corpus(tmp_path, "jsonl", content))


@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_file_is_told_before_any_is_read(tmp_path: Path, split: str) -> None:
    settings = corpus(tmp_path, "jsonl", "broken")
    (tmp_path / f"{split}.jsonl").unlink()
    with pytest.raises(UserError, match=rf"data\.files\.{split} asks for '.*', and there is no such file"):
        files.load(settings)


def test_a_missing_half_of_parallel_files(tmp_path: Path) -> None:
    for split in SPLITS:
        write(tmp_path / f"{split}.source", "a")
    with pytest.raises(UserError, match=r"data\.files\.train asks for '.*train\.target'"):
        files.load(config(tmp_path, "parallel"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.files\.train"):
        files.load(FilesConfig("jsonl", str(tmp_path), "", "", ".a", ".b"))
