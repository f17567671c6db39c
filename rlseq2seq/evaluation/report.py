"""The results of an evaluation: every number of every system, the few to compare runs by, and a table to read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rlseq2seq.config.evaluate import EvaluateConfig, Metric
from rlseq2seq.data.pairs import Pair
from rlseq2seq.errors import UserError
from rlseq2seq.evaluation.metrics import CorpusMetric, bleu, chrf, rouge_scores
from rlseq2seq.evaluation.significance import (
    bootstrap,
    bootstrap_interval,
    corpus_difference,
    corpus_p_value,
    group_totals,
    paired_difference,
    paired_p_value,
)
from rlseq2seq.evaluation.text_statistics import text_statistics

Numbers = dict[str, float]
Rouge = dict[str, NDArray[np.float64]]

# The entry that describes the targets themselves.
REFERENCE = "reference"

# The number that models are compared by, and its name in a table.
_KEYS: dict[Metric, str] = {"rouge_l": "rougeL", "bleu": "bleu", "chrf": "chrf"}
_TITLES: dict[Metric, str] = {"rouge_l": "ROUGE-L", "bleu": "BLEU", "chrf": "chrF"}

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
    ``mle`` is there too, also has the difference in ``metric``, such as ``rougeL_vs_mle``, its ``_low`` and ``_high``,
    and ``p_value_vs_mle``. ``systems["reference"]`` describes the targets and has no scores. ``notes`` are those of the
    corpus: what its test split is, where it is not the published one.
    """

    pairs: int
    groups: int
    systems: dict[str, Numbers]
    signatures: dict[str, str]
    metric: Metric
    notes: tuple[str, ...]

    def metrics(self) -> dict[str, object]:
        """Every number, rounded, ready for JSON: ``{"test": {"mle": {"rougeL": 31.07, ...}, ...}, ...}``."""
        systems = {name: _rounded(numbers) for name, numbers in self.systems.items()}
        test = {"pairs": self.pairs, "groups": self.groups, **systems}
        return {"test": test, "signatures": self.signatures, "notes": list(self.notes)}

    def headline(self) -> dict[str, dict[str, Numbers]]:
        """The few numbers to compare runs by: the metric of each system, and how sure it is that RL changed it.

        `dvc metrics show` prints one row, with a column a number: these fit a screen, all of them would not.
        """
        systems = {name: _rounded(numbers) for name, numbers in self.systems.items() if name != REFERENCE}
        keys = (_KEYS[self.metric], f"{_KEYS[self.metric]}_vs_mle", "p_value_vs_mle")
        return {"test": {name: {key: row[key] for key in keys if key in row} for name, row in systems.items()}}


def evaluate_systems(
    pairs: Sequence[Pair],
    outputs: Mapping[str, Sequence[str]],
    config: EvaluateConfig,
    workers: int,
    lowercase: bool,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Score the outputs of each system against the targets of ``pairs``.

    Args:
        pairs: the test split.
        outputs: by name of the system, [pairs] texts: models and baselines alike. ``rl`` is compared with ``mle``.
        config: metric of the comparison; samples and seed of the bootstrap and of the randomisation test.
        workers: processes that score. Numbers do not depend on it.
        lowercase: BLEU and chrF do not tell A from a (ROUGE never does). For models that write lower case only.
        notes: what there is to tell of the corpus.

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
    groups = [pair.group for pair in pairs]
    corpus: dict[str, dict[str, CorpusMetric]] = {}
    systems: dict[str, Numbers] = {}
    for name, texts in tqdm(outputs.items(), "scoring systems", unit="system", delay=2):
        corpus[name] = {"bleu": bleu(texts, references, lowercase), "chrf": chrf(texts, references, lowercase)}
        scores = _scores(rouge[name], corpus[name], groups, config)
        systems[name] = {**scores, **text_statistics(texts, sources)}
    if "mle" in systems and "rl" in systems:
        if config.metric == "rouge_l":
            systems["rl"] |= _comparison(rouge["rl"]["rougeL"], rouge["mle"]["rougeL"], groups, config)
        else:
            rl, mle = corpus["rl"][config.metric], corpus["mle"][config.metric]
            systems["rl"] |= _corpus_comparison(rl, mle, groups, config)
    systems[REFERENCE] = text_statistics([pair.target for pair in pairs], sources)
    signatures = {key: metric.signature for metrics in corpus.values() for key, metric in metrics.items()}
    count = len(group_totals(np.ones((len(pairs), 1)), groups))
    return Evaluation(len(pairs), count, systems, signatures, config.metric, tuple(notes))


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
        score = metric.score()
        interval = bootstrap(metric.statistics, groups, config.bootstrap_samples, config.seed, metric.scores)
        numbers |= _with_interval(name, score, interval)
    return numbers


def _comparison(
    rl: NDArray[np.float64], mle: NDArray[np.float64], groups: Sequence[str], config: EvaluateConfig
) -> Numbers:
    interval = paired_difference(rl, mle, groups, config.bootstrap_samples, config.seed)
    p_value = paired_p_value(rl, mle, groups, config.bootstrap_samples, config.seed)
    return {**_with_interval("rougeL_vs_mle", float((rl - mle).mean()), interval), "p_value_vs_mle": p_value}


def _corpus_comparison(rl: CorpusMetric, mle: CorpusMetric, groups: Sequence[str], config: EvaluateConfig) -> Numbers:
    arguments = (rl.statistics, mle.statistics, groups, config.bootstrap_samples, config.seed, rl.scores)
    difference = _with_interval(
        f"{_KEYS[config.metric]}_vs_mle", rl.score() - mle.score(), corpus_difference(*arguments)
    )
    return {**difference, "p_value_vs_mle": corpus_p_value(*arguments)}


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> Numbers:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _rounded(numbers: Numbers) -> Numbers:
    """Shares to four places, p-values to six (the least is 1 / (samples + 1)), the rest to two; a count stays whole."""
    places = dict.fromkeys(_SHARES, 4) | {"p_value_vs_mle": 6}
    return {key: round(value, places.get(key, 2)) for key, value in numbers.items()}


def format_table(evaluation: Evaluation) -> str:
    """A Markdown table, aligned for the terminal: a row a system; then RL against MLE in a sentence, and the notes.

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
    if "p_value_vs_mle" in evaluation.systems.get("rl", {}):
        parts.append(_comparison_sentence(evaluation.systems["rl"], evaluation.metric))
    if evaluation.metric in evaluation.signatures:
        parts.append(f"{_TITLES[evaluation.metric]} is sacrebleu's: `{evaluation.signatures[evaluation.metric]}`")
    if evaluation.notes:
        parts.append("The corpus:\n" + "\n".join(f"- {note}" for note in evaluation.notes))
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


def _comparison_sentence(rl: Numbers, metric: Metric) -> str:
    difference, low, high = (rl[f"{_KEYS[metric]}_vs_mle{end}"] for end in ("", "_low", "_high"))
    p_value = rl["p_value_vs_mle"]
    told = "p < 0.0001" if p_value < 0.5e-4 else f"p = {p_value:.4f}"
    return (
        f"RL - MLE: {difference:+.2f} {_TITLES[metric]} (95% interval {low:.2f} to {high:.2f}), "
        f"{told} (paired randomisation test)"
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
