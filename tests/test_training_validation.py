import pytest
import torch
from tiny import sentences, tiny_model

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
    assert validation_scores(model, word_vocabulary, store, count, CPU) == pytest.approx(expected, rel=1e-6)


def test_no_gradient_is_kept(store: TokenStore, word_vocabulary: Vocabulary) -> None:
    model = tiny_model(len(word_vocabulary))
    validation_scores(model, word_vocabulary, store, 8, CPU)
    assert all(parameter.grad is None for parameter in model.parameters())
