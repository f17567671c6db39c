import json

import pytest

from rlseq2seq.config.decoding import BeamConfig
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.evaluation.comparison import Run, comparison_rows, format_comparison, format_csv, methods

GREEDY = BeamConfig(1, length_penalty=1.0, block_ngrams=0, min_tokens=0, critic_weight=0.0)
CONFIG = EvaluateConfig(metric="rouge_l", baselines=(), seed=0, bootstrap_samples=20_000, batch_size=8, decoding=GREEDY)
GROUPS = ["a", "b", "c", "d", "e", "f"]


def made_up(method: str, seed: int, rouge_l: list[float], **others: float) -> Run:
    mean = sum(rouge_l) / len(rouge_l)
    facts = {
        "method": method,
        "seed": seed,
        "test": {"rouge1": mean + 2, "rouge2": mean / 4, "rougeL": mean},
        "words": 8.0,
        "repetition": 0.25,
        "punctuation": 0.125,
        "tokens_per_second": 1000,
        "seconds": 10.0,
        "peak_memory_mib": 300,
    }
    return Run({**facts, **others}, rouge_l)


# Of 64 ways to sign the differences to the control of the same seed, p is the share as far from 0 as theirs.
RUNS = [
    made_up("mle", 1, [10.0] * 6),
    made_up("mle", 2, [20.0] * 6),
    made_up("up", 1, [11.0] * 6, words=6.0),  # 1 each: all of one sign, 2 ways
    made_up("up", 2, [23.0] * 6, words=7.0),  # 3 each: the same
    made_up("same", 1, [11.0, 9.0, 11.0, 9.0, 11.0, 9.0]),  # 0 on average: all ways
    made_up("same", 2, [19.0, 19.0, 19.0, 19.0, 19.0, 21.0]),  # five or six of one sign: 14 ways
]
DRAWN = 0.006  # how far 20,000 draws may be from these


def test_rows_by_hand() -> None:
    rows = comparison_rows(RUNS, GROUPS, CONFIG, "mle")
    assert [(row["method"], row["seed"]) for row in rows] == [(run.facts["method"], run.facts["seed"]) for run in RUNS]
    assert [row["rougeL_vs_mle"] for row in rows] == [None, None, 1, 3, 0, pytest.approx(-2 / 3)]
    got = [row["p_value_vs_mle"] for row in rows]
    assert got[:2] == [None, None]
    assert got[2:] == pytest.approx([2 / 64, 2 / 64, 1, 14 / 64], abs=DRAWN)
    # Holm, of four: 4 times the smallest, 3 times the next but not below it, 2 times the third, the last as it is.
    holm = [row["p_holm"] for row in rows]
    assert holm[:2] == [None, None]
    assert holm[2:] == pytest.approx([8 / 64, 8 / 64, 1, 28 / 64], abs=4 * DRAWN)
    assert rows[0]["rougeL_interval"] == (10, 10) and rows[2]["words"] == 6
    json.dumps(rows)


def test_a_seed_is_compared_with_the_control_of_that_seed_only() -> None:
    with pytest.raises(KeyError):
        comparison_rows([RUNS[0], RUNS[3]], GROUPS, CONFIG, "mle")
    alone = comparison_rows([RUNS[1], RUNS[3]], GROUPS, CONFIG, "mle")
    assert alone[1]["rougeL_vs_mle"] == 3


def test_table_by_hand() -> None:
    rows = comparison_rows(RUNS, GROUPS, CONFIG, "mle")
    for row, p_holm in zip(rows[2:], (0.01, 0.2, 1.0, 0.03), strict=True):
        row["p_holm"] = p_holm
    text = format_comparison(rows)
    assert "Means over seeds (2)" in text and "Holm-corrected for all 4." in text
    lines = {line.split()[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()[4:]}
    assert list(lines) == ["mle", "up", "same"]
    assert lines["up"] == [
        "19.00 ±8.49",
        "4.25 ±2.12",
        "17.00 ±8.49",
        "+2.00 (+1.00 to +3.00)",
        "1, 0 of 2",
        "6.5",
        "25.0%",
        "12.5%",
        "1,000",
        "10",
        "300",
    ]
    assert lines["same"][3:5] == ["-0.33 (-0.67 to +0.00)", "0, 1 of 2"]
    assert lines["mle"][2:5] == ["15.00 ±7.07", "", ""]


def test_one_seed_has_no_spread() -> None:
    text = format_comparison(comparison_rows([RUNS[0], RUNS[2]], GROUPS, CONFIG, "mle"))
    assert "| 11.00 | +1.00 (+1.00 to +1.00) |" in text


def test_csv_has_a_line_a_run() -> None:
    rows = comparison_rows([RUNS[0], RUNS[4]], GROUPS, CONFIG, "mle")
    assert format_csv(rows) == (
        "method,seed,rougeL,rougeL_vs_mle,p_holm\nmle,1,10.0000,,\nsame,1,10.0000,0.0000,1.0000\n"
    )
    assert methods(rows) == ["mle", "same"]
