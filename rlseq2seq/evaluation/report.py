"""The results of an evaluation: every number of every system, the few to compare runs by, and a table to read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.data.pairs import Pair
from rlseq2seq.errors import UserError
from rlseq2seq.evaluation.metrics import CorpusMetric, bleu, chrf, rouge_scores
from rlseq2seq.evaluation.significance import (
    bootstrap,
    bootstrap_interval,
    group_totals,
    paired_difference,
    paired_p_value,
)
from rlseq2seq.evaluation.text_statistics import text_statistics

Numbers = dict[str, float]
Rouge = dict[str, NDArray[np.float64]]

# The entry that describes the targets themselves.
REFERENCE = "reference"

# `dvc metrics show` prints one row, with a column a number: these fit a screen, all of them would not.
_HEADLINE = ("rougeL", "rougeL_vs_mle", "p_value_vs_mle")
_SHARES = ("repetition", "punctuation", "novel_1", "novel_2", "novel_3")
_COLUMNS = (
    "ROUGE-1",
    "ROUGE-2",
    "ROUGE-L",
    "BLEU",
    "chrF",
    "words",
    "repeated",
    "punctuation",
    "novel 2-grams",
    "empty",
)


@dataclass(frozen=True)
class Evaluation:
    """Numbers of each system on the test split.

    ``systems[name]`` holds ``rouge1``, ``rouge2``, ``rougeL``, ``rougeLsum``, ``bleu`` and ``chrf`` x 100, each with
    the ends of its 95% interval (``rougeL_low``, ``rougeL_high``), and what `text_statistics` gives. ``rl``, where
    ``mle`` is there too, also has ``rougeL_vs_mle``, its ``_low`` and ``_high``, and ``p_value_vs_mle``.
    ``systems["reference"]`` describes the targets and has no scores.
    """

    pairs: int
    groups: int
    systems: dict[str, Numbers]
    signatures: dict[str, str]

    def metrics(self) -> dict[str, object]:
        """Every number, rounded, ready for JSON: ``{"test": {"mle": {"rougeL": 31.07, ...}, ...}, ...}``."""
        systems = {name: _rounded(numbers) for name, numbers in self.systems.items()}
        return {"test": {"pairs": self.pairs, "groups": self.groups, **systems}, "signatures": self.signatures}

    def headline(self) -> dict[str, dict[str, Numbers]]:
        """The few numbers to compare runs by: ROUGE-L of each system, and how sure it is that RL changed it."""
        systems = {name: _rounded(numbers) for name, numbers in self.systems.items() if name != REFERENCE}
        return {"test": {name: {key: row[key] for key in _HEADLINE if key in row} for name, row in systems.items()}}


def evaluate_systems(
    pairs: Sequence[Pair], outputs: Mapping[str, Sequence[str]], config: EvaluateConfig, workers: int, lowercase: bool
) -> Evaluation:
    """Score the outputs of each system against the targets of ``pairs``.

    Args:
        pairs: the test split.
        outputs: by name of the system, [pairs] texts: models and baselines alike. ``rl`` is compared with ``mle``.
        config: samples and seed of the bootstrap and of the randomisation test.
        workers: processes that score. Numbers do not depend on it.
        lowercase: BLEU and chrF do not tell A from a (ROUGE never does). For models that write lower case only.

    Raises:
        UserError: there are no pairs.
        ValueError: a system has not one output for each pair.
    """
    if not pairs:
        raise UserError("the test split has no pairs, so there is nothing to evaluate: give it some")
    for name, texts in outputs.items():
        if len(texts) != len(pairs):
            raise ValueError(f"{name} has {len(texts)} outputs for {len(pairs)} pairs")
    references = [(pair.target, *pair.references) for pair in pairs]
    sources = [pair.source for pair in pairs]
    rouge = _rouge(outputs, references, workers)
    systems: dict[str, Numbers] = {}
    signatures: dict[str, str] = {}
    for name, texts in tqdm(outputs.items(), "scoring systems", unit="system", delay=2):
        corpus = {"bleu": bleu(texts, references, lowercase), "chrf": chrf(texts, references, lowercase)}
        scores = _scores(rouge[name], corpus, [pair.group for pair in pairs], config)
        systems[name] = {**scores, **text_statistics(texts, sources)}
        signatures = {key: metric.signature for key, metric in corpus.items()}
    if "mle" in systems and "rl" in systems:
        systems["rl"] |= _comparison(rouge["rl"], rouge["mle"], [pair.group for pair in pairs], config)
    systems[REFERENCE] = text_statistics([pair.target for pair in pairs], sources)
    groups = len(group_totals(np.ones((len(pairs), 1)), [pair.group for pair in pairs]))
    return Evaluation(len(pairs), groups, systems, signatures)


def _rouge(outputs: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]], workers: int) -> dict[str, Rouge]:
    # All systems in one go, so that processes are started once.
    together = [text for texts in outputs.values() for text in texts]
    scores = rouge_scores(together, list(references) * len(outputs), workers)
    size = len(references)
    return {
        name: {key: values[start : start + size] for key, values in scores.items()}
        for name, start in zip(outputs, range(0, len(together), size), strict=True)
    }


def _scores(rouge: Rouge, corpus: Mapping[str, CorpusMetric], groups: Sequence[str], config: EvaluateConfig) -> Numbers:
    numbers: Numbers = {}
    for name, values in rouge.items():
        interval = bootstrap_interval(values, groups, config.bootstrap_samples, config.seed)
        numbers |= _with_interval(name, float(values.mean()), interval)
    for name, metric in corpus.items():
        score = float(metric.scores(metric.statistics.sum(axis=0, keepdims=True))[0])
        interval = bootstrap(metric.statistics, groups, config.bootstrap_samples, config.seed, metric.scores)
        numbers |= _with_interval(name, score, interval)
    return numbers


def _comparison(rl: Rouge, mle: Rouge, groups: Sequence[str], config: EvaluateConfig) -> Numbers:
    a, b = rl["rougeL"], mle["rougeL"]
    interval = paired_difference(a, b, groups, config.bootstrap_samples, config.seed)
    p_value = paired_p_value(a, b, groups, config.bootstrap_samples, config.seed)
    return {**_with_interval("rougeL_vs_mle", float((a - b).mean()), interval), "p_value_vs_mle": p_value}


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> Numbers:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _rounded(numbers: Numbers) -> Numbers:
    """Shares and p-values to four places, the rest to two; a count stays a whole number."""
    return {key: round(value, 4 if key in (*_SHARES, "p_value_vs_mle") else 2) for key, value in numbers.items()}


def format_table(evaluation: Evaluation) -> str:
    """A Markdown table, aligned for the terminal: a row a system; then RL against MLE in a sentence.

    ``±`` is half the width of the 95% interval.
    """
    rows = [["system", *_COLUMNS], *([name, *_cells(numbers)] for name, numbers in evaluation.systems.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    for line, row in zip(aligned, rows, strict=True):
        line[0] = row[0].ljust(widths[0])
    table = "\n".join("| " + " | ".join(line) + " |" for line in [aligned[0], rule, *aligned[1:]])
    parts = [f"{evaluation.pairs} test pairs in {evaluation.groups} groups; ± is half the 95% interval.", table]
    if "rougeL_vs_mle" in evaluation.systems.get("rl", {}):
        parts.append(_comparison_sentence(evaluation.systems["rl"]))
    return "\n\n".join(parts)


def _cells(numbers: Numbers) -> list[str]:
    cells = []
    for key in ("rouge1", "rouge2", "rougeL", "bleu", "chrf"):
        if key in numbers:
            cells.append(f"{numbers[key]:.2f} ±{(numbers[f'{key}_high'] - numbers[f'{key}_low']) / 2:.2f}")
        else:
            cells.append("")
    cells.append(f"{numbers['words']:.1f}")
    cells += [f"{numbers[key]:.1%}" for key in ("repetition", "punctuation", "novel_2")]
    return [*cells, str(int(numbers["empty"]))]


def _comparison_sentence(rl: Numbers) -> str:
    difference, low, high = rl["rougeL_vs_mle"], rl["rougeL_vs_mle_low"], rl["rougeL_vs_mle_high"]
    return (
        f"RL - MLE: {difference:+.2f} ROUGE-L (95% interval {low:.2f} to {high:.2f}), "
        f"p = {rl['p_value_vs_mle']:.4f} (paired randomisation test)"
    )


def write_predictions(path: Path, pairs: Sequence[Pair], outputs: Mapping[str, Sequence[str]]) -> None:
    """Write a JSON object a line: ``id``, ``source``, ``target`` and ``outputs``, a text by system.

    Raises:
        ValueError: a system has not one output for each pair.
    """
    rows = zip(pairs, *outputs.values(), strict=True)
    with path.open("w", encoding="utf-8") as file:
        for pair, *texts in rows:
            row = {"id": pair.id, "source": pair.source, "target": pair.target}
            line = {**row, "outputs": dict(zip(outputs, texts, strict=True))}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
