"""Columns of parquet files, and files that are none."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from parquet_files import write_parquet

from rlseq2seq.data.sources import parquet
from rlseq2seq.data.sources.parquet import parquet_rows
from rlseq2seq.errors import UserError

COLUMNS = {"source": "article", "target": "highlights"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train-00000-of-00001.parquet"


def read(path: Path, columns: dict[str, str] = COLUMNS, **optional: str) -> list[dict[str, Any]]:
    return list(parquet_rows([path], columns, optional))


@pytest.mark.parametrize("at_a_time", [1, 3, 256])
def test_rows_are_read_back_across_row_groups_and_files(
    path: Path, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS", at_a_time)
    texts = [f"né {i}\n" for i in range(7)]
    write_parquet(path, article=texts, other=range(7), highlights=texts[::-1], id=texts)
    second = path.with_name("second.parquet")
    write_parquet(second, highlights=pa.array(["b", None]), article=pa.array(["a", "c"], pa.large_string()))
    rows = list(parquet_rows([path, second], COLUMNS, {"id": "id"}))
    assert rows[:7] == [
        {"source": text, "target": other, "id": text} for text, other in zip(texts, texts[::-1], strict=True)
    ]
    assert rows[7:] == [{"source": "a", "target": "b"}, {"source": "c", "target": None}]


def test_a_nested_column(path: Path) -> None:
    write_parquet(path, translation=[{"de": "ein", "en": "a"}, {"de": "zwei", "en": "two"}, None], **{"a.b": ["x"] * 3})
    rows = read(path, {"source": "translation.en", "target": "translation.de", "name": "a.b"})
    assert rows == [
        {"source": "a", "target": "ein", "name": "x"},
        {"source": "two", "target": "zwei", "name": "x"},
        {"source": None, "target": None, "name": "x"},
    ]
    with pytest.raises(UserError, match=r"has no column 'translation\.fr'"):
        read(path, {"source": "translation.fr", "target": "translation.de"})
    with pytest.raises(UserError, match=r"column 'translation' holds struct<.*>, not text"):
        read(path, {"source": "translation", "target": "translation.de"})


def test_a_column_that_is_missing_or_no_text_is_named(path: Path) -> None:
    write_parquet(path, article=["a"], summary=["b"], id=[3])
    with pytest.raises(UserError, match=r"has no column 'highlights': it has article, summary, id; name one of them"):
        read(path)
    with pytest.raises(UserError, match=r"column 'id' holds int64, not text: name another in params\.yaml$"):
        read(path, {"source": "article", "target": "id"})


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_however_it_is_kept(kind: pa.DataType, path: Path) -> None:
    write_parquet(path, article=pa.array(["a", "b", "a"]).cast(kind), highlights=["c", "d", "e"])
    assert [row["source"] for row in read(path)] == ["a", "b", "a"]


def test_an_optional_column_of_numbers_is_left_out(path: Path) -> None:
    write_parquet(path, id=[1, 2], article=["a", "b"], highlights=["c", "d"])
    assert read(path, id="id") == [{"source": "a", "target": "c"}, {"source": "b", "target": "d"}]


def test_text_that_is_not_utf_8(path: Path) -> None:
    column = pa.array([b"\xff\xfe"], pa.binary())
    write_parquet(path, article=pa.Array.from_buffers(pa.string(), 1, column.buffers()), highlights=["x"])
    with pytest.raises(UserError, match=r"\.parquet has text that is not UTF-8: make or copy it again$"):
        read(path)


def test_a_file_that_is_cut_short_or_none(path: Path) -> None:
    content = write_parquet(path, article=[f"{n * n * n}" for n in range(999)], highlights=["x"] * 999)
    for damaged in (content[:-20], content[: len(content) // 2], b"", b"<html>no parquet</html>" * 9):
        path.write_bytes(damaged)
        with pytest.raises(
            UserError, match=r"\.parquet is no whole parquet file \(.*\): make or copy it again$"
        ) as told:
            read(path)
        assert "\n" not in str(told.value)


def test_a_page_that_is_damaged(path: Path) -> None:
    content = bytearray(write_parquet(path, article=["some words of a text " * 99] * 2, highlights=["x"] * 2))
    content[40:80] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is no whole parquet file"):
        read(path)
