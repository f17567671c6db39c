"""Words as hashes: of texts, and put together from pieces, which must be the words of the text of the ids."""

import itertools
import random
import re
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import sentences, tokenization_config
from torch import Tensor

from rlseq2seq.config.data import PythonDocstringsConfig
from rlseq2seq.data.sources.python_docstrings.discover import find_files
from rlseq2seq.data.sources.python_docstrings.harvest import harvest
from rlseq2seq.data.vocabulary import Vocabulary, piece_text
from rlseq2seq.ops import PieceTable, WordHashes, extension, hash_words, piece_table, reference_rouge, word_hashes
from rlseq2seq.rewards.words import WordRule, split_words
from rlseq2seq.token_ids import END, PAD, START, UNKNOWN

RULES: tuple[WordRule, ...] = ("surface", "cased", "rouge")
rules = st.sampled_from(RULES)
# Letters that are two when lower-cased, that depend on their neighbours, that are digits to some rules and not to
# others, that combine, that are spaces; sentencepiece's sign of a space is a mark like any other here.
any_text = st.text(max_size=30) | st.text(
    st.sampled_from(
        "abZ09_.,;'-/ \t\n\u00e9\u0130\u03a3\u03c2\u03c3\u212a\u4e2d\u20ac\u00b2\u0301\u1f88\u3000\u2581\U0001f600\x1c"
    ),
    max_size=30,
)
SIZES = [0, 1, 2, 31, 32, 33, 63, 64, 65, 129, 513]


def rows_of(hashes: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row[:length] for row, length in zip(hashes.tolist(), lengths.tolist(), strict=True)]


def words_of(texts: Sequence[str], rule: WordRule) -> list[list[int]]:
    """The hashes of each text's words, one word at a time."""
    words = [split_words(text, rule) for text in texts]
    single = {word: hash_words([word], rule)[0].item() for word in itertools.chain(*words)}
    return [[int(single[word]) for word in row] for row in words]


@given(st.lists(any_text, max_size=5), rules)
@example(["\u03c3\u03b1\u03a3 \u03a3\u03a3", "\u0130stanbul \u0130", "a_b\u0301\u0301c \u00b2x", ""], "surface")
@example(["The the THE \u03a3\u03b1\u03c2 \u03c3\u03b1\u03c3", "\u0130 i\u0307"], "cased")
@example(["\u212aelvin \u0130x", "caf\u00e9s \u00b22", "  "], "rouge")
def test_texts_have_the_words_that_the_rule_gives(texts: list[str], rule: WordRule) -> None:
    hashes, lengths = hash_words(texts, rule)
    assert hashes.dtype == lengths.dtype == torch.int64
    assert rows_of(hashes, lengths) == words_of(texts, rule)
    assert hashes.shape == (len(texts), max(lengths.tolist(), default=0))
    assert not hashes[torch.arange(hashes.shape[1]) >= lengths[:, None]].any()


def test_a_hash_is_the_polynomial_that_is_promised() -> None:
    def mixed(character: str) -> int:
        z = (ord(character) + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    base = 0x9E3779B97F4A7C15
    expected = (mixed("a") * base**2 + mixed("b") * base + mixed("\u00e9")) % 2**64
    assert hash_words(["AB\u00c9"], "surface")[0].item() % 2**64 == expected


def distinct(words: set[str], rule: WordRule = "surface") -> int:
    """How many hashes the words have."""
    hashes, lengths = hash_words(sorted(words), rule)
    assert lengths.tolist() == [1] * len(words)
    return len(set(hashes[:, 0].tolist()))


def test_no_two_words_of_installed_packages_have_one_hash() -> None:
    words: set[str] = set()
    for path in sorted(Path(torch.__file__).parents[1].rglob("*.py")):
        words.update(split_words(path.read_text(encoding="utf-8", errors="replace"), "surface"))
        if len(words) > 60_000:
            break
    assert len(words) > 50_000
    assert distinct(words) == len(words)


@cache
def corpus_texts() -> list[str]:
    """What the default corpus takes from some of the packages that it takes it from."""
    config = PythonDocstringsConfig(True, ("numpy",), validation_share=0.2, test_share=0.2, seed=0)
    pairs = [candidate.pair for candidate in harvest(find_files(config))[0]]
    return [text for pair in pairs for text in (pair.source, pair.target)]


@pytest.mark.parametrize("rule", RULES)
def test_no_two_words_of_a_corpus_have_one_hash(rule: WordRule) -> None:
    words = {word for text in corpus_texts() for word in split_words(text, rule)}
    assert len(words) > 9_000
    assert distinct(words, rule) == len(words)


def test_no_two_strings_over_two_letters_have_one_hash() -> None:
    words = {"".join(letters) for n in range(1, 15) for letters in itertools.product("ab", repeat=n)}
    assert distinct(words) == len(words) == 2**15 - 2


@pytest.mark.parametrize("call", [hash_words, lambda texts, rule: piece_table([texts], rule)])
def test_wrong_strings_and_rules_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"rule must be surface, cased or rouge, not words\."):
        call(["a"], "words")  # type: ignore[operator]
    with pytest.raises(TypeError):
        call([b"a"], "surface")  # type: ignore[operator]

    class Odd(str):
        def lower(self) -> int:  # type: ignore[override]
            return 1

    with pytest.raises(TypeError, match=r"lower\(\) of a text must give a str\."):
        call([Odd("a")], "surface")  # type: ignore[operator]


