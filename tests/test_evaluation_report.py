import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlseq2seq.config.decoding import BeamConfig
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.data.pairs import Pair
from rlseq2seq.errors import UserError
from rlseq2seq.evaluation.report import Evaluation, evaluate_systems, format_table, write_predictions

CONFIG = EvaluateConfig(
    metric="rouge_l",
    baselines=(),
    seed=0,
    bootstrap_samples=500,
    batch_size=1,
    decoding=BeamConfig(beam_size=1, length_penalty=1.0, block_ngrams=0, min_tokens=0, critic_weight=0.0),
)
PAIRS = [
    Pair(id="m:f", source="f adds two numbers .", target="add two numbers", group="m"),
    Pair(id="m:g", source="g", target="the mean of a set", group="m"),
    Pair(id="n:h", source="h", target="open a file", group="n", references=("read a file now",)),
    Pair(id="o:i", source="i", target="close it", group="o"),
]
OUTPUTS = {
    "mle": ["two numbers", "the mean", "read a file", ", ,"],
    "rl": ["add two numbers", "the mean of a", "read a file now", ", ,"],
    "lead": ["f adds", "g", "h", "i"],
}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate_systems(PAIRS, OUTPUTS, CONFIG, workers=1, lowercase=True)


def test_scores_by_hand(evaluation: Evaluation) -> None:
    assert (evaluation.pairs, evaluation.groups) == (4, 3)
    # F = 2 * matches / (words of both): 4 / 5, 4 / 7, 6 / 7 with the second reference, and 0.
    assert evaluation.systems["mle"]["rougeL"] == pytest.approx(100 * (4 / 5 + 4 / 7 + 6 / 7) / 4)
    assert evaluation.systems["rl"]["rougeL"] == pytest.approx(100 * (1 + 8 / 9 + 1) / 4)
    assert evaluation.systems["lead"]["rougeL"] == pytest.approx(100 * (2 / 5) / 4)
    assert evaluation.systems["mle"]["rouge2"] == pytest.approx(100 * (2 / 3 + 2 / 5 + 4 / 5) / 4)


def test_every_score_has_an_interval_around_it(evaluation: Evaluation) -> None:
    for name in ("mle", "rl", "lead"):
        numbers = evaluation.systems[name]
        for score in ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf"):
            assert 0 <= numbers[f"{score}_low"] <= numbers[score] <= numbers[f"{score}_high"] <= 100 + 1e-9


def test_intervals_resample_groups(evaluation: Evaluation) -> None:
    # Resampled to three times group o, or three times group n.
    assert evaluation.systems["mle"]["rougeL_low"] == 0
    assert evaluation.systems["mle"]["rougeL_high"] == pytest.approx(100 * 6 / 7)


def test_rl_is_compared_with_mle(evaluation: Evaluation) -> None:
    rl = evaluation.systems["rl"]
    assert rl["rougeL_vs_mle"] == pytest.approx(rl["rougeL"] - evaluation.systems["mle"]["rougeL"])
    assert rl["rougeL_vs_mle_low"] == 0 < rl["rougeL_vs_mle"] < rl["rougeL_vs_mle_high"]
    # Differences of groups m and n are positive and that of o is 0: ++ and -- of four.
    assert rl["p_value_vs_mle"] == pytest.approx(1 / 2, abs=0.07)
    assert not any("vs_mle" in key for name in ("mle", "lead", "reference") for key in evaluation.systems[name])


def test_what_a_cheated_reward_would_show(evaluation: Evaluation) -> None:
    mle = evaluation.systems["mle"]
    assert mle["words"] == pytest.approx(9 / 4)
    assert mle["punctuation"] == pytest.approx(2 / 9)
    assert mle["empty"] == 0
    assert mle["novel_1"] == pytest.approx(7 / 9)
    assert evaluation.systems["reference"]["words"] == pytest.approx(13 / 4)
    assert "rougeL" not in evaluation.systems["reference"]


def test_metrics_are_plain_rounded_json(evaluation: Evaluation) -> None:
    metrics = json.loads(json.dumps(evaluation.metrics()))
    assert metrics["test"]["pairs"] == 4
    assert metrics["test"]["mle"]["rougeL"] == 55.71
    assert metrics["test"]["mle"]["novel_1"] == 0.7778
    assert metrics["test"]["mle"]["empty"] == 0 and isinstance(metrics["test"]["mle"]["empty"], int)
    assert metrics["test"]["reference"]["words"] == 3.25
    assert metrics["signatures"]["bleu"].startswith("nrefs:var|case:lc|")


def test_headline_is_short_and_has_the_baseline_beside_the_model(evaluation: Evaluation) -> None:
    rl = evaluation.systems["rl"]
    assert evaluation.headline() == {
        "test": {
            "mle": {"rougeL": 55.71},
            "rl": {
                "rougeL": 72.22,
                "rougeL_vs_mle": 16.51,
                "p_value_vs_mle": round(rl["p_value_vs_mle"], 6),
            },
            "lead": {"rougeL": 10.0},
        }
    }


