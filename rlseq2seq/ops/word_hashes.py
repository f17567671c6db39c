"""Words as 64-bit hashes: of texts, and of rows of token ids without a text being made.

The hash of a word is a polynomial over its characters, lower-cased or not (`csrc/word_hashes.h`), so it is computed
from the pieces of the word, and is the same however a tokenizer cut it.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor

from rlseq2seq.ops import extension
from rlseq2seq.ops.devices import check_devices

_EXTENSION = extension.load()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, without waiting: from memory that may be paged out, the driver waits for its stream."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class PieceTable(NamedTuple):
    """The pieces of G groups: those of a vocabulary (one group), or the copies of each source of a batch.

    Attributes:
        pieces: int64 [P + 1], place of each piece's first segment times 8, plus flags (`csrc/word_hashes.h`).
        segments: int64 [S, 2], hash of each word or part of one, and the hash's base to the number of its characters.
        starts: int64 [G + 1], where each group begins among the pieces.
        most: the most segments of a piece.
    """

    pieces: Tensor
    segments: Tensor
    starts: Tensor
    most: int

    def to(self, device: torch.device) -> "PieceTable":
        pieces, segments, starts = (to_device(x, device) for x in self[:3])
        return PieceTable(pieces, segments, starts, self.most)


class WordHashes(NamedTuple):
    """The words of N rows of token ids, and for prefixes, each state of each word.

    Attributes:
        hashes: int64 [N, W], undefined past a row's length.
        lengths: int64 [N].
        continues: bool [N, W], for prefixes: the column's word is the one of the column before, grown by a piece;
            undefined past a row's length.
        ends: int64 [N, T], for prefixes: how many columns the tokens up to and with this one have filled. Past the
            end of a row it repeats.
    """

    hashes: Tensor
    lengths: Tensor
    continues: Tensor | None
    ends: Tensor | None


def hash_words(texts: Sequence[str], rule: str) -> tuple[Tensor, Tensor]:
    """Hashes [N, most words] of the words of N texts, padded with 0, and numbers of words [N]; int64, on the CPU.

    The words are those of `rlseq2seq.rewards.words.split_words`. Other threads may run meanwhile.

    Raises:
        ValueError: for a rule that is not one of `rlseq2seq.rewards.words.WordRule`.
    """
    hashes, lengths = _EXTENSION.hash_words(texts, rule)
    return torch.from_numpy(hashes), torch.from_numpy(lengths)


def piece_table(groups: Sequence[Sequence[str]], rule: str) -> PieceTable:
    """What `word_hashes` puts words together from, of the texts of pieces, in which a space is a space; on the CPU.

    Raises:
        ValueError: for a rule that is not one of `rlseq2seq.rewards.words.WordRule`.
    """
    pieces, segments, most = _EXTENSION.piece_table([text for group in groups for text in group], rule)
    starts = torch.tensor(list(accumulate(map(len, groups), initial=0)))
    return PieceTable(torch.from_numpy(pieces), torch.from_numpy(segments), starts, most)


def word_hashes(tokens: Tensor, table: PieceTable, copies: PieceTable, *, prefixes: bool = False) -> WordHashes:
    """Words of rows of token ids, each row up to its first end token.

    Rows may share a source: with N rows and B sources, N a multiple of B, row n belongs to source n // (N // B).

    Args:
        tokens: int64 [N, T]; ids from the number of ``table``'s pieces on are extended: copies of the row's source.
        table: of the vocabulary.
        copies: of the B sources.
        prefixes: keep each state of a word that grows over several tokens in a column of its own. With ``continues``
            and ``ends``, `rouge_l` and `rouge_n` give the scores of what the tokens up to each one spell.

    Returns:
        Hashes as of `hash_words`, in T times as many columns as a piece has segments at most.

    Raises:
        ValueError: for wrong types, shapes or devices, and on the CPU for an id that is no piece and no copy; on CUDA
            such an id counts as an empty piece.
    """
    most = max(table.most, copies.most)
    arguments = tokens, table.pieces, table.segments, copies.pieces, copies.segments, copies.starts, most, prefixes
    result = torch.ops.rlseq2seq.word_hashes.default(*arguments)
    hashes, lengths, continues, ends = cast("tuple[Tensor, Tensor, Tensor, Tensor]", result)
    return WordHashes(hashes, lengths, continues if prefixes else None, ends if prefixes else None)


def _fake(
    tokens: Tensor,
    pieces: Tensor,
    segments: Tensor,
    copies: Tensor,
    copy_segments: Tensor,
    copy_starts: Tensor,
    most: int,
    prefixes: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_devices(
        "word_hashes",
        tokens=tokens,
        pieces=pieces,
        segments=segments,
        copies=copies,
        copy_segments=copy_segments,
        copy_starts=copy_starts,
    )
    rows, time = tokens.shape
    width = time * most
    continues = tokens.new_empty((rows, width if prefixes else 0), dtype=torch.bool)
    ends = tokens.new_empty((rows, time if prefixes else 0))
    return tokens.new_empty((rows, width)), tokens.new_empty(rows), continues, ends


torch.library.register_fake("rlseq2seq::word_hashes", _fake)
