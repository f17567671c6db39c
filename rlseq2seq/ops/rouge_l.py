"""ROUGE-L of token sequences, for whole hypotheses or for every prefix of them."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension

extension.load()


class RougeL(NamedTuple):
    """Scores, each `[hypotheses]`, or `[hypotheses, time]` for prefixes."""

    lcs: Tensor
    precision: Tensor
    recall: Tensor
    fmeasure: Tensor


def rouge_l(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    *,
    prefixes: bool = False,
) -> RougeL:
    """Longest common subsequences and ROUGE-L (Lin 2004, with beta = 1) of hypotheses against references.

    Several hypotheses may share a reference: with N hypotheses and M references, N a multiple of M, hypothesis `i` is
    scored against reference `i // (N // M)`.

    Args:
        hypotheses: int64 `[hypotheses, time]`, any ids; what lies past a row's length is not read.
        hypothesis_lengths: int64 `[hypotheses]`, in 0..time (on CUDA, clamped to that).
        references: int64 `[references, reference_time]`.
        reference_lengths: int64 `[references]`, in 0..reference_time (on CUDA, clamped to that).
        prefixes: score every prefix in the same pass: column `t` holds the score of the first `t + 1` tokens, columns
            past the length repeat the score of the whole.

    Returns:
        `lcs` (int32), and in float32 `precision` = lcs / hypothesis length, `recall` = lcs / reference length,
        `fmeasure` = 2 lcs / (sum of both lengths), each 0 where its denominator is; bit-identical on all devices. No
        gradient flows through them.

    Raises:
        ValueError: for wrong types, shapes or devices, and on the CPU for a length out of range.
    """
    result = torch.ops.rlseq2seq.rouge_l.default(
        hypotheses, hypothesis_lengths, references, reference_lengths, prefixes
    )
    return RougeL(*cast("tuple[Tensor, Tensor, Tensor, Tensor]", result))


def _fake(
    hypotheses: Tensor, hypothesis_lengths: Tensor, references: Tensor, reference_lengths: Tensor, prefixes: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    named = {
        "hypothesis_lengths": hypothesis_lengths,
        "references": references,
        "reference_lengths": reference_lengths,
    }
    # One meta tensor among others is enough to come here, where no kernel would look at the devices.
    for name, tensor in named.items():
        if tensor.device != hypotheses.device:
            raise ValueError(f"rouge_l: {name} is on {tensor.device} but the hypotheses are on {hypotheses.device}.")
    shape = hypotheses.shape if prefixes else hypotheses.shape[:1]
    scores = [hypotheses.new_empty(shape, dtype=torch.float32) for _ in range(3)]
    return hypotheses.new_empty(shape, dtype=torch.int32), scores[0], scores[1], scores[2]


torch.library.register_fake("rlseq2seq::rouge_l", _fake)
