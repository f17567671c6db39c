import csv
from pathlib import Path

from rlseq2seq.training.history import write_history


def test_a_row_for_each_validation_and_a_column_for_whatever_any_has(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "pretrain.csv"
    write_history(path, [{"step": 0, "validation_loss": 4.0}, {"step": 1234567, "nll": 1 / 3, "validation_loss": 2e-9}])
    assert path.read_bytes() == b"step,validation_loss,nll\n0,4,\n1234567,2e-09,0.333333\n"


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for rows in (9, 2):
        write_history(path, [{"step": i} for i in range(rows)])
    with path.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1"]
