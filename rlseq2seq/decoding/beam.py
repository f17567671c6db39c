"""Batched beam search."""

from collections.abc import Callable
from typing import Generic

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.decoding.hypotheses import Hypotheses, cut_at_end, may_stop, token_lengths
from rlseq2seq.decoding.replay import replayed
from rlseq2seq.models.protocol import Memory, Seq2Seq, State, repeat_rows, select_rows
from rlseq2seq.ops import Beams, Mixture, SearchRules
from rlseq2seq.token_ids import START

# What extends beams by a token: takes and gives what `ops.beam_step` does.
BeamStep = Callable[[Mixture, Beams, int, SearchRules], tuple[Beams, Tensor, Tensor]]


@torch.no_grad()
@ops.constant_weights()
def beam_search(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    max_tokens: int,
    beam_size: int,
    rules: SearchRules,
    advance: BeamStep | None = None,
) -> Hypotheses:
    """The best of ``beam_size`` hypotheses for each source of ``memory``: the result for a source depends on it alone.

    A hypothesis that has not ended after ``max_tokens`` competes with those that have. ``advance`` is `ops.beam_step`,
    or another measure of what is best (`rlseq2seq.decoding.guided`).
    """
    advance = advance or ops.beam_step
    batch = len(memory[0])
    state = repeat_rows(model.initial_state(memory), beam_size)
    tokens = torch.full((batch * beam_size,), START, device=memory[0].device)
    beams = ops.start_beams(batch, beam_size, max_tokens, like=state[0])
    # Hypotheses that change places cannot do so within one state: they go from one to the other and back.
    here, there = _Place(model, memory, tokens, state), _Place(model, memory, tokens)
    for step in range(max_tokens):
        here.step()
        beams, parents, extensions = advance(here.mixture, beams, step, rules)
        tokens.copy_(extensions)
        there.take(here.after, parents)
        here, there = there, here
        if may_stop(beams.scores.isneginf().all(-1), step):
            break
    beams = ops.finish_beams(beams, max_tokens**rules.length_penalty)
    best = beams.finished_tokens[:, 0]
    lengths = token_lengths(best)
    return Hypotheses(cut_at_end(best, lengths), lengths, beams.finished_scores[:, 0])


class _Place(Generic[Memory, State]):
    """The model's step from a state that keeps its place in memory, so that it can be recorded and replayed.

    ``mixture`` and ``after``, the state that follows, are what came of it last. On the CPU, too, a state as large as a
    Transformer's had better keep its place: memory that is new to the process costs several times what the copy does.
    """

    mixture: Mixture
    after: State

    def __init__(
        self, model: Seq2Seq[Memory, State], memory: Memory, tokens: Tensor, state: State | None = None
    ) -> None:
        self._model, self._memory, self._tokens, self._state = model, memory, tokens, state
        self._replay: Callable[[], None] | None = None

    def step(self) -> None:
        (self._replay or self._step)()

    def take(self, state: State, parents: Tensor) -> None:
        """Have the rows ``parents`` of ``state`` as the state."""
        mine = self._state
        if mine is None or any(new.shape != old.shape for new, old in zip(state, mine, strict=True)):
            self._state, self._replay = select_rows(state, parents), None
            return
        for new, old in zip(state, mine, strict=True):
            torch.index_select(new, 0, parents, out=old)
        self._replay = self._replay or replayed(self._step, parents.device)

    def _step(self) -> None:
        assert self._state is not None
        inputs = self._model.embed(self._tokens)
        self.mixture, self.after = self._model.step(self._memory, self._state, inputs)
