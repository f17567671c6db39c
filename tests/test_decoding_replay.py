from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tiny import MODELS, move, random_batch, tiny_model, tiny_transformer

from rlseq2seq import ops
from rlseq2seq.decoding import single_path
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
@pytest.mark.parametrize("decode", ["greedy", "sample"])
def test_replayed_steps_give_what_steps_give(
    device: torch.device, decode: str, make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the one is a graph; everywhere, only steps after the first are replayed, and these as often as needed."""
    model = make(SIZE).to(device)
    memory = memory_of(model, device)
    noise = torch.rand(12, STEPS, device=device)
    replayed, replays = single_path.replayed, []

    def counted(step: Callable[[], None], where: torch.device) -> Callable[[], None]:
        run = replayed(step, where)
        return lambda: replays.append(run())

    def written() -> Any:
        return greedy(model, memory, STEPS) if decode == "greedy" else sample(model, memory, STEPS, noise)

    monkeypatch.setattr(single_path, "replayed", counted)
    found = written()
    monkeypatch.setattr(single_path, "replayed", lambda step, where: step)
    expected = written()
    assert len(replays) == found.tokens.shape[1] - 1
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.lengths, expected.lengths)
    torch.testing.assert_close(found.scores, expected.scores)