def test_numbers_are_the_same_each_time(evaluation: Evaluation) -> None:
    assert evaluate_systems(PAIRS, OUTPUTS, CONFIG, workers=2, lowercase=True) == evaluation


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_models_are_compared_by_the_metric_that_is_asked_for(metric: Any, evaluation: Evaluation) -> None:
    found = evaluate_systems(PAIRS, OUTPUTS, replace(CONFIG, metric=metric), 1, lowercase=True, notes=["halved"])
    rl, mle = found.systems["rl"], found.systems["mle"]
    assert {key: value for key, value in rl.items() if "vs_mle" not in key}.items() <= evaluation.systems["rl"].items()
    assert rl[f"{metric}_vs_mle"] == pytest.approx(rl[metric] - mle[metric])
    assert rl[f"{metric}_vs_mle_low"] <= rl[f"{metric}_vs_mle"] <= rl[f"{metric}_vs_mle_high"]
    # Exchanging both of the groups in which they differ is as far as none.
    assert rl["p_value_vs_mle"] == pytest.approx(1 / 2, abs=0.07)
    assert "rougeL_vs_mle" not in rl
    assert found.headline()["test"]["rl"].keys() == {metric, f"{metric}_vs_mle", "p_value_vs_mle"}
    assert found.headline()["test"]["lead"].keys() == {metric}
    assert found.metrics()["notes"] == ["halved"]


def test_one_model_is_compared_with_none() -> None:
    alone = evaluate_systems(PAIRS, {"rl": OUTPUTS["rl"]}, CONFIG, workers=1, lowercase=False)
    assert alone.headline() == {"test": {"rl": {"rougeL": 72.22}}}
    assert "RL - MLE" not in format_table(alone)


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="test split has no pairs"):
        evaluate_systems([], {"mle": []}, CONFIG, workers=1, lowercase=False)
    with pytest.raises(ValueError, match="mle has 1 outputs for 4 pairs"):
        evaluate_systems(PAIRS, {"mle": ["a"]}, CONFIG, workers=1, lowercase=False)


def test_table() -> None:
    scores = {"rouge1": 30.7, "rouge2": 9.8, "rougeL": 28.3, "rougeLsum": 28.3, "bleu": 4.0, "chrf": 24.25}
    ends = {
        f"{name}_{end}": value + shift for name, value in scores.items() for end, shift in (("low", -1), ("high", 2))
    }
    text = {"words": 8.46, "empty": 3, "repetition": 0.004, "punctuation": 0.069, "novel_2": 0.551}
    against = {"rougeL_vs_mle": 0.82, "rougeL_vs_mle_low": 0.18, "rougeL_vs_mle_high": 1.47, "p_value_vs_mle": 0.0105}
    systems = {"rl": {**scores, **ends, **text, **against}, "reference": {**text, "words": 10.0, "empty": 0}}
    expected = """\
1200 test pairs in 90 groups; ± is half the 95% interval.

| system    |     ROUGE-1 |    ROUGE-2 |     ROUGE-L |       BLEU |        chrF | words | repeated | punctuation ~
| --------- | ----------: | ---------: | ----------: | ---------: | ----------: | ----: | -------: | ----------: ~
| rl        | 30.70 ±1.50 | 9.80 ±1.50 | 28.30 ±1.50 | 4.00 ±1.50 | 24.25 ±1.50 |   8.5 |     0.4% |        6.9% ~
| reference |             |            |             |            |             |  10.0 |     0.4% |        6.9% ~

RL - MLE: +0.82 ROUGE-L (95% interval 0.18 to 1.47), p = 0.0105 (paired randomisation test)"""
    for end in (
        "| novel 2-grams | empty |",
        "| ------------: | ----: |",
        "|         55.1% |     3 |",
        "|         55.1% |     0 |",
    ):
        expected = expected.replace("~", end, 1)
    assert format_table(Evaluation(1200, 90, systems, {"bleu": "nrefs:1"}, "rouge_l", ())) == expected
    systems["rl"]["p_value_vs_mle"] = 1 / 30_001
    surely = expected.replace("p = 0.0105", "p < 0.0001")
    assert format_table(Evaluation(1200, 90, systems, {"bleu": "nrefs:1"}, "rouge_l", ())) == surely
    systems["rl"] |= {key.replace("rougeL", "bleu"): value for key, value in against.items()}
    by_bleu = expected.replace("0.82 ROUGE-L", "0.82 BLEU") + "\n\nBLEU is sacrebleu's: `nrefs:1`"
    noted = by_bleu + "\n\nThe corpus:\n- the test split is half of another\n- terms: none"
    notes = ("the test split is half of another", "terms: none")
    assert format_table(Evaluation(1200, 90, systems, {"bleu": "nrefs:1"}, "bleu", ())) == by_bleu
    assert format_table(Evaluation(1200, 90, systems, {"bleu": "nrefs:1"}, "bleu", notes)) == noted


def test_predictions_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, PAIRS[:2], {"mle": ["größe", ""], "lead": ["a\nb", "g"]})
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {
            "id": "m:f",
            "source": "f adds two numbers .",
            "target": "add two numbers",
            "outputs": {"mle": "größe", "lead": "a\nb"},
        },
        {"id": "m:g", "source": "g", "target": "the mean of a set", "outputs": {"mle": "", "lead": "g"}},
    ]
    with pytest.raises(ValueError):
        write_predictions(path, PAIRS, {"mle": ["a"]})
