"""Stage 5: both models and the baselines on the test split."""

import json
import os
from dataclasses import replace

from rlseq2seq.config.base import load
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.data.pairs import read_pairs
from rlseq2seq.evaluation.baselines import baseline_outputs
from rlseq2seq.evaluation.report import evaluate_systems, format_table, write_predictions
from rlseq2seq.generation import load_on
from rlseq2seq.rewards.words import mean_words
from rlseq2seq.training.device import set_up_device
from stages.common import MLE, RAW, REPORTS, RL, run, write_text_whole


def main() -> None:
    config, runtime = load(EvaluateConfig, "evaluate"), load(RuntimeConfig, "runtime")
    device = set_up_device(runtime)
    workers = runtime.workers or os.cpu_count() or 1
    pairs = list(read_pairs(RAW / "test.jsonl"))
    sources = [pair.source for pair in pairs]
    generators = {"mle": load_on(MLE, device), "rl": load_on(RL, device)}
    generators["rl"].check(config.decoding)  # before the other one has worked for nothing
    searches = {"mle": replace(config.decoding, critic_weight=0.0), "rl": config.decoding}
    outputs = {}
    for name, generator in generators.items():
        print(f"evaluate: {name} writes {len(pairs):,} outputs", flush=True)
        outputs[name] = generator.generate(sources, searches[name], config.batch_size, progress=True)
    words = round(mean_words(pair.target for pair in read_pairs(RAW / "train.jsonl")))
    outputs |= baseline_outputs(config.baselines, pairs, words, workers)
    lowercase = generators["rl"].vocabulary.config.lowercase
    notes = json.loads((REPORTS / "corpus.json").read_text(encoding="utf-8"))["notes"]
    evaluation = evaluate_systems(pairs, outputs, config, workers, lowercase, notes)
    table = format_table(evaluation)
    write_predictions(REPORTS / "predictions.jsonl", pairs, outputs)
    write_text_whole(REPORTS / "evaluation.json", json.dumps(evaluation.metrics(), indent=2) + "\n")
    write_text_whole(REPORTS / "results.md", table + "\n")
    write_text_whole(REPORTS / "metrics.json", json.dumps(evaluation.headline(), indent=2) + "\n")
    print(f"\n{table}\n")


if __name__ == "__main__":
    run(main)
