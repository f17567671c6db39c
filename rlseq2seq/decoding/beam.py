"""Batched beam search."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.decoding.hypotheses import Hypotheses, cut_at_end, may_stop, token_lengths
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
    spare: State | None = None
    for step in range(max_tokens):
        mixture, state = model.step(memory, state, model.embed(tokens))
        beams, parents, tokens = advance(mixture, beams, step, rules)
        state, spare = _selected(state, parents, spare), state
        if may_stop(beams.scores.isneginf().all(-1), step):
            break
    beams = ops.finish_beams(beams, max_tokens**rules.length_penalty)
    best = beams.finished_tokens[:, 0]
    lengths = token_lengths(best)
    return Hypotheses(cut_at_end(best, lengths), lengths, beams.finished_scores[:, 0])


def _selected(state: State, parents: Tensor, spare: State | None) -> State:
    """The rows ``parents`` of ``state``, in the memory of ``spare``, a state that is done with, where they fit: for as
    large a one as a Transformer's, memory that is new to the process costs several times what the copy does."""
    if spare is None or any(new.shape != old.shape for new, old in zip(state, spare, strict=True)):
        return select_rows(state, parents)
    return type(state)._make(  # type: ignore[attr-defined,no-any-return]
        torch.index_select(tensor, 0, parents, out=memory) for tensor, memory in zip(state, spare, strict=True)
    )
