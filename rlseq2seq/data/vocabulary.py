"""Text to token ids and back, with the copied words that the vocabulary lacks.

Ids below ``len(vocabulary)`` are pieces. A source position whose piece is unknown gets an *extended* id instead:
``len(vocabulary) + i``, where ``i`` counts the distinct unknown pieces of that source, whose texts are its *copies*.
Only a source that goes with them gives extended ids a meaning (See et al. 2017, arXiv:1704.04368, section 2.2).
"""

import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import sentencepiece

from rlseq2seq.config.base import parse
from rlseq2seq.config.tokenization import TokenizationConfig
from rlseq2seq.errors import UserError
from rlseq2seq.processes import stream_chunks
from rlseq2seq.token_ids import END, PAD, START, UNKNOWN

MODEL_FILE = "tokenizer.model"
CONFIG_FILE = "tokenizer.json"

_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PUNCTUATION = re.compile(r"[^\w\s]")

# Sentencepiece marks the beginning of a word with this, and gives a run of unknown pieces as one.
_SPACE = "\u2581"
_UNKNOWN_PIECES = re.compile(f"{_SPACE}[^{_SPACE}]*|[^{_SPACE}]+")
_UNKNOWN_TEXT = "\u2047"  # a double question mark

_SAMPLE = 32_000_000  # characters


class EncodedSource(NamedTuple):
    """``ids`` may be extended; ``copies`` are the texts of the extended ones, in order."""

    ids: list[int]
    copies: list[str]


