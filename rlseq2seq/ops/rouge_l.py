"""ROUGE-L of token sequences, for whole hypotheses or for every prefix of them."""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.devices import check_devices

extension.load()


class RougeL(NamedTuple):
    """Scores, each `[hypotheses]`, or `[hypotheses, time]` for prefixes, or as ends are."""

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
    continues: Tensor | None = None,
    ends: Tensor | None = None,
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
        continues: bool `[hypotheses, time]`, for prefixes of words that grow (`word_hashes`): where true, a column's
            token takes the place of that of the column before and is not appended to it. In column 0 it is ignored.
        ends: int64 `[hypotheses, ends]`, with ``continues``: of how many columns a score is asked, each time no fewer
            than before; beyond the length, of the whole.

    Returns:
        `lcs` (int32), and in float32 `precision` = lcs / hypothesis length, `recall` = lcs / reference length,
        `fmeasure` = 2 lcs / (sum of both lengths), each 0 where its denominator is; bit-identical on all devices. No
        gradient flows through them.

    Raises:
        ValueError: for wrong types, shapes or devices, and on the CPU for a length out of range.
    """
    result = torch.ops.rlseq2seq.rouge_l.default(
        hypotheses, hypothesis_lengths, references, reference_lengths, prefixes, continues, ends
    )
    return RougeL(*cast("tuple[Tensor, Tensor, Tensor, Tensor]", result))


def fake_scores(
    op: str, hypotheses: Tensor, others: dict[str, Tensor | None], prefixes: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Empty scores, as `rouge_l` and `rouge_n` return them."""
    check_devices(op, hypotheses=hypotheses, **others)
    ends = others["ends"]
    shape = hypotheses.shape[:1] if not prefixes else hypotheses.shape if ends is None else ends.shape
    scores = [hypotheses.new_empty(shape, dtype=torch.float32) for _ in range(3)]
    return hypotheses.new_empty(shape, dtype=torch.int32), scores[0], scores[1], scores[2]


def _fake(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
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
    return fake_scores("rouge_l", hypotheses, others, prefixes)


torch.library.register_fake("rlseq2seq::rouge_l", _fake)
