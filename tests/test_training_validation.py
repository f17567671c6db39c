from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sacrebleu import corpus_bleu
from tiny import sentences, tiny_model

from rlseq2seq.config.training import ValidationConfig
from rlseq2seq.data.batches import make_batch
from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.store import TokenStore, write_store
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.decoding.single_path import greedy
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.rewards.rouge import rouge_l_of_texts
from rlseq2seq.training import validation
from rlseq2seq.training.validation import validation_scores

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, word_vocabulary: Vocabulary) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    texts = sentences(14)
    pairs = [Pair("", f"{texts[i]} 日本{i}", f"{texts[i + 7]} 日本{i}") for i in range(7)]
    write_store(folder, "validation", [*pairs[:3], Pair("", "", "sum"), *pairs[3:]], word_vocabulary)
    return TokenStore(folder, "validation")


def config(pairs: int, metric: str = "rouge_l") -> ValidationConfig:
    return ValidationConfig(every=1, pairs=pairs, metric=metric, patience=1)  # type: ignore[arg-type]


def one_by_one(model: torch.nn.Module, vocabulary: Vocabulary, store: TokenStore, count: int) -> dict[str, float]:
    """The scores by their definition: a pair at a time, all tokens weighing the same, all texts the same."""
    log_prob = tokens = rouge = 0.0
    for row in range(count):
        batch = make_batch(store, torch.tensor([row]).numpy(), CPU)
        memory = model.encode(batch.sources, batch.source_lengths)
        log_prob += score_tokens(model, memory, batch.targets, batch.target_lengths).log_probs.sum().item()
        tokens += batch.targets.shape[1]
        limit = vocabulary.config.max_target_tokens
        found = greedy(model, memory, limit)
        text = vocabulary.decode(found.tokens[0].tolist(), batch.copies[0])
        rouge += rouge_l_of_texts([text], [store.target_text(row)], "surface").fmeasure.item()
    return {"validation_loss": -log_prob / tokens, "validation_rouge_l": 100 * rouge / count}


@pytest.mark.parametrize(("count", "batch_size"), [(8, 128), (8, 3), (5, 2), (1000, 3)])
def test_scores_are_those_of_a_pair_at_a_time(
    store: TokenStore, word_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, count: int, batch_size: int
) -> None:
    monkeypatch.setattr(validation, "_BATCH_SIZE", batch_size)
    model = tiny_model(len(word_vocabulary), seed=4)
    with torch.no_grad():
        expected = one_by_one(model, word_vocabulary, store, min(count, len(store)))
    assert expected["validation_rouge_l"] > 0
    assert validation_scores(model, word_vocabulary, store, config(count), CPU) == pytest.approx(expected, rel=1e-6)


def test_no_gradient_is_kept(store: TokenStore, word_vocabulary: Vocabulary) -> None:
    model = tiny_model(len(word_vocabulary))
    validation_scores(model, word_vocabulary, store, config(8), CPU)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("lowercase", [True, False])
def test_bleu_is_that_of_all_texts_as_one_corpus(
    lowercase: bool, tmp_path: Path, word_vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_BATCH_SIZE", 3)
    model = tiny_model(len(word_vocabulary), seed=4)
    vocabulary = Vocabulary(word_vocabulary.model, replace(word_vocabulary.config, lowercase=lowercase))
    sources = [text for text in sentences(12) if len(text.split()) > 4]
    outputs = []
    for source in sources:
        ids = vocabulary.encode_source(source)
        memory = model.encode(torch.tensor([ids.ids]), torch.tensor([len(ids.ids)]))
        found = greedy(model, memory, vocabulary.config.max_target_tokens)
        outputs.append(vocabulary.decode(found.tokens[0].tolist(), ids.copies))
    # The better half of the outputs are what was wanted, but for their first letter.
    targets = [text.capitalize() if i % 2 else "no such words as these" for i, text in enumerate(outputs)]
    write_store(tmp_path, "validation", [Pair("", *pair) for pair in zip(sources, targets, strict=True)], vocabulary)
    found = validation_scores(model, vocabulary, TokenStore(tmp_path, "validation"), config(99, "bleu"), CPU)
    expected = corpus_bleu(outputs, [targets], lowercase=lowercase, force=True).score
    assert found["validation_bleu"] == pytest.approx(expected) and 1 < expected < 99
    assert "validation_bleu" not in validation_scores(
        model, vocabulary, TokenStore(tmp_path, "validation"), config(99, "rouge_l"), CPU
    )
