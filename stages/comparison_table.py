"""What the runs of the comparison come to: rows, a table, and a plot."""

import json
from pathlib import Path

from rlseq2seq.config.base import load
from rlseq2seq.config.comparison import CONTROL, load_comparison
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.errors import UserError
from rlseq2seq.evaluation.comparison import LEVEL, Run, comparison_rows, format_comparison, format_csv, methods
from rlseq2seq.evaluation.dot_plot import dot_plot
from stages.common import RAW, run, write_text_whole

RUNS = Path("experiments/comparison/runs")
TABLE = Path("experiments/comparison.json")


def main() -> None:
    comparison, _ = load_comparison()
    config = load(EvaluateConfig, "evaluate")
    runs = [_read(RUNS / f"{method}-{seed}.json") for method in comparison.run for seed in comparison.seeds]
    groups = [pair.group for pair in read_pairs(RAW / "test.jsonl")]
    rows = comparison_rows(runs, groups, config, CONTROL)
    write_text_whole(TABLE, json.dumps(rows, indent=2) + "\n")
    write_text_whole(TABLE.with_suffix(".csv"), format_csv(rows))
    table = format_comparison(rows)
    write_text_whole(TABLE.with_suffix(".md"), table + "\n")
    dots = {
        method: [(row["rougeL_vs_mle"], row["p_holm"] < LEVEL) for row in rows if row["method"] == method]
        for method in methods(rows)
        if method != CONTROL
    }
    write_text_whole(TABLE.with_suffix(".svg"), dot_plot(dots, "test ROUGE-L, difference to maximum likelihood"))
    print(f"\n{table}\n")


def _read(path: Path) -> Run:
    if not path.exists():
        raise UserError(f"{path} is not here: `dvc repro experiments/comparison/dvc.yaml` makes it")
    facts = json.loads(path.read_text(encoding="utf-8"))
    return Run(rouge_l=facts.pop("rougeL_of_pairs"), facts=facts)


if __name__ == "__main__":
    run(main)
