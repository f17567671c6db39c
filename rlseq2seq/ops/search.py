"""One decoding step from a mixture: greedy, sampled, or a batch of beams. The dense distribution is never built."""

from typing import cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.contracts import Beams, Chosen, Mixture, SearchRules
from rlseq2seq.ops.devices import check_devices
from rlseq2seq.ops.packed_linear import packed_here

extension.load()


@torch.no_grad()
def greedy_step(mixture: Mixture) -> Chosen:
    """The most probable token of each row; of equals the lower id.

    Args:
        mixture: N rows in float32 or float64, on CUDA in bfloat16 too. Several rows may share a source: with
            ``source_ids`` [B, S], N a multiple of B, row `n` belongs to source `n // (N // B)`.

    Returns:
        Tokens [N] and their log-probabilities [N], in float32 or, for a mixture of float64, in that. Sums are in that
        type at least. No gradient flows through them.

    Raises:
        ValueError: for wrong types, shapes or devices, and on the CPU for source ids below 0.
    """
    return Chosen(
        *cast("tuple[Tensor, Tensor]", torch.ops.rlseq2seq.greedy_step.default(*mixture, packed_here(mixture.weight)))
    )


@torch.no_grad()
def sample_step(
    mixture: Mixture, noise: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Chosen:
    """A token for each ``noise`` [N], by inverting the cumulative distribution in the order of ids.

    A token that is chosen has a probability above 0: noise is compared with sums in float64.

    Args:
        mixture: as of `greedy_step`.
        noise: [N] in float32 or float64, in [0, 1).
        temperature: above 0; probabilities are raised to the power 1 / temperature.
        top_k: keeps the most probable tokens; 0 keeps all.
        top_p: keeps the fewest most probable tokens that sum to at least it (Holtzman et al. 2020, arXiv:1904.09751).
            Both keep the lower of equal tokens.

    Returns:
        Tokens [N] and their log-probabilities [N] in the distribution that was sampled: what is left, renormalised.

    Raises:
        ValueError: as of `greedy_step`, and for options out of range.
    """
    result = torch.ops.rlseq2seq.sample_step.default(
        *mixture, noise, temperature, top_k, top_p, packed_here(mixture.weight)
    )
    return Chosen(*cast("tuple[Tensor, Tensor]", result))


@torch.no_grad()
def beam_step(mixture: Mixture, beams: Beams, step: int, rules: SearchRules) -> tuple[Beams, Tensor, Tensor]:
    """Extend every unfinished hypothesis by one token (the ``step``-th, from 0).

    What the rules forbid is taken out before the best K extensions a source are chosen: tokens that would complete an
    n-gram that the hypothesis holds, and the end token before ``min_tokens``; where that leaves nothing, the end token
    is allowed. Those that end move to the pool and keep their place: only as many go on as the pool still lacks, so K
    hypotheses are found in all and a beam of 1 is greedy. Ties go to the lower (beam, token).

    Args:
        mixture: as of `greedy_step`, with N = B * K rows, the K hypotheses of a source one after another.
        beams: B sources of K hypotheses, K up to 1024; scores in float32 or, for a mixture of float64, in that.
        step: how many tokens the hypotheses hold.
        rules: what is forbidden, and how finished hypotheses of different lengths compare.

    Returns:
        New beams, the rows of the mixture that each goes on from [B * K] and the tokens chosen [B * K]. In a free
        place (score -inf) these are some row of the source and some token.

    Raises:
        ValueError: as of `greedy_step`, and for beams that do not fit the mixture.
    """
    extended, scores, pool, pool_scores, rows, chosen = cast(
        "tuple[Tensor, ...]",
        torch.ops.rlseq2seq.beam_step.default(*mixture, *beams, step, *rules, packed_here(mixture.weight)),
    )
    return Beams(extended, scores, pool, pool_scores), rows, chosen


def _empty_chosen(features: Tensor) -> tuple[Tensor, Tensor]:
    rows, dtype = features.shape[0], torch.promote_types(features.dtype, torch.float32)
    return features.new_empty(rows, dtype=torch.int64), features.new_empty(rows, dtype=dtype)


def _fake_greedy_step(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate_logits: Tensor | None,
    attention: Tensor,
    source_ids: Tensor,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    mixture = Mixture(features, weight, bias, gate_logits, attention, source_ids)
    check_devices("greedy_step", **mixture._asdict(), packed=packed)
    return _empty_chosen(features)


def _fake_sample_step(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate_logits: Tensor | None,
    attention: Tensor,
    source_ids: Tensor,
    noise: Tensor,
    temperature: float,
    top_k: int,
    top_p: float,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    mixture = Mixture(features, weight, bias, gate_logits, attention, source_ids)
    check_devices("sample_step", **mixture._asdict(), noise=noise, packed=packed)
    return _empty_chosen(features)


def _fake_beam_step(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate_logits: Tensor | None,
    attention: Tensor,
    source_ids: Tensor,
    tokens: Tensor,
    scores: Tensor,
    finished_tokens: Tensor,
    finished_scores: Tensor,
    step: int,
    length_penalty: float,
    block_ngrams: int,
    min_tokens: int,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    mixture = Mixture(features, weight, bias, gate_logits, attention, source_ids)
    beams = Beams(tokens, scores, finished_tokens, finished_scores)
    check_devices("beam_step", **mixture._asdict(), **beams._asdict(), packed=packed)
    rows = tokens.shape[0] * tokens.shape[1]
    return (
        tokens.new_empty(tokens.shape),
        scores.new_empty(scores.shape),
        tokens.new_empty(tokens.shape),
        scores.new_empty(scores.shape),
        tokens.new_empty(rows),
        tokens.new_empty(rows),
    )


torch.library.register_fake("rlseq2seq::greedy_step", _fake_greedy_step)
torch.library.register_fake("rlseq2seq::sample_step", _fake_sample_step)
torch.library.register_fake("rlseq2seq::beam_step", _fake_beam_step)
