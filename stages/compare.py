"""One run of the comparison: the pretrained model, trained on by a method from a seed, on the test split."""

import json
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

from rlseq2seq.config.base import load
from rlseq2seq.config.comparison import COMPARISON, load_comparison
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.data.pairs import Pair, read_pairs
from rlseq2seq.errors import UserError
from rlseq2seq.evaluation.metrics import rouge_scores
from rlseq2seq.evaluation.text_statistics import text_statistics
from rlseq2seq.generation import Generator
from rlseq2seq.training.checkpoints import Checkpoints, Progress
from rlseq2seq.training.device import set_up_device
from stages.common import RAW, run, write_text_whole
from stages.finetune import fine_tune
from stages.resumable import run_folder

FOLDER = Path("experiments/comparison")


def main() -> None:
    method, seed, config = _arguments()
    runtime = load(RuntimeConfig, "runtime")
    device = set_up_device(runtime)
    with run_folder("compare", FOLDER / "dvc.yaml", {"method": method, "seed": str(seed)}) as folder:
        print(f"compare: {method}, seed {seed}", flush=True)
        checkpoints = Checkpoints(folder)
        model, vocabulary, _, progress = fine_tune(config, runtime, device, checkpoints)
        pairs = list(read_pairs(RAW / "test.jsonl"))
        outputs = Generator(model, vocabulary, device).generate([pair.source for pair in pairs], progress=True)
        scores = _scores(pairs, outputs, runtime.workers or os.cpu_count() or 1)
        costs = _costs(progress, checkpoints.seconds, config)
        found = {"method": method, "seed": seed, **costs, **scores, **_critic(progress)}
        texts = "".join(f"{json.dumps(text)}\n" for text in outputs)
        write_text_whole(FOLDER / "outputs" / f"{method}-{seed}.jsonl", texts)
        write_text_whole(FOLDER / "runs" / f"{method}-{seed}.json", json.dumps(found) + "\n")


def _arguments() -> tuple[str, int, FinetuneConfig]:
    comparison, configs = load_comparison()
    match sys.argv[1:]:
        case [method, seed] if method in configs and seed in map(str, comparison.seeds):
            return method, int(seed), replace(configs[method], seed=int(seed))
        case words:
            raise UserError(
                f"{' '.join(words) or 'nothing'!r} is not METHOD SEED: give one of {', '.join(configs)}, and one of "
                f"{', '.join(map(str, comparison.seeds))}, or add to {COMPARISON}"
            )


def _costs(progress: Progress, seconds: float, config: FinetuneConfig) -> dict[str, float]:
    return {
        "updates": progress.step,
        "best_update": progress.best_step,
        "sources": -(-progress.step // config.updates_per_batch) * config.batch_size,
        "tokens": progress.tokens,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(progress.tokens / seconds),
        # Linux counts in KiB.
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _critic(progress: Progress) -> dict[str, object]:
    """How much of the variance of held-out returns a critic explained, at each validation."""
    key = "critic_explained_variance"
    explained = {str(row["step"]): round(row[key], 4) for row in progress.history if key in row}
    return {key: explained} if explained else {}


def _scores(pairs: list[Pair], outputs: list[str], workers: int) -> dict[str, object]:
    rouge = rouge_scores(outputs, [(pair.target, *pair.references) for pair in pairs], workers)
    statistics = text_statistics(outputs, [pair.source for pair in pairs])
    return {
        "test": {name: round(float(rouge[name].mean()), 4) for name in ("rouge1", "rouge2", "rougeL")},
        **{name: round(statistics[name], 4) for name in ("words", "repetition", "punctuation")},
        # To two places, of a hundred: for paired tests, and small enough for git.
        "rougeL_of_pairs": [round(score, 2) for score in rouge["rougeL"].tolist()],
    }


if __name__ == "__main__":
    run(main)
