import pytest
import torch
from model_cases import COPIES, SIZE, encode, step_by_step, teacher_forced
from tiny import ATTENTIONS, move, random_batch, tiny_model

from rlseq2seq.config.model import AttentionConfig
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.objectives.scoring import score_tokens
from rlseq2seq.token_ids import PAD, UNKNOWN


def test_tokens_that_only_the_source_has_are_read_as_unknown(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    batch = move(random_batch(3, SIZE, copies=5), device)
    unknown = batch.sources.masked_fill(batch.sources >= SIZE, UNKNOWN)
    assert not torch.equal(unknown, batch.sources)
    read, unread = encode(model, batch), model.encode(unknown, batch.source_lengths)
    assert torch.equal(read.values, unread.values) and torch.equal(read.source_ids, batch.sources)


def test_a_one_hot_mixture_of_embeddings_is_the_embedding(device: torch.device) -> None:
    model = tiny_model(SIZE).to(device)
    tokens = torch.arange(SIZE + COPIES, device=device)
    weights = torch.nn.functional.one_hot(tokens, SIZE + COPIES).double()
    torch.testing.assert_close(model.embedding_mixture(weights), model.embed(tokens), rtol=0, atol=0)
    expected = (model.embedding.weight[5] + model.embedding.weight[UNKNOWN]) / 2
    torch.testing.assert_close(model.embedding_mixture((weights[5] + weights[SIZE + 1]) / 2), expected)


@pytest.mark.parametrize("attention", [a for a in ATTENTIONS if a.score == "additive"], ids=str)
def test_coverage_with_its_first_weight_of_zero_changes_no_output(
    device: torch.device, attention: AttentionConfig
) -> None:
    torch.manual_seed(0)
    fresh = PointerGenerator(tiny_model(SIZE, attention=attention).config, SIZE)
    assert fresh.attention_coverage.eq(0).all() and not fresh.uses_coverage
    model = tiny_model(SIZE, attention=attention).to(device)
    with torch.no_grad():
        model.attention_coverage.zero_()
    batch = move(random_batch(0, SIZE), device)
    off = teacher_forced(model, batch)
    model.uses_coverage = True
    assert torch.equal(teacher_forced(model, batch), off)
    # From there it learns, and what it learns shows.
    scored = score_tokens(model, encode(model, batch), batch.targets, batch.target_lengths)
    (scored.coverage_loss.sum() - scored.log_probs.sum()).backward()
    assert model.attention_coverage.grad is not None and model.attention_coverage.grad.ne(0).all()
    with torch.no_grad():
        model.attention_coverage.fill_(-1.0)
    assert not torch.allclose(teacher_forced(model, batch), off)


def test_coverage_loss_is_the_overlap_with_the_attention_before(device: torch.device) -> None:
    model = tiny_model(SIZE, coverage=True).to(device)
    batch = move(random_batch(1, SIZE), device)
    memory = encode(model, batch)
    state, expected = model.initial_state(memory), []
    for tokens in batch.targets.unbind(1):
        before = state.coverage
        mixture, state = model.step(memory, state, model.embed(tokens))
        expected.append(
            [
                sum(min(a, c) for a, c in zip(row, cover, strict=True))
                for row, cover in zip(mixture.attention.tolist(), before.tolist(), strict=True)
            ]
        )
    found = model.all_steps(memory, model.embed(batch.targets)).coverage_loss
    torch.testing.assert_close(found.T.cpu(), torch.tensor(expected, dtype=torch.float64))
    assert found[:, 0].eq(0).all() and found[:, 1:].gt(0).all()
    model.uses_coverage = False
    assert model.all_steps(memory, model.embed(batch.targets)).coverage_loss.eq(0).all()


@pytest.mark.parametrize("coverage", [True, False])
@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_attention_of_the_model_is_zero_at_padding_and_sums_to_one(
    device: torch.device, attention: AttentionConfig, coverage: bool
) -> None:
    model = tiny_model(SIZE, attention=attention, coverage=coverage and attention.score == "additive").to(device)
    batch = move(random_batch(2, SIZE), device)
    memory = encode(model, batch)
    attention = model.all_steps(memory, model.embed(batch.targets)).attention
    assert attention.masked_select(~memory.mask[:, None]).eq(0).all()
    torch.testing.assert_close(attention.sum(2), torch.ones_like(attention[:, :, 0]))


def test_tied_weights_are_one_matrix_projected_ones_made_from_it_and_separate_ones_two() -> None:
    tied, projected, separate = (tiny_model(SIZE, output_weights=name) for name in ("tied", "projected", "separate"))
    assert tied.output.weight is tied.embedding.weight and projected.output.weight is projected.embedding.weight
    assert separate.output.weight is not separate.embedding.weight
    sizes = [sum(p.numel() for p in model.parameters()) for model in (tied, projected, separate)]
    assert (sizes[1] - sizes[0], sizes[2] - sizes[0]) == (5 * 5, SIZE * 5)


def test_only_a_model_that_copies_has_a_gate_and_copies(device: torch.device) -> None:
    batch = move(random_batch(0, SIZE), device)
    for copy in (True, False):
        model = tiny_model(SIZE, copy=copy).to(device)
        log_probs = step_by_step(model, encode(model, batch), batch.targets)
        assert log_probs[:, :, SIZE:].isfinite().any() == copy
        assert log_probs[:, :, :SIZE].isfinite().all()


def test_dropout_changes_training_and_not_evaluation() -> None:
    model, batch = tiny_model(SIZE, dropout=0.5), random_batch(0, SIZE)
    assert torch.equal(teacher_forced(model, batch), teacher_forced(model, batch))
    model.train()
    assert not torch.equal(teacher_forced(model, batch), teacher_forced(model, batch))


def test_the_embedding_of_padding_starts_at_zero() -> None:
    for name in ("tied", "projected", "separate"):
        model = PointerGenerator(tiny_model(SIZE, output_weights=name).config, SIZE)
        assert model.embedding.weight[PAD].eq(0).all()
