"""The table of a comparison: every run against the control of the same seed."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.evaluation.significance import bootstrap_interval, holm, paired_p_value

Row = dict[str, Any]

LEVEL = 0.05
_COLUMNS = (
    "method",
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L",
    "to control",
    "better, worse",
    "words",
    "repeated",
    "punctuation",
    "tokens/s",
    "seconds",
    "MiB",
)


@dataclass(frozen=True)
class Run:
    """What stages/compare.py wrote: ``facts`` are a row's but for what compares it with others, ``rouge_l`` [pairs]."""

    facts: Row
    rouge_l: Sequence[float]


def comparison_rows(runs: Sequence[Run], groups: Sequence[str], config: EvaluateConfig, control: str) -> list[Row]:
    """A row a run, in order, of plain values.

    It has the run's facts; ``rougeL_interval``, 95%; ``rougeL_vs_mle``, the difference to ``control`` of the same seed;
    ``p_value_vs_mle`` of that (`paired_p_value`); ``p_holm``, corrected for all tests together. The control has None in
    the last three.

    Raises:
        KeyError: a seed lacks the control.
        ValueError: a run has not one score for each of ``groups``.
    """
    scores = {(run.facts["method"], run.facts["seed"]): np.asarray(run.rouge_l) for run in runs}
    rows = []
    for run in runs:
        method, seed = run.facts["method"], run.facts["seed"]
        mine, other = scores[method, seed], scores[control, seed]
        interval = bootstrap_interval(mine, groups, config.bootstrap_samples, config.seed)
        row: Row = {**run.facts, "rougeL_interval": interval, "rougeL_vs_mle": None, "p_value_vs_mle": None}
        if method != control:
            row["rougeL_vs_mle"] = float((mine - other).mean())
            row["p_value_vs_mle"] = paired_p_value(mine, other, groups, config.bootstrap_samples, config.seed)
        rows.append(row)
    corrected = iter(holm([row["p_value_vs_mle"] for row in rows if row["p_value_vs_mle"] is not None]))
    return [{**row, "p_holm": None if row["p_value_vs_mle"] is None else next(corrected)} for row in rows]


def format_csv(rows: Sequence[Row]) -> str:
    """A line a run, for `dvc plots`: ``method``, ``seed``, ``rougeL``, ``rougeL_vs_mle``, ``p_holm``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["method", "seed", "rougeL", "rougeL_vs_mle", "p_holm"])
    for row in rows:
        numbers = (row["test"]["rougeL"], row["rougeL_vs_mle"], row["p_holm"])
        shown = ["" if number is None else f"{number:.4f}" for number in numbers]
        table.writerow([row["method"], row["seed"], *shown])
    return text.getvalue()


def format_comparison(rows: Sequence[Row]) -> str:
    """A Markdown table: a row a method. ``±`` is the standard deviation over seeds, where there are two or more."""
    tests = sum(row["p_holm"] is not None for row in rows)
    cells = [_cells([row for row in rows if row["method"] == method]) for method in methods(rows)]
    lines = [list(_COLUMNS), ["---", *["--:"] * (len(_COLUMNS) - 1)], *cells]
    seeds = len({row["seed"] for row in rows})
    note = (
        f"Means over seeds ({seeds}), ± standard deviation. *To control*: difference in ROUGE-L to the control of the "
        f"same seed, mean and range over seeds. *Better, worse*: seeds whose difference is significant at {LEVEL}, by "
        f"paired randomisation tests, Holm-corrected for all {tests}."
    )
    return note + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def methods(rows: Sequence[Row]) -> list[str]:
    """Names in the order in which they come."""
    return list(dict.fromkeys(row["method"] for row in rows))


def _cells(rows: Sequence[Row]) -> list[str]:
    differences = [row["rougeL_vs_mle"] for row in rows if row["rougeL_vs_mle"] is not None]
    against = ["", ""]
    if differences:
        sure = [row["rougeL_vs_mle"] for row in rows if row["p_holm"] < LEVEL]
        better, worse = sum(difference > 0 for difference in sure), sum(difference < 0 for difference in sure)
        spread = f"{mean(differences):+.2f} ({min(differences):+.2f} to {max(differences):+.2f})"
        against = [spread, f"{better}, {worse} of {len(rows)}"]
    return [
        rows[0]["method"],
        *(_spread([row["test"][name] for row in rows]) for name in ("rouge1", "rouge2", "rougeL")),
        *against,
        f"{mean(row['words'] for row in rows):.1f}",
        *(f"{mean(row[name] for row in rows):.1%}" for name in ("repetition", "punctuation")),
        *(f"{mean(row[name] for row in rows):,.0f}" for name in ("tokens_per_second", "seconds", "peak_memory_mib")),
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ±{stdev(values):.2f}" if len(values) > 1 else "")
