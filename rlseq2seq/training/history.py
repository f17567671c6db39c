"""Training history as a table that `dvc plots` reads."""

import csv
from pathlib import Path


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write a row for each validation; a column for whatever any row has."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _shown(value) for name, value in row.items()} for row in history)


def _shown(value: float) -> str:
    return f"{value}" if isinstance(value, int) else f"{value:.6g}"