class Vocabulary:
    """A sentencepiece model and how texts are prepared for it."""

    def __init__(self, model: bytes, config: TokenizationConfig) -> None:
        self.model = model
        self.config = config
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._pieces: list[str] = [self._processor.id_to_piece(i) for i in range(self._processor.vocab_size())]
        self._pieces[PAD] = self._pieces[START] = ""
        self._pieces[UNKNOWN] = f"{_SPACE}{_UNKNOWN_TEXT}{_SPACE}"

    def __len__(self) -> int:
        return len(self._pieces)

    @classmethod
    def train(
        cls, sources: Iterable[str], targets: Iterable[str], config: TokenizationConfig, workers: int = 1
    ) -> "Vocabulary":
        """Learn the pieces from the training split, as many sources as targets. They do not depend on ``workers``.

        Memory grows with the number of distinct words; for ``unigram`` it is bounded.

        Raises:
            UserError: the texts do not hold as many pieces as ``config.vocabulary_size`` asks for.
        """
        pairs = zip(sources, targets, strict=True)
        try:
            if config.type == "unigram":  # its first guess at pieces is of whole texts, at 23 bytes a character
                return cls(_train(_sample(pairs, config), config), config)
            counts = _count_words(pairs, config, workers)
            return cls(_train(_emptying(counts), config, counted=True), config)
        except RuntimeError as error:
            raise UserError(
                f"tokenization.vocabulary_size is {config.vocabulary_size}: sentencepiece cannot make a "
                f"{config.type} vocabulary of that size from the training split ({_last_sentence(error)})"
            ) from None

    @classmethod
    def of_words(cls, words: Sequence[str], config: TokenizationConfig) -> "Vocabulary":
        """Distinct words as `normalizer` leaves them, as pieces in this order."""
        ranked = (f"{word}\t{len(words) - place}" for place, word in enumerate(words))
        return cls(_train(ranked, config, counted=True), config)

    def __reduce__(self) -> tuple[object, ...]:
        return _made_once, (self.model, self.config)

    def save(self, folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(self.model)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: a file is not there.
            UserError: the configuration is not one.
        """
        values = json.loads((folder / CONFIG_FILE).read_text())
        config = parse(TokenizationConfig, values, str(folder / CONFIG_FILE))
        return cls((folder / MODEL_FILE).read_bytes(), config)

    def encode_source(self, text: str) -> EncodedSource:
        """Encode a source, cut to ``max_source_tokens``."""
        copies: dict[str, int] = {}
        ids = []
        for piece, id_ in islice(self._encode(text, is_source=True), self.config.max_source_tokens):
            ids.append(copies.setdefault(piece, len(self) + len(copies)) if id_ == UNKNOWN else id_)
        return EncodedSource(ids, list(copies))

    def encode_target(self, text: str, copies: Sequence[str] = ()) -> list[int]:
        """Encode a target, cut to ``max_target_tokens`` with its end token.

        An unknown piece becomes the extended id of its copy in the source, and `UNKNOWN` where the source lacks it.
        """
        extended = {piece: len(self) + i for i, piece in enumerate(copies)}
        pieces = islice(self._encode(text, is_source=False), self.config.max_target_tokens - 1)
        return [*(extended.get(piece, UNKNOWN) if id_ == UNKNOWN else id_ for piece, id_ in pieces), END]

    def _encode(self, text: str, *, is_source: bool) -> Iterator[tuple[str, int]]:
        for piece in self._processor.encode_as_pieces(prepare(text, self.config, is_source=is_source)):
            id_ = self._processor.piece_to_id(piece)
            if id_ > END:
                yield piece, id_
            else:  # unknown, even where the text spells the name of a reserved id, such as </s>
                yield from ((unknown, UNKNOWN) for unknown in _UNKNOWN_PIECES.findall(piece))

    def decode(self, ids: Iterable[int], copies: Sequence[str] = ()) -> str:
        """Text of the ids up to the first end token."""
        pieces = []
        for id_ in ids:
            if id_ == END:
                break
            pieces.append(self._pieces[id_] if id_ < len(self) else copies[id_ - len(self)])
        return " ".join(filter(None, "".join(pieces).split(_SPACE)))

    def piece_texts(self) -> list[str]:
        """The text of every id. Joined up to the first end token, they are what `decode` gives, but for spaces."""
        return ["" if id_ == END else piece_text(piece) for id_, piece in enumerate(self._pieces)]

    def decode_rows(self, rows: Sequence[Sequence[int]], copies: Sequence[Sequence[str]]) -> list[str]:
        """Texts of N rows of ids for B sources with their ``copies``; row i belongs to source i // (N / B)."""
        each = len(rows) // max(len(copies), 1)
        return [self.decode(row, copies[i // each]) for i, row in enumerate(rows)]


def piece_text(piece: str) -> str:
    """The text of a piece or of a copy; a space where a word begins."""
    return piece.replace(_SPACE, " ")


def prepare(text: str, config: TokenizationConfig, *, is_source: bool) -> str:
    """What sentencepiece is given: identifiers split into words, and for whole words, punctuation set apart."""
    if is_source and config.split_identifiers:
        text = _CAMEL_CASE.sub(" ", text).replace("_", " ")
    if config.type == "word" and config.split_punctuation:
        text = _PUNCTUATION.sub(_apart, text)
    return text


def _apart(match: re.Match[str]) -> str:
    """A mark by itself; but accents and vowel signs, which are no letters either, stay with theirs."""
    mark = match[0]
    return mark if unicodedata.category(mark)[0] == "M" else f" {mark} "


def normalizer(config: TokenizationConfig) -> Callable[[str], str]:
    """What becomes of a target before its words are looked up."""
    rule = sentencepiece.SentencePieceNormalizer(rule_name=_rule_name(config))

    def normalize(text: str) -> str:
        normal: str = rule.normalize(prepare(text, config, is_source=False))
        return normal.replace(_SPACE, " ")

    return normalize


@lru_cache(1)
def _made_once(model: bytes, config: TokenizationConfig) -> Vocabulary:
    """So that a process which is sent the same vocabulary with every piece of work reads it once."""
    return Vocabulary(model, config)


def _rule_name(config: TokenizationConfig) -> str:
    return "nmt_nfkc_cf" if config.lowercase else "nmt_nfkc"


def _train(lines: Iterable[str], config: TokenizationConfig, *, counted: bool = False) -> bytes:
    """A model learned from texts, or where ``counted``, from lines of a word, a tab and how often it was seen."""
    writer = io.BytesIO()
    options: dict[str, Any] = {"input_format": "tsv"} if counted else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=writer,
        model_type=config.type,
        vocab_size=config.vocabulary_size,
        hard_vocab_limit=config.type == "bpe",
        normalization_rule_name=_rule_name(config),
        # Rare characters are no pieces. But a word that has one may be frequent.
        character_coverage=1.0 if config.type == "word" else 0.9995,
        max_sentence_length=1 << 20,
        split_digits=True,
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=START,
        eos_id=END,
        num_threads=2,
        minloglevel=2,
        **options,
    )
    return writer.getvalue()


def _seen_words(text: str, config: TokenizationConfig, *, is_source: bool) -> list[str]:
    """The part of a text that the model can see: a token is at least a character, and mostly part of a word."""
    limit = config.max_source_tokens if is_source else config.max_target_tokens
    return prepare(text, config, is_source=is_source).split()[:limit]


def _sample(pairs: Iterable[tuple[str, str]], config: TokenizationConfig) -> Iterator[str]:
    """The seen part of the sources, then of the targets: of all, or where they have more than `_SAMPLE` characters,
    of every pair whose random number is below the largest 1 / 2^n that leaves no more than that."""
    random, share, size = Random(0), 1.0, 0
    kept: list[tuple[float, str, str]] = []
    for texts in pairs:
        number = random.random()
        if number >= share:
            continue
        source = " ".join(_seen_words(texts[0], config, is_source=True))
        target = " ".join(_seen_words(texts[1], config, is_source=False))
        kept.append((number, source, target))
        size += len(source) + len(target)
        while size > _SAMPLE:
            share /= 2
            kept = [row for row in kept if row[0] < share]
            size = sum(len(source) + len(target) for _, source, target in kept)
    yield from (source for _, source, _ in kept)
    yield from (target for _, _, target in kept)


def _count_words(pairs: Iterable[tuple[str, str]], config: TokenizationConfig, workers: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for some in stream_chunks(partial(_count_some, config), pairs, workers, "count words"):
        counts.update(some)
    return counts


def _count_some(config: TokenizationConfig, pairs: Sequence[tuple[str, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for source, target in pairs:
        counts.update(_seen_words(source, config, is_source=True))
        counts.update(_seen_words(target, config, is_source=False))
    return counts


def _emptying(counts: Counter[str]) -> Iterator[str]:
    """Words and counts as sentencepiece reads them, each freed as it is read."""
    while counts:
        word, count = counts.popitem()
        yield f"{word}\t{count}"


def _last_sentence(error: RuntimeError) -> str:
    """Sentencepiece's own words, without the source line that it prefixes."""
    return str(error).rsplit("] ", 1)[-1].strip().rstrip(".") or "no pieces"
