"""Draws docs/critic.svg, what the critics of the comparison knew as they learned: python -m docs.critic"""

import json
from pathlib import Path
from statistics import mean

from docs.curves import Axes, Curve, line_chart
from rlseq2seq.config.comparison import load_comparison

RUNS = Path("experiments/comparison/runs")
COLOURS = {"actor_critic": ("#0550ae", "#6cb6ff"), "actor_critic_state_value": ("#953800", "#f0883e")}


def curve(method: str, seeds: tuple[int, ...]) -> Curve:
    """The mean over seeds."""
    runs = [json.loads((RUNS / f"{method}-{seed}.json").read_text()) for seed in seeds]
    explained = [run["critic_explained_variance"] for run in runs]
    points = [(int(step), mean(found[step] for found in explained)) for step in explained[0]]
    step, value = points[-1]
    return Curve(points, (step, value + 0.03), COLOURS[method])


def picture() -> str:
    comparison, configs = load_comparison()
    curves = {method: curve(method, comparison.seeds) for method in COLOURS}
    warmup, last = configs["actor_critic"].critic.warmup_updates, comparison.updates
    title = f"Explained variance of held-out returns; the first {warmup} updates are the critic's alone"
    axes = Axes("update", "explained variance", range(0, last + 1, 100), [i / 10 for i in range(9)], last)
    return line_chart(title, curves, axes)


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture())
