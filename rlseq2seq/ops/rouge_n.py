"""ROUGE-N of token sequences, for whole hypotheses or for every prefix of them."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.rouge_l import fake_scores

extension.load()


class RougeN(NamedTuple):
    """Scores, each `[hypotheses]`, or `[hypotheses, time]` for prefixes, or as ends are."""

    overlap: Tensor
    precision: Tensor
    recall: Tensor
    fmeasure: Tensor


def rouge_n(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    n: int,
    *,
    prefixes: bool = False,
    continues: Tensor | None = None,
    ends: Tensor | None = None,
) -> RougeN:
    """Overlap of n-grams, each counted as often as both sides have it, and ROUGE-N (Lin 2004, Eq. 1, and its F1).

    Args:
        hypotheses: int64 `[hypotheses, time]`, any ids; what lies past a row's length is not read.
        hypothesis_lengths: int64 `[hypotheses]`, in 0..time (on CUDA, clamped to that).
        references: int64 `[references, reference_time]`, shared as in `rouge_l`.
        reference_lengths: int64 `[references]`, in 0..reference_time (on CUDA, clamped to that).
        n: 1 to 4, tokens of an n-gram.
        prefixes: score every prefix in the same pass, as in `rouge_l`.
        continues: bool `[hypotheses, time]`, for prefixes of words that grow, as in `rouge_l`.
        ends: int64 `[hypotheses, ends]`, of how many columns a score is asked, as in `rouge_l`.

    Returns:
        `overlap` (int32), and in float32 `precision` = overlap / n-grams of the hypothesis, `recall` = overlap /
        n-grams of the reference, `fmeasure` = 2 overlap / (both), each 0 where its denominator is; bit-identical on
        all devices. No gradient flows through them.

    Raises:
        ValueError: for wrong types, shapes or devices, for another n, and on the CPU for a length out of range.
    """
    result = torch.ops.rlseq2seq.rouge_n.default(
        hypotheses, hypothesis_lengths, references, reference_lengths, n, prefixes, continues, ends
    )
    return RougeN(*cast("tuple[Tensor, Tensor, Tensor, Tensor]", result))


def _fake(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    n: int,
    prefixes: bool,
    continues: Tensor | None = None,
    ends: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    others = {
        "hypothesis_lengths": hypothesis_lengths,
        "references": references,
        "reference_lengths": reference_lengths,
        "continues": continues,
        "ends": ends,
    }
    return fake_scores("rouge_n", hypotheses, others, prefixes)


torch.library.register_fake("rlseq2seq::rouge_n", _fake)