class Counter(threading.Thread):
    """Counts, and lets another thread run after each count."""

    counted, done = 0, False

    def run(self) -> None:
        while not self.done:
            self.counted += 1
            time.sleep(0)


@pytest.mark.parametrize("name", ["hash_words", "piece_table"])
def test_other_threads_run_meanwhile(name: str) -> None:
    # No thread is made to let others run, so while a call keeps Python's lock, nothing is counted. On a busy machine
    # the counter may miss its turn in one call, but hardly in all.
    call, text = getattr(extension.load(), name), "a" * 5_000_000
    interval, counter = sys.getswitchinterval(), Counter(daemon=True)
    sys.setswitchinterval(1000)
    try:
        counter.start()
        for _ in range(50):
            before = counter.counted
            call([text], "cased")
            meanwhile = counter.counted - before
            if meanwhile:
                break
    finally:
        counter.done = True
        sys.setswitchinterval(interval)
        counter.join()
    assert meanwhile


def defined(found: WordHashes) -> WordHashes:
    """``found`` on the CPU, 0 where it is undefined."""
    outside = torch.arange(found.hashes.shape[1]) >= found.lengths.cpu()[:, None]
    return WordHashes(
        found.hashes.cpu().masked_fill(outside, 0),
        found.lengths.cpu(),
        None if found.continues is None else found.continues.cpu().masked_fill(outside, False),
        None if found.ends is None else found.ends.cpu(),
    )


def put_together(
    device: torch.device, tokens: Tensor, table: PieceTable, copies: PieceTable, prefixes: bool = False
) -> WordHashes:
    """The operator's result on ``device``, brought back, 0 where it is undefined; checked against the reference."""
    result = defined(word_hashes(tokens.to(device), table.to(device), copies.to(device), prefixes=prefixes))
    arguments = tokens, *table[:2], *copies[:3], max(table.most, copies.most)
    hashes, lengths, continues, ends = reference_rouge.word_hashes(*arguments, prefixes)
    expected = (hashes, lengths, continues, ends) if prefixes else (hashes, lengths, None, None)
    for name, x, y in zip(WordHashes._fields, result, expected, strict=True):
        assert (x is None) == (y is None), name
        assert x is None or (x.dtype == y.dtype and torch.equal(x, y)), name
    return result


@given(st.lists(any_text.flatmap(lambda text: st.sampled_from([text, text[:1], ""])), max_size=40), rules)
@example(["a", "", "b", " ", "b,", "c d", "e", "f"], "surface")
@example(["\u03b1\u03a3", "", "\u03a3", "\u0130", "\u0301"], "surface")
def test_words_are_the_same_however_they_are_cut(device: torch.device, pieces: list[str], rule: WordRule) -> None:
    table = piece_table([["", "", "", "", *pieces]], rule)
    tokens = torch.arange(4, 4 + len(pieces))[None]
    none = piece_table([[]], rule)
    whole = put_together(device, tokens, table, none)
    assert rows_of(whole.hashes, whole.lengths) == words_of(["".join(pieces)], rule)

    grown = put_together(device, tokens, table, none, prefixes=True)
    assert grown.continues is not None and grown.ends is not None
    assert grown.ends.shape == tokens.shape
    for t, end in enumerate(grown.ends[0].tolist()):
        words: list[int] = []
        for hash_, continues in zip(grown.hashes[0, :end].tolist(), grown.continues[0].tolist(), strict=False):
            words[len(words) - continues :] = [hash_]
        assert [words] == words_of(["".join(pieces[: t + 1])], rule)


@cache
def vocabulary(kind: str, **changes: object) -> Vocabulary:
    sizes = {"unigram": 60, "bpe": 60, "word": 24, "char": 28}
    marks = ["(a, b): sum!", "get_item(x) 10 20", "Mean-Value's end...", "((a))"]
    texts = [*sentences(), *marks * 20]
    return Vocabulary.train(texts, texts, tokenization_config(type=kind, vocabulary_size=sizes[kind], **changes))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["unigram", "bpe", "word", "char"])
