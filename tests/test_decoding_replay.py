import gc
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import ATTENTIONS, MODELS, move, random_batch, tiny_model, tiny_transformer
from torch import Tensor, nn
from torch.nn.functional import pad
from waiting import nothing_waits

from rlseq2seq import ops
from rlseq2seq.decoding import beam, single_path
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.hypotheses import Hypotheses
from rlseq2seq.decoding.single_path import _Loop, greedy, sample
from rlseq2seq.token_ids import PAD

SIZE, STEPS = 9, 7
WAYS = ["greedy", "sample", "beam"]
# A model whose steps are never recorded.
GROWING = partial(tiny_model, attention=ATTENTIONS[-1])


def memory_of(model: Any, device: torch.device) -> Any:
    batch = move(random_batch(0, SIZE, copies=2, empty=True), device)
    return model.encode(batch.sources, batch.source_lengths)


def written(way: str, model: Any, memory: Any, noise: Tensor, rules: ops.SearchRules) -> Hypotheses:
    if way == "beam":
        return beam_search(model, memory, STEPS, 3, rules)
    return greedy(model, memory, STEPS) if way == "greedy" else sample(model, memory, STEPS, noise)


@pytest.mark.parametrize("variant", MODELS, ids=str)
def test_a_step_reads_and_writes_the_same_memory_so_that_it_can_be_replayed(device: torch.device, variant: Any) -> None:
    model = variant.model(SIZE).to(device)
    with torch.no_grad():
        loop = _Loop(model, memory_of(model, device), 3, STEPS, lambda mixture, place: ops.greedy_step(mixture))
        loop.step()
        before = [tensor.data_ptr() for tensor in (*loop._state, loop.tokens, loop.written, loop.scores, loop.place)]
        loop.step()
        after = [tensor.data_ptr() for tensor in (*loop._state, loop.tokens, loop.written, loop.scores, loop.place)]
    # Attention to what was written reads more at each step.
    assert loop.grows == variant.grows
    assert loop.grows or before == after


@pytest.mark.parametrize("make", [partial(tiny_model, coverage=True), tiny_transformer])
@pytest.mark.parametrize("way", WAYS)
def test_replayed_steps_give_what_steps_give(
    device: torch.device, way: str, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the one is a graph; everywhere, only steps after the first are replayed (of each of a beam's two states),
    and these as often as needed."""
    model = make(SIZE).to(device)
    memory = memory_of(model, device)
    arguments = way, model, memory, torch.rand(12, STEPS, device=device), ops.SearchRules(min_tokens=STEPS)
    module, eager = (beam, 2) if way == "beam" else (single_path, 1)
    replayed, replays = module.replayed, []

    def counted(step: Callable[[], None], where: torch.device) -> Callable[[], None]:
        run = replayed(step, where) or step
        return lambda: replays.append(run())

    monkeypatch.setattr(module, "replayed", counted)
    found = written(*arguments)
    monkeypatch.setattr(module, "replayed", lambda step, where: None)
    expected = written(*arguments)
    assert len(replays) == found.tokens.shape[1] - eager
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.lengths, expected.lengths)
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("make", [partial(tiny_model, coverage=True), GROWING, tiny_transformer])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_decoded_from_is_freed_at_once(device: torch.device, way: str, make: Callable[[int], Any]) -> None:
    """And not when Python next looks for cycles, which it does by the number of objects, however large they are."""
    model, noise = make(SIZE).to(device), torch.rand(12, STEPS, device=device)
    gc.disable()
    try:
        memory = memory_of(model, device)
        held = [weakref.ref(tensor) for tensor in memory if not isinstance(tensor, nn.Parameter)]
        found = written(way, model, memory, noise, ops.SearchRules(min_tokens=STEPS))
        del memory
        assert found.tokens.numel() > 0
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [partial(tiny_model, coverage=True), GROWING, tiny_transformer])
@pytest.mark.parametrize("way", WAYS)
def test_no_step_waits_for_the_device(
    device: torch.device, way: str, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are run one by one: what waits cannot be recorded, but the first and what a beam does between are not.

    Between steps the host may ask whether all have ended, which `may_stop` decides: here it is only told of them.
    """
    model, module = make(SIZE).to(device), beam if way == "beam" else single_path
    memory, noise, steps = memory_of(model, device), torch.rand(12, STEPS, device=device), []
    with ExitStack() as watched:

        def after_step(finished: Tensor, step: int) -> bool:
            steps.append(step)
            if step == STEPS - 1:
                watched.close()  # what makes hypotheses of it is no step any more
            return False

        monkeypatch.setattr(module, "replayed", lambda step, where: None)
        monkeypatch.setattr(module, "may_stop", after_step)
        watched.enter_context(nothing_waits(device))
        written(way, model, memory, noise, ops.SearchRules(1.0, block_ngrams=2, min_tokens=2))
    assert steps == list(range(STEPS))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_device_writes_what_the_cpu_writes(device: torch.device, way: str, seed: int) -> None:
    """In float64, where hardly any two scores are as near to each other as the errors of either."""
    model, cpu = MODELS[seed % len(MODELS)].model(SIZE, seed), torch.device("cpu")
    noise = torch.rand(12, STEPS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rules = ops.SearchRules(1.0, block_ngrams=2, min_tokens=2)
    expected = written(way, model, memory_of(model, cpu), noise, rules)
    found = written(way, model.to(device), memory_of(model, device), noise.to(device), rules)
    tokens = (pad(x.tokens.cpu(), (0, STEPS - x.tokens.shape[1]), value=PAD) for x in (found, expected))
    assert torch.equal(*tokens) and torch.equal(found.lengths.cpu(), expected.lengths)
    torch.testing.assert_close(found.scores.cpu(), expected.scores, atol=1e-9, rtol=0)
