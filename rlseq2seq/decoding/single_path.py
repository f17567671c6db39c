"""Greedy decoding and sampling, free-running."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.decoding.hypotheses import Hypotheses, cut_at_end, may_stop, token_lengths
from rlseq2seq.models.protocol import Memory, Seq2Seq, State, repeat_rows
from rlseq2seq.ops import Chosen, Mixture
from rlseq2seq.token_ids import END, START


def greedy(model: Seq2Seq[Memory, State], memory: Memory, max_tokens: int) -> Hypotheses:
    """The most probable token at each step; one hypothesis for each source of ``memory``."""
    return _decode(model, memory, 1, max_tokens, lambda mixture, step: ops.greedy_step(mixture))


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
    return _decode(model, memory, each, max_tokens, lambda mixture, step: choose(mixture, columns[step]))


@torch.no_grad()
@ops.constant_weights()
def _decode(
    model: Seq2Seq[Memory, State], memory: Memory, each: int, max_tokens: int, choose: Callable[[Mixture, int], Chosen]
) -> Hypotheses:
    state = repeat_rows(model.initial_state(memory), each)
    tokens = torch.full((len(memory[0]) * each,), START, device=memory[0].device)
    finished = torch.zeros_like(tokens, dtype=torch.bool)
    chosen_tokens, chosen_log_probs = [], []
    for step in range(max_tokens):
        mixture, state = model.step(memory, state, model.embed(tokens))
        tokens, log_probs = choose(mixture, step)
        chosen_tokens.append(tokens)
        chosen_log_probs.append(log_probs.masked_fill(finished, 0))
        finished = finished | (tokens == END)
        if may_stop(finished, step):
            break
    all_tokens = torch.stack(chosen_tokens, 1)
    lengths = token_lengths(all_tokens)
    return Hypotheses(cut_at_end(all_tokens, lengths), lengths, torch.stack(chosen_log_probs, 1).sum(1))
