"""Greedy decoding and sampling, free-running."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.decoding.hypotheses import Hypotheses, cut_at_end, may_stop, token_lengths
from rlseq2seq.decoding.replay import replayed
from rlseq2seq.models.protocol import Memory, Seq2Seq, State, repeat_rows
from rlseq2seq.ops import Chosen, Mixture
from rlseq2seq.token_ids import END, PAD, START


def greedy(model: Seq2Seq[Memory, State], memory: Memory, max_tokens: int) -> Hypotheses:
    """The most probable token at each step; one hypothesis for each source of ``memory``."""
    return _decode(model, memory, 1, max_tokens, lambda mixture, place: ops.greedy_step(mixture))


def sample(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    max_tokens: int,
    noise: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Hypotheses:
    """A sample for each row of ``noise`` [N, max_tokens], uniform in [0, 1): N / B in a row for each of B sources."""
    choose = partial(ops.sample_step, temperature=temperature, top_k=top_k, top_p=top_p)
    each = len(noise) // len(memory[0])
    columns = noise.double().T.contiguous()  # as the operator wants them, at once
    return _decode(model, memory, each, max_tokens, lambda mixture, place: choose(mixture, columns[place][0]))


@torch.no_grad()
@ops.constant_weights()
def _decode(
    model: Seq2Seq[Memory, State],
    memory: Memory,
    each: int,
    max_tokens: int,
    choose: Callable[[Mixture, Tensor], Chosen],
) -> Hypotheses:
    loop = _Loop(model, memory, each, max_tokens, choose)
    step: Callable[[], None] = loop.step
    for t in range(max_tokens):
        step()
        if may_stop(loop.finished, t):
            break
        if t == 0 and not loop.grows:
            step = replayed(loop.step, loop.tokens.device) or step
    written = loop.written[:, : t + 1]
    lengths = token_lengths(written)
    return Hypotheses(cut_at_end(written, lengths), lengths, loop.scores)


class _Loop:
    """Decoding whose every step reads and writes the same memory, so that it can be recorded and replayed.

    ``written`` [N, T] and ``scores`` [N] are what came of it; ``grows`` tells that the model's state got larger.
    """

    def __init__(
        self,
        model: Seq2Seq[Memory, State],
        memory: Memory,
        each: int,
        max_tokens: int,
        choose: Callable[[Mixture, Tensor], Chosen],
    ) -> None:
        self._model, self._memory, self._choose = model, memory, choose
        self._state = repeat_rows(model.initial_state(memory), each)
        rows, device = len(memory[0]) * each, memory[0].device
        self.tokens = torch.full((rows,), START, device=device)
        self.finished = torch.zeros(rows, dtype=torch.bool, device=device)
        self.written = torch.full((rows, max_tokens), PAD, device=device)
        self.scores = torch.zeros(rows, dtype=torch.promote_types(self._state[0].dtype, torch.float32), device=device)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.grows = False

    def step(self) -> None:
        mixture, state = self._model.step(self._memory, self._state, self._model.embed(self.tokens))
        tokens, log_probs = self._choose(mixture, self.place)
        self.scores.add_(log_probs.masked_fill(self.finished, 0))
        self.written.index_copy_(1, self.place, tokens[:, None])
        self.finished.logical_or_(tokens == END)
        self.tokens.copy_(tokens)
        self.place.add_(1)
        self.grows = any(new.shape != old.shape for new, old in zip(state, self._state, strict=True))
        if self.grows:
            self._state = state
        else:
            for new, old in zip(state, self._state, strict=True):
                old.copy_(new)
