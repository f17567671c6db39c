from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from critic_cases import random_critic
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MODELS, TableModel, every_sequence, move, random_batch, select, tiny_model
from torch import Tensor
from torch.nn.functional import pad

from rlseq2seq import ops
from rlseq2seq.data.batches import Batch
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.guided import guided_by
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.models.critic import ActionCritic
from rlseq2seq.models.pointer_generator import PointerGenerator
from rlseq2seq.models.protocol import select_rows
from rlseq2seq.objectives.scoring import Scored, score_tokens
from rlseq2seq.ops import SearchRules
from rlseq2seq.token_ids import END, PAD, START, UNKNOWN

SEEDS = st.integers(0, 10_000)
SIZE, COPIES, MAX_TOKENS = 9, 2, 7
EXTENDED = SIZE + COPIES
RULES = st.builds(
    SearchRules,
    length_penalty=st.sampled_from([0.0, 1.0, 1.7]),
    block_ngrams=st.integers(0, 3),
    min_tokens=st.integers(0, 4),
)


class Case(NamedTuple):
    model: PointerGenerator
    critic: ActionCritic
    batch: Batch
    weight: float

    def search(self, beam: int, rules: SearchRules, batch: Batch | None = None) -> Hypotheses:
        batch = batch or self.batch
        memory = self.model.encode(batch.sources, batch.source_lengths)
        guide = guided_by(self.critic, self.weight, EXTENDED)
        return beam_search(self.model, memory, MAX_TOKENS, beam, rules, guide)


def make_case(seed: int, device: torch.device, weight: float = 0.7) -> Case:
    """Any kind of model with any kind of critic; the last of four sources is empty."""
    model = MODELS[seed % len(MODELS)].model(SIZE, seed).to(device)
    critic = random_critic(model.feature_size, SIZE, seed, dueling=seed % 2 == 0).to(device)
    return Case(model, critic, move(random_batch(seed, SIZE, copies=COPIES, empty=True), device), weight)


def guided_scores(scored: Scored, critic: ActionCritic, weight: float, extended_size: int) -> Tensor:
    """log p(y) + w (Q(y) - sum over a of p(a) Q(a)) of the tokens, each p(a) by an operator of its own."""
    values = critic(scored.mixture, extended_size).detach().double()
    mean = torch.zeros_like(values[:, 0])
    for action in range(extended_size):
        mean += ops.pointer_loss(scored.mixture, torch.full_like(scored.tokens, action)).exp() * values[:, action]
    return scored.log_probs + weight * (values.gather(1, scored.tokens[:, None])[:, 0] - mean)


