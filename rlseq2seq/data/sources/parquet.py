"""Columns of text of parquet files, some rows at a time."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlseq2seq.errors import UserError

ROWS = 256  # at a time: a row may be a document


def parquet_rows(
    paths: Iterable[Path], columns: Mapping[str, str], optional: Mapping[str, str]
) -> Iterator[dict[str, str | None]]:
    """Each row of ``paths`` as texts by the keys of ``columns`` and ``optional``.

    Args:
        paths: files with the same columns.
        columns: names of columns; a dot leads into a nested one.
        optional: more of them, which a file may lack, or have as something else than text: then rows are without.

    Raises:
        UserError: a file is not parquet to its end, or lacks a column of ``columns``, or one of them is not text.
    """
    for path in paths:
        try:
            yield from _rows(path, columns, optional)
        except UnicodeDecodeError:  # what parquet says is text is not looked at before
            raise UserError(f"{path} has text that is not UTF-8: make or copy it again") from None
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path} is no whole parquet file ({reason}): make or copy it again") from None


def _rows(path: Path, columns: Mapping[str, str], optional: Mapping[str, str]) -> Iterator[dict[str, str | None]]:
    # Mapped, not read: a row group may be the whole of the file.
    with pq.ParquetFile(path, memory_map=True) as file:
        schema = file.schema_arrow
        for name in columns.values():
            _check_text(name, schema, path)
        there = {key: name for key, name in optional.items() if name in schema.names and _is_text(schema.field(name))}
        names = {**columns, **there}
        for batch in file.iter_batches(ROWS, columns=list(names.values())):
            values = {key: _column(batch, name).to_pylist() for key, name in names.items()}
            for row in zip(*values.values(), strict=True):
                yield dict(zip(values, row, strict=True))


def _steps(name: str, schema: pa.Schema) -> list[str]:
    return [name] if name in schema.names else name.split(".")


def _check_text(name: str, schema: pa.Schema, path: Path) -> None:
    fields = list(schema)
    for step in _steps(name, schema):
        named = [field for field in fields if field.name == step]
        if not named:
            raise UserError(
                f"{path} has no column {name!r}: it has {', '.join(schema.names)}; name one of them in params.yaml"
            )
        fields = list(named[0].type) if pa.types.is_struct(named[0].type) else []
    if not _is_text(named[0]):
        raise UserError(f"{path}: column {name!r} holds {named[0].type}, not text: name another in params.yaml")


def _is_text(field: pa.Field) -> bool:
    """As pandas (a category is a dictionary), polars (views) and the hub write it."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    first, *rest = _steps(name, batch.schema)
    column = batch.column(first)
    return pc.struct_field(column, rest) if rest else column