def test_words_are_those_of_the_decoded_text(device: torch.device, kind: str, rule: WordRule) -> None:
    draw = random.Random(kind + rule)
    for lowercase in (True, False):
        pieces = vocabulary(kind, lowercase=lowercase)
        copies = [["\u2581zorp", "x,y\u2581\u2581Zed", "\u2047", "\u03a3"], [], ["\u65e5\u672c", "q\u2581"]]
        rows = []
        for i in range(3 * 40):
            ids = [*range(len(pieces) + len(copies[i // 40])), PAD, START, UNKNOWN]
            row = draw.choices([id_ for id_ in ids if id_ != END], k=40)
            rows.append([*row[: draw.randint(0, 40)], END, *row][:40])
        texts = [[piece_text(copy) for copy in group] for group in copies]
        found = put_together(
            device, torch.tensor(rows), piece_table([pieces.piece_texts()], rule), piece_table(texts, rule)
        )
        assert rows_of(found.hashes, found.lengths) == words_of(pieces.decode_rows(rows, copies), rule)


def random_case(seed: int, rows: int, sources: int, time: int) -> tuple[Tensor, PieceTable, PieceTable]:
    """Rows of ids of short pieces, a third of which never end."""
    draw = random.Random(seed)

    def texts(count: int) -> list[str]:
        return ["".join(draw.choices("abc.  ", k=draw.choice([0, 1, 1, 2, 5]))) for _ in range(count)]

    copies = [texts(draw.randint(0, 3)) for _ in range(sources)]
    tokens = torch.zeros(rows, time, dtype=torch.int64)
    for n in range(rows):
        ids = [i for i in range(30 + len(copies[n * sources // rows])) if i != END]
        tokens[n] = torch.tensor(draw.choices(ids, k=time), dtype=torch.int64)
        if time and n % 3:
            tokens[n, draw.randrange(time)] = END
    return tokens, piece_table([texts(30)], "surface"), piece_table(copies, "surface")


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("time", SIZES)
def test_every_size(device: torch.device, time: int, prefixes: bool) -> None:
    for sources in (1, 3):
        found = put_together(device, *random_case(time, 6, sources, time), prefixes)
        assert found.lengths.shape == (6,) and found.hashes.shape[0] == 6


def test_enough_rows_for_every_thread(device: torch.device) -> None:
    tokens, table, copies = random_case(1, 600, 200, 40)
    found = put_together(device, tokens, table, copies, prefixes=True)
    assert len(found.lengths.unique()) > 20


def test_nothing_to_hash(device: torch.device) -> None:
    tokens, table, _ = random_case(2, 4, 2, 5)
    empty = piece_table([], "surface")
    assert put_together(device, tokens[:0], table, empty).lengths.shape == (0,)
    for rows in (torch.full((4, 5), PAD), torch.full((4, 5), END)):
        found = put_together(device, rows, piece_table([[""] * 4], "surface"), piece_table([[], []], "surface"), True)
        assert found.hashes.shape == (4, 0) and found.lengths.tolist() == [0] * 4
        assert found.ends is not None and found.ends.tolist() == [[0] * 5] * 4


@pytest.mark.parametrize("prefixes", [False, True])
def test_non_contiguous_inputs(device: torch.device, prefixes: bool) -> None:
    tokens, table, copies = random_case(3, 6, 3, 33)
    expected = put_together(device, tokens, table, copies, prefixes)

    def apart(x: Tensor) -> Tensor:
        return torch.stack([x, x], -1)[..., 0]

    tables = [PieceTable(*map(apart, t.to(device)[:3]), t.most) for t in (table, copies)]  # type: ignore[arg-type]
    found = defined(word_hashes(tokens.to(device).T.contiguous().T, *tables, prefixes=prefixes))
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=0, atol=0)


def test_ids_that_are_nothing(device: torch.device) -> None:
    table, copies = piece_table([["", "", "", "", "a", " b"]], "surface"), piece_table([["c"], []], "surface")
    for wrong in (-1, 7, 2**62, -(2**63)):
        tokens = torch.tensor([[4, 6, 4], [4, wrong, 4]], device=device)
        if device.type == "cpu":
            with pytest.raises(
                ValueError, match=rf"tokens\[1, 1\] is {wrong}, which is neither one of the 6 pieces nor"
            ):
                word_hashes(tokens, table, copies)
        else:  # to look at them would wait for the device
            found = word_hashes(tokens, table.to(device), copies.to(device))
            assert found.lengths.tolist() == [1, 1]


def test_tables_that_are_wrong_do_no_harm(device: torch.device) -> None:
    table, copies = piece_table([["", "", "", "", "a,b,c", " b"]], "surface"), piece_table([["c"]], "surface")
    tokens = torch.tensor([[4] * 40], device=device)
    outside = table._replace(pieces=table.pieces + (2**40 << 3))
    begins = copies._replace(starts=torch.tensor([5, 9]))
    tables = [(table._replace(most=1), copies), (outside, copies), (table, begins)]
    for i, (pieces, copied) in enumerate(tables):
        ids = tokens if i < 2 else tokens + 2
        if device.type == "cpu":
            with pytest.raises(ValueError, match="word_hashes: "):
                word_hashes(ids, pieces, copied)
        else:
            assert word_hashes(ids, pieces.to(device), copied.to(device)).lengths.item() <= 120


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("tokens", lambda x: x.int(), r"tokens must be Long \[\*, \*\] on"),
        ("tokens", lambda x: x[0], r"tokens must be Long \[\*, \*\] on"),
        ("tokens", lambda x: x[:5], "the number of rows, 5, must be a multiple of the number of sources, 3"),
        ("pieces", lambda x: x[:, None], r"pieces must be Long \[\*\] on"),
        ("pieces", lambda x: x[:0], "pieces must have an entry more"),
        ("segments", lambda x: x[:, :1], r"segments must be Long \[\*, 2\] on"),
        ("copies", lambda x: x.float(), r"copies must be Long \[\*\] on"),
        ("copy_segments", lambda x: x.T, r"copy_segments must be Long \[\*, 2\] on"),
        ("copy_starts", lambda x: x[:0], "copy_starts must have an entry more"),
        ("most", lambda _: -1, "most must be at least 0"),
        ("most", lambda _: 2**40, "most must be at least 0"),
        ("segments", lambda x: x.to("cpu" if x.is_cuda else "meta"), "segments (must be Long .* on|is on)"),
    ],
)
def test_wrong_arguments_raise_one_sentence(device: torch.device, name: str, wrong: object, sentence: str) -> None:
    tokens, table, copies = random_case(4, 6, 3, 9)
    names = ["tokens", "pieces", "segments", "copies", "copy_segments", "copy_starts"]
    tensors = (x.to(device) for x in (tokens, *table[:2], *copies[:3]))
    arguments: dict[str, object] = {**dict(zip(names, tensors, strict=True)), "most": 5, "prefixes": False}
    arguments[name] = wrong(arguments[name])  # type: ignore[operator]
    with pytest.raises(ValueError, match=sentence) as raised:
        torch.ops.rlseq2seq.word_hashes.default(*arguments.values())
    assert str(raised.value).startswith("word_hashes: ") and str(raised.value).count("\n") == 0


def full_rows() -> tuple[Tensor, PieceTable, PieceTable]:
    """Every token a word by itself, so that nothing in the result is undefined."""
    draw = torch.Generator().manual_seed(0)
    texts = ["", "", "", "", *(f" w{i}" for i in range(20))]
    tokens = torch.randint(4, 26, (6, 9), generator=draw)
    return tokens, piece_table([texts], "surface"), piece_table([[" x", " y"]] * 3, "surface")


@pytest.mark.parametrize("prefixes", [False, True])
def test_opcheck(device: torch.device, prefixes: bool) -> None:
    tokens, table, copies = full_rows()
    arguments = [x.to(device) for x in (tokens, *table[:2], *copies[:3])]
    torch.library.opcheck(torch.ops.rlseq2seq.word_hashes.default, (*arguments, 1, prefixes))


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    tokens, table, copies = full_rows()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def doubled(tokens: Tensor, table: PieceTable, copies: PieceTable) -> Tensor:
        return word_hashes(tokens, table, copies, prefixes=True).hashes * 2

    found = doubled(tokens.to(device), table.to(device), copies.to(device))
    expected = put_together(device, tokens, table, copies, prefixes=True).hashes * 2
    assert torch.equal(found.cpu(), expected)


def test_words_can_be_found_where_they_stand() -> None:
    # The words of a text are told apart by their hashes alone: what is equal is equal, and nothing else.
    text = "the cat, the Cat; a cat's THE"
    words = split_words(text, "surface")
    hashes = hash_words([text], "surface")[0][0].tolist()
    assert [[a == b for a in words] for b in words] == [[a == b for a in hashes] for b in hashes]
    assert re.sub(r"\s", "", text.lower()) == "".join(words)
