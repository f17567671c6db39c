"""The evaluate stage on models that have learned nothing, in this process."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from critic_cases import random_critic
from ruamel.yaml import YAML
from tiny import sentences, tiny_model

from rlseq2seq.config.base import load
from rlseq2seq.config.evaluate import EvaluateConfig
from rlseq2seq.data.pairs import Pair, write_pairs
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.errors import UserError
from rlseq2seq.generation import Generator
from rlseq2seq.models.saved import save_model
from stages import evaluate

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the stage finds all that it reads but models/rl; to be decoded with a critic."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["evaluate"]["bootstrap_samples"] = 100
    params["evaluate"]["decoding"] |= {"critic_weight": 0.5, "beam_size": 2}
    params["runtime"] |= {"device": "cpu", "threads": 1, "workers": 1}
    YAML().dump(params, tmp_path / "params.yaml")
    (tmp_path / "data" / "raw").mkdir(parents=True)
    pairs = [Pair(str(i), text, text[::-1], f"group{i % 6}") for i, text in enumerate(sentences(24))]
    for split in ("train", "test"):
        write_pairs(tmp_path / "data" / "raw" / f"{split}.jsonl", pairs)
    save_model(tmp_path / "models" / "mle", tiny_model(len(vocabulary), 1, dtype=torch.float32), vocabulary)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "corpus.json").write_text(json.dumps({"notes": ["the test split is a half"]}))
    monkeypatch.chdir(tmp_path)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def test_the_critic_guides_the_fine_tuned_model_alone(folder: Path, vocabulary: Vocabulary) -> None:
    models = [tiny_model(len(vocabulary), seed, dtype=torch.float32) for seed in (1, 2)]
    critic = random_critic(models[1].feature_size, len(vocabulary))
    save_model(folder / "models" / "rl", models[1], vocabulary, critic)
    evaluate.main()

    search = load(EvaluateConfig, "evaluate").decoding
    plain = replace(search, critic_weight=0.0)
    texts = sentences(24)
    rows = [json.loads(line) for line in (folder / "reports" / "predictions.jsonl").read_text().splitlines()]
    found = {name: [row["outputs"][name] for row in rows] for name in ("mle", "rl")}
    guided = Generator(models[1], vocabulary, CPU, critic)
    assert found["mle"] == Generator(models[0], vocabulary, CPU).generate(texts, plain)
    assert found["rl"] == guided.generate(texts, search) != guided.generate(texts, plain)


def test_a_fine_tuned_model_without_a_critic_is_told_before_anything_is_decoded(
    folder: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(folder / "models" / "rl", tiny_model(len(vocabulary), 2, dtype=torch.float32), vocabulary)
    monkeypatch.setattr(Generator, "generate", None)
    with pytest.raises(UserError, match=r"^critic_weight is 0\.5, but the model has no critic: set it to 0, or"):
        evaluate.main()
    assert [path.name for path in (folder / "reports").iterdir()] == ["corpus.json"]


def test_results_say_what_the_test_pairs_are(folder: Path, vocabulary: Vocabulary) -> None:
    params = YAML(typ="safe").load(folder / "params.yaml")
    params["evaluate"] |= {"metric": "bleu", "baselines": ["source"]}
    params["evaluate"]["decoding"] |= {"critic_weight": 0.0}
    YAML().dump(params, folder / "params.yaml")
    save_model(folder / "models" / "rl", tiny_model(len(vocabulary), 2, dtype=torch.float32), vocabulary)
    evaluate.main()
    reports = {path.name: path.read_text() for path in (folder / "reports").iterdir()}
    assert "- the test split is a half" in reports["results.md"]
    evaluation = json.loads(reports["evaluation.json"])
    assert evaluation["notes"] == ["the test split is a half"]
    assert evaluation["signatures"]["bleu"] in reports["results.md"]
    assert json.loads(reports["metrics.json"])["test"].keys() == {"mle", "rl", "source"}
    assert evaluation["test"]["source"]["novel_1"] == 0
