"""What a reward counts: words, stems, pieces or characters, each as a 64-bit hash.

All are made by the operator `ops.word_hashes`, from tables that say what each token id spells: so each stops at the
first end token and has prefixes, on the device that the ids are on.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Protocol

import torch
from nltk.stem.porter import PorterStemmer
from torch import Tensor

from rlseq2seq import ops
from rlseq2seq.config.reward import Words
from rlseq2seq.data.batches import Batch
from rlseq2seq.data.vocabulary import Vocabulary, piece_text
from rlseq2seq.ops import WordHashes
from rlseq2seq.rewards.words import WordRule, split_words
from rlseq2seq.token_ids import UNKNOWN

# Hashes of words whose stems are remembered: some 100 MB of them.
_MOST_STEMS = 1 << 20


class Units(Protocol):
    """Hashes of the units of token ids, and of the targets that they are compared with."""

    def of_ids(self, tokens: Tensor, batch: Batch, *, prefixes: bool) -> WordHashes:
        """Units of ``tokens`` [N, T], N / B rows in a row for each source of ``batch``; as `ops.word_hashes`."""

    def of_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Hashes [B, R] and numbers of units [B] of the targets, on the CPU or where the batch is."""


class Compared:
    """What one call compares, each part made when a term first asks for it.

    Attributes:
        written: units of N hypotheses, with prefixes if they were asked for.
        wanted: hashes [B, R] and numbers of units [B] of the references.
        sources: units of the B sources.
    """

    def __init__(self, units: Units, tokens: Tensor, batch: Batch, *, prefixes: bool) -> None:
        self._units, self._tokens, self._batch, self._prefixes = units, tokens, batch, prefixes

    @cached_property
    def written(self) -> WordHashes:
        return self._units.of_ids(self._tokens, self._batch, prefixes=self._prefixes)

    @cached_property
    def wanted(self) -> tuple[Tensor, Tensor]:
        hashes, lengths = self._units.of_targets(self._batch)
        return ops.to_device(hashes, self._tokens.device), ops.to_device(lengths, self._tokens.device)

    @cached_property
    def sources(self) -> WordHashes:
        return self._units.of_ids(self._batch.sources, self._batch, prefixes=False)


class SpelledWords:
    """Words of the texts that ``spell`` makes of the text of each piece, copy and target."""

    def __init__(self, vocabulary: Vocabulary, rule: WordRule, spell: Callable[[str], str] = str) -> None:
        self._rule, self._spell = rule, spell
        self._table = ops.piece_table([[spell(text) for text in vocabulary.piece_texts()]], rule)

    def of_ids(self, tokens: Tensor, batch: Batch, *, prefixes: bool) -> WordHashes:
        texts = [[self._spell(piece_text(piece)) for piece in pieces] for pieces in batch.copies]
        copies = ops.piece_table(texts, self._rule).to(tokens.device)
        self._table = self._table.to(tokens.device)  # once: where it is already, it stays
        return ops.word_hashes(tokens, self._table, copies, prefixes=prefixes)

    def of_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return ops.hash_words([self._spell(text) for text in batch.target_texts], self._rule)


def characters(vocabulary: Vocabulary, words: Words) -> SpelledWords:
    """Characters other than spaces, lower-cased unless ``words`` are cased: set apart, each is a word."""
    return SpelledWords(vocabulary, "cased" if words == "cased" else "surface", lambda text: " ".join(["", *text, ""]))


class Stems:
    """Surface words, of which those of more than three letters are stemmed, as rouge-score does (Porter 1980).

    Stems are looked up by the hash of the word. Only for a word that no call has had before is a text made of ids: but
    the device is waited for in each call.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._words = vocabulary, SpelledWords(vocabulary, "surface")
        self._stem = lru_cache(maxsize=_MOST_STEMS)(PorterStemmer().stem)
        self._stems: dict[int, int] = {}

    def of_ids(self, tokens: Tensor, batch: Batch, *, prefixes: bool) -> WordHashes:
        words = self._words.of_ids(tokens, batch, prefixes=prefixes)
        there = torch.arange(words.hashes.shape[1], device=tokens.device) < words.lengths[:, None]
        hashes, places = torch.unique(words.hashes[there], return_inverse=True)
        if len(self._stems) > _MOST_STEMS:
            self._stems.clear()
        unseen = [hash_ for hash_ in hashes.tolist() if hash_ not in self._stems]
        if unseen:
            rows = (torch.isin(words.hashes, torch.tensor(unseen, device=tokens.device)) & there).any(1).nonzero()[:, 0]
            self._learn(rows.tolist(), tokens, batch, prefixes=prefixes)
        stems = torch.tensor([self._stems[hash_] for hash_ in hashes.tolist()], dtype=torch.int64)
        stemmed = torch.zeros_like(words.hashes).masked_scatter(there, stems.to(tokens.device)[places])
        return words._replace(hashes=stemmed)

    def of_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return ops.hash_words([" ".join(map(self._stemmed, _words(text))) for text in batch.target_texts], "surface")

    def _learn(self, rows: list[int], tokens: Tensor, batch: Batch, *, prefixes: bool) -> None:
        """Stem all words that these rows, or if ``prefixes``, their prefixes spell."""
        words, each = set(), len(tokens) // len(batch.copies)
        for row in rows:
            ids, copies = tokens[row].tolist(), batch.copies[row // each]
            for length in range(1 if prefixes else len(ids), len(ids) + 1):
                words.update(_words(self._vocabulary.decode(ids[:length], copies)))
        ordered = sorted(words)
        (hashes,), _ = ops.hash_words([" ".join(ordered)], "surface")
        (stems,), _ = ops.hash_words([" ".join(map(self._stemmed, ordered))], "surface")
        self._stems.update(zip(hashes.tolist(), stems.tolist(), strict=True))

    def _stemmed(self, word: str) -> str:
        return self._stem(word) if len(word) > 3 else word


class Pieces:
    """Token ids themselves, but for those that spell nothing; the targets' are cut as the batch's are.

    A target's unknown piece is another than the unknown piece that is written: it is not what was asked for.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        numbers = [f" {id_} " if text else "" for id_, text in enumerate(vocabulary.piece_texts())]
        self._size = len(numbers)
        self._table = ops.piece_table([numbers], "surface")
        self._target_table = ops.piece_table([[*numbers[:UNKNOWN], " unknown ", *numbers[UNKNOWN + 1 :]]], "surface")

    def of_ids(self, tokens: Tensor, batch: Batch, *, prefixes: bool) -> WordHashes:
        self._table = self._table.to(tokens.device)
        return ops.word_hashes(tokens, self._table, self._copies(batch, tokens), prefixes=prefixes)

    def of_targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self._target_table = self._target_table.to(batch.targets.device)
        found = ops.word_hashes(batch.targets, self._target_table, self._copies(batch, batch.targets))
        return found.hashes, found.lengths

    def _copies(self, batch: Batch, tokens: Tensor) -> ops.PieceTable:
        numbers = [[f" {self._size + i} " for i in range(len(pieces))] for pieces in batch.copies]
        return ops.piece_table(numbers, "surface").to(tokens.device)


def _words(text: str) -> list[str]:
    return split_words(text, "surface")


def make_units(vocabulary: Vocabulary, words: Words) -> Units:
    match words:
        case "stemmed":
            return Stems(vocabulary)
        case "pieces":
            return Pieces(vocabulary)
    return SpelledWords(vocabulary, words)
