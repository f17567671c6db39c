"""Words, ROUGE-L and ROUGE-N in PyTorch: what the kernels must agree with."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlseq2seq.token_ids import END

Scores = tuple[Tensor, Tensor, Tensor, Tensor]


def rouge_l(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    prefixes: bool = False,
    continues: Tensor | None = None,
    ends: Tensor | None = None,
) -> Scores:
    """Longest common subsequences, precision, recall and F1, by the textbook programme; shapes as of the operator.

    L[t, u] = max(L[t-1, u], L[t, u-1], L[t-1, u-1] + [tokens t and u match]), all u of a row t at once. The row above
    that of a token that continues a word is the row above that word's.
    """
    shared = len(hypotheses) // max(len(references), 1)
    references, reference_lengths = (x.repeat_interleave(shared, 0) for x in (references, reference_lengths))
    read, grows = _columns(hypotheses, hypothesis_lengths, continues)
    inside = torch.arange(references.shape[1], device=references.device) < reference_lengths[:, None]
    row = above = references.new_zeros(len(references), references.shape[1] + 1)
    common = [row[:, -1]]
    for t in range(hypotheses.shape[1]):
        above = torch.where(grows[:, t, None], above, row)
        match = (references == hypotheses[:, t, None]) & inside & (t < hypothesis_lengths)[:, None]
        row = torch.maximum(above, pad(above[:, :-1] + match, (1, 0))).cummax(1).values
        common.append(row[:, -1])
    return _scores(torch.stack(common, 1), read, reference_lengths, prefixes, ends)


def rouge_n(
    hypotheses: Tensor,
    hypothesis_lengths: Tensor,
    references: Tensor,
    reference_lengths: Tensor,
    n: int,
    prefixes: bool = False,
    continues: Tensor | None = None,
    ends: Tensor | None = None,
) -> Scores:
    """Clipped n-gram overlap, precision, recall and F1; shapes as of the operator.

    The n-gram that ends at t adds 1 if fewer equal ones end before it than there are in the reference.
    """
    shared = len(hypotheses) // max(len(references), 1)
    references, reference_lengths = (x.repeat_interleave(shared, 0) for x in (references, reference_lengths))
    read, grows = _columns(hypotheses, hypothesis_lengths, continues)
    place = torch.arange(hypotheses.shape[1], device=hypotheses.device).expand_as(hypotheses)
    starts = place.masked_fill(grows, 0).cummax(1).values  # the column where the word of each column began
    columns = [place]
    for _ in range(n - 1):  # the word before ended where this one began
        columns.append(torch.where(columns[-1] > 0, starts.gather(1, columns[-1].clamp_min(0)) - 1, -1))
    grams = torch.stack([hypotheses.gather(1, x.clamp_min(0)) for x in reversed(columns)], -1)
    valid = (columns[-1] >= 0) & (place < hypothesis_lengths[:, None])
    stays = ~pad(grows, (0, 1))[:, 1:]  # for the columns after it; else the next one takes its place
    golds = references.unfold(1, n, 1) if references.shape[1] >= n else references.new_zeros(len(references), 0, n)
    within = torch.arange(golds.shape[1], device=golds.device) < (reference_lengths - n + 1)[:, None]
    wanted = ((grams[:, :, None] == golds[:, None]).all(-1) & within[:, None]).sum(-1)
    earlier = (grams[:, :, None] == grams[:, None]).all(-1) & (valid & stays)[:, None]
    gains = valid & (earlier.tril(-1).sum(-1) < wanted)
    kept = (gains & stays).long()
    common = pad(kept.cumsum(1) - kept + gains, (1, 0))
    return _scores(common, (read - n + 1).clamp_min(0), (reference_lengths - n + 1).clamp_min(0), prefixes, ends)


def _columns(tokens: Tensor, lengths: Tensor, continues: Tensor | None) -> tuple[Tensor, Tensor]:
    """How many words the first 0..T columns hold [N, T + 1], and which columns continue one [N, T]."""
    columns = torch.arange(tokens.shape[1], device=tokens.device)
    inside = columns < lengths[:, None]
    grows = torch.zeros_like(inside) if continues is None else continues & inside & (columns > 0)
    return pad((inside & ~grows).cumsum(1), (1, 0)), grows


def _scores(common: Tensor, read: Tensor, reference_counts: Tensor, prefixes: bool, ends: Tensor | None) -> Scores:
    """What the operators return, of ``common`` and ``read`` [N, T + 1], the first column being that of no token."""
    whole = reference_counts[:, None]
    if ends is not None:
        common, read = (pad(x.gather(1, ends.clamp(0, x.shape[1] - 1)), (1, 0)) for x in (common, read))
    ratios = [x.float() / y.clamp_min(1) for x, y in ((common, read), (common, whole), (2 * common, read + whole))]
    count, precision, recall, fmeasure = (x[:, 1:] if prefixes else x[:, -1] for x in (common.int(), *ratios))
    return count, precision, recall, fmeasure


def word_hashes(
    tokens: Tensor,
    pieces: Tensor,
    segments: Tensor,
    copies: Tensor,
    copy_segments: Tensor,
    copy_starts: Tensor,
    most: int,
    prefixes: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hashes of words from those of their pieces, H(ab) = H(a) B^|b| + H(b); as of the operator."""
    (rows, time), known = tokens.shape, len(pieces) - 1
    hashes, lengths = tokens.new_zeros(rows, time * most), tokens.new_zeros(rows)
    continues, ends = tokens.new_zeros(rows, time * most, dtype=torch.bool), tokens.new_zeros(rows, time)
    for n in range(rows):
        start = int(copy_starts[n * (len(copy_starts) - 1) // rows])
        word, open_ = -1, False  # the column of the last word, and whether it may go on
        for t, token in enumerate(tokens[n].tolist()):
            if token == END:
                break
            copied = token >= known
            table, parts = (copies, copy_segments) if copied else (pieces, segments)
            place = start + token - known if copied else token
            entry, after = table[place : place + 2].tolist()
            for i, (hash_, power) in enumerate(parts[entry >> 3 : after >> 3]):
                joins = i == 0 and open_ and bool(entry & 1)
                value = hashes[n, word] * power + hash_ if joins else hash_
                word += not joins or prefixes
                hashes[n, word], continues[n, word] = value, joins and prefixes
            open_ = open_ if entry & 4 else bool(entry & 2)
            ends[n, t:] = word + 1
        lengths[n] = word + 1
    return hashes, lengths, continues[:, : time * most * prefixes], ends[:, : time * prefixes]