@settings(max_examples=60)
@given(SEEDS, RULES, st.integers(1, 5))
@torch.no_grad()
def test_each_hypothesis_is_scored_by_its_own_states(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    case = make_case(seed, device)
    # Of a model that cannot copy, words that only a source has score as unknown: it never writes them.
    extended_size = EXTENDED if case.model.config.copy else SIZE
    found = case.search(beam, rules)
    memory = case.model.encode(case.batch.sources, case.batch.source_lengths)
    scored = score_tokens(case.model, memory, found.tokens, found.lengths)
    sums = scored.of_sequences(guided_scores(scored, case.critic, case.weight, extended_size), 4)
    expected = sums / found.lengths.double() ** rules.length_penalty
    torch.testing.assert_close(found.scores, expected, atol=1e-4, rtol=1e-4)  # critics are in float32


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_a_beam_that_holds_everything_finds_the_best(device: torch.device, seed: int, length_penalty: float) -> None:
    model = TableModel(6, width=2, seed=seed).to(device)
    critic = random_critic(model.feature_size, 6, seed, dueling=seed % 2 == 0).to(device)
    memory = model.encode(torch.tensor([[6, 4], [5, 0]], device=device), torch.tensor([2, 1], device=device))
    tokens, lengths = (t.to(device) for t in every_sequence(7, 3))
    rules, guide = SearchRules(length_penalty), guided_by(critic, 2.0, 7)
    found = beam_search(model, memory, 3, 400, rules, guide)
    plain = beam_search(model, memory, 3, 400, rules)
    for source in (0, 1):
        one = select_rows(memory, torch.tensor([source], device=device))
        scored = score_tokens(model, one, tokens, lengths)
        sums = scored.of_sequences(guided_scores(scored, critic, 2.0, 7), len(tokens))
        scores = sums / lengths.double() ** length_penalty
        assert torch.equal(found.tokens[source], tokens[scores.argmax()])
        torch.testing.assert_close(found.scores[source], scores.max(), atol=1e-4, rtol=1e-4)
    assert not torch.equal(found.tokens, plain.tokens)


@settings(max_examples=15)
@given(SEEDS)
@torch.no_grad()
def test_a_beam_of_one_takes_the_best_token_of_each_step(device: torch.device, seed: int) -> None:
    case = make_case(seed, device)
    found = case.search(1, SearchRules())
    for row in range(4):
        one = select(case.batch, [row])
        memory = case.model.encode(one.sources, one.source_lengths)
        state, written = case.model.initial_state(memory), [START]
        while len(written) <= MAX_TOKENS and written[-1] != END:
            token = torch.tensor(written[-1:], device=device)
            mixture, state = case.model.step(memory, state, case.model.embed(token))
            log_probs = ops.mixture_log_probs(mixture, EXTENDED)[0]
            values = case.critic(mixture, EXTENDED)[0]
            written.append(int((log_probs + case.weight * values).argmax()))  # in one state the mean changes nothing
        assert found.tokens[row, : found.lengths[row]].tolist() == written[1:]


@settings(max_examples=15)
@given(SEEDS, RULES, st.integers(1, 5))
@torch.no_grad()
def test_a_critic_without_a_preference_changes_nothing(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    case = make_case(seed, device, weight=50.0)
    memory = case.model.encode(case.batch.sources, case.batch.source_lengths)
    plain = beam_search(case.model, memory, MAX_TOKENS, beam, rules)
    # Q is some number that depends on the state alone.
    for layer in (case.critic.actions, case.critic.copies):
        layer.weight.zero_()
        layer.bias.fill_(-3.0 if layer is case.critic.actions else 0.0)
    found = case.search(beam, rules)
    assert torch.equal(found.tokens, plain.tokens)
    torch.testing.assert_close(found.scores, plain.scores, atol=5e-3, rtol=0)  # 50 times what float32 leaves


@settings(max_examples=15)
@given(SEEDS, RULES, st.integers(1, 5))
@torch.no_grad()
def test_a_row_does_not_depend_on_batch_order_or_padding(
    device: torch.device, seed: int, rules: SearchRules, beam: int
) -> None:
    case = make_case(seed, device)
    found = case.search(beam, rules)
    for rows in ([0], [1], [2], [3], [3, 1, 0, 2], [1, 1]):
        other = case.search(beam, rules, select(case.batch, rows))
        assert torch.equal(other.tokens, found.tokens[rows])
        torch.testing.assert_close(other.scores, found.scores[rows], atol=1e-4, rtol=1e-4)
    wider = replace(case.batch, sources=pad(case.batch.sources, (0, 5), value=PAD))
    assert torch.equal(case.search(beam, rules, wider).tokens, found.tokens)


@settings(max_examples=20)
@given(SEEDS, RULES, st.integers(1, 5), st.sampled_from([0.7, 30.0]))
@torch.no_grad()
def test_outputs_keep_the_rules_whatever_the_critic_wants(
    device: torch.device, seed: int, rules: SearchRules, beam: int, weight: float
) -> None:
    found = make_case(seed, device, weight).search(beam, rules)
    assert found.tokens.shape == (4, MAX_TOKENS) and found.scores.isfinite().all()
    for row, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True):
        tokens, n = row[:length], rules.block_ngrams
        assert END not in tokens[:-1] and (tokens[-1] == END or length == MAX_TOKENS)
        assert all(token == PAD for token in row[length:])
        assert length > rules.min_tokens
        if n:
            grams = [tuple(tokens[i : i + n]) for i in range(length - n + 1)]
            assert len(set(grams)) == len(grams)


@torch.no_grad()
def test_the_critic_s_favourite_is_written_but_only_where_the_source_has_it(device: torch.device) -> None:
    favourite = SIZE  # the first copy
    sources = torch.tensor([[favourite, 5, 6], [5, 6, 7]], device=device)
    for seed in range(10):
        model = tiny_model(SIZE, seed).to(device)
        critic = random_critic(model.feature_size, SIZE, seed, dueling=False).to(device)
        critic.actions.weight.zero_()
        critic.actions.bias.zero_()
        critic.actions.bias[UNKNOWN] = 1.0
        critic.copies.weight.zero_()
        critic.copies.bias.fill_(1.0)
        memory = model.encode(sources, torch.tensor([3, 3], device=device))
        guide = guided_by(critic, 2000.0, EXTENDED)
        found = beam_search(model, memory, MAX_TOKENS, 3, SearchRules(), guide)
        assert set(found.tokens[0].tolist()) == {favourite}
        assert set(found.tokens[1].tolist()) == {UNKNOWN}
        # Where no word may come twice, a copy that the source lacks would be the next best.
        once = beam_search(model, memory, MAX_TOKENS, 1, SearchRules(block_ngrams=1), guide)
        assert once.tokens[0, 0] == favourite and once.tokens[1, 0] == UNKNOWN
        assert (once.tokens[0] <= favourite).all() and (once.tokens[1] < SIZE).all()
