"""Parquet files as the hub has them, small."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_parquet(path: Path, **columns: Any) -> bytes:
    """Write the columns and return the file's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path.read_bytes()
