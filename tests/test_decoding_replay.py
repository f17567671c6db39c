import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tiny import MODELS, move, random_batch, tiny_model, tiny_transformer
from torch import nn

from rlseq2seq import ops
from rlseq2seq.decoding import beam, single_path
from rlseq2seq.decoding.beam import beam_search
from rlseq2seq.decoding.single_path import _Loop, greedy, sample

SIZE, STEPS = 9, 7


def memory_of(model: Any, device: torch.device) -> Any:
    batch = move(random_batch(0, SIZE, copies=2, empty=True), device)
    return model.encode(batch.sources, batch.source_lengths)


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
@pytest.mark.parametrize("decode", ["greedy", "sample", "beam"])
def test_replayed_steps_give_what_steps_give(
    device: torch.device, decode: str, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the one is a graph; everywhere, only steps after the first are replayed (of each of a beam's two states),
    and these as often as needed."""
    model = make(SIZE).to(device)
    memory = memory_of(model, device)
    noise = torch.rand(12, STEPS, device=device)
    module, eager = (beam, 2) if decode == "beam" else (single_path, 1)
    replayed, replays = module.replayed, []

    def counted(step: Callable[[], None], where: torch.device) -> Callable[[], None]:
        run = replayed(step, where) or step
        return lambda: replays.append(run())

    def written() -> Any:
        if decode == "beam":
            return beam_search(model, memory, STEPS, 3, ops.SearchRules(min_tokens=STEPS))
        return greedy(model, memory, STEPS) if decode == "greedy" else sample(model, memory, STEPS, noise)

    monkeypatch.setattr(module, "replayed", counted)
    found = written()
    monkeypatch.setattr(module, "replayed", lambda step, where: None)
    expected = written()
    assert len(replays) == found.tokens.shape[1] - eager
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.lengths, expected.lengths)
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize("variant", [MODELS[0], next(v for v in MODELS if v.grows), MODELS[-1]], ids=str)
@pytest.mark.parametrize("decode", ["greedy", "sample", "beam"])
def test_what_was_decoded_from_is_freed_at_once(device: torch.device, decode: str, variant: Any) -> None:
    """And not when Python next looks for cycles, which it does by the number of objects, however large they are."""
    model = variant.model(SIZE).to(device)
    decodes = {
        "greedy": lambda memory: greedy(model, memory, STEPS),
        "sample": lambda memory: sample(model, memory, STEPS, torch.rand(12, STEPS, device=device)),
        "beam": lambda memory: beam_search(model, memory, STEPS, 3, ops.SearchRules(min_tokens=STEPS)),
    }
    gc.disable()
    try:
        memory = memory_of(model, device)
        held = [weakref.ref(tensor) for tensor in memory if not isinstance(tensor, nn.Parameter)]
        found = decodes[decode](memory)
        del memory
        assert found.tokens.numel() > 0
        assert [ref() for ref in held] == [None] * len(held)
    finally:
        gc.enable()
