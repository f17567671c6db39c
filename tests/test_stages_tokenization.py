import json
from pathlib import Path

import pytest

from rlseq2seq.data.pairs import Pair, write_pairs
from rlseq2seq.data.store import TokenStore
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.data.word_vectors import load_word_vectors
from rlseq2seq.errors import UserError
from rlseq2seq.token_ids import UNKNOWN
from stages import tokenization

ROOT = Path(__file__).parents[1]
TRAIN = [Pair(str(i), f"the sum of {i % 7} and {i % 5}", f"sum {i % 7} {i % 5}") for i in range(60)]
VALIDATION = [Pair("v", "the zebra of xylophones", "zebra 3"), Pair("w", "the sum", "sum")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pairs, but no test split: whoever opened it would fail."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data" / "raw").mkdir(parents=True)
    write_pairs(tmp_path / "data" / "raw" / "train.jsonl", TRAIN)
    write_pairs(tmp_path / "data" / "raw" / "validation.jsonl", VALIDATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(project: Path, **values: object) -> None:
    text = (project / "params.yaml").read_text()
    for name, value in values.items():
        lines = [line for line in text.splitlines() if line.startswith(f"  {name}:")]
        assert len(lines) == 1
        text = text.replace(lines[0], f"  {name}: {value}")
    (project / "params.yaml").write_text(text)


@pytest.mark.parametrize("kind", ["unigram", "word", "char"])
def test_pieces_come_from_the_training_split_alone_and_the_test_split_is_not_read(kind: str, project: Path) -> None:
    configure(project, type=kind)
    tokenization.main()
    pieces = Vocabulary.load(project / "data" / "tokens")
    for pair in TRAIN:
        assert UNKNOWN not in pieces.encode_target(pair.target)
    # Only the validation split has z, x and y: none of its letters has become part of a piece.
    letters = {letter for id_ in range(len(pieces)) for letter in pieces.decode([id_])}
    assert letters & set("zxy") == set() and letters >= set("0123456sum")


def test_both_splits_are_stored_as_they_are_encoded(project: Path) -> None:
    configure(project, type="word")
    tokenization.main()
    folder = project / "data" / "tokens"
    pieces = Vocabulary.load(folder)
    for split, pairs in (("train", TRAIN), ("validation", VALIDATION)):
        store = TokenStore(folder, split)
        assert [store.target_text(i) for i in range(len(store))] == [pair.target for pair in pairs]
        for i, pair in enumerate(pairs):
            source = pieces.encode_source(pair.source)
            assert store.sources[i].tolist() == source.ids and store.copies(i) == source.copies
    assert TokenStore(folder, "validation").copies(0) == ["\u2581zebra", "\u2581xylophones"]
    facts = json.loads((project / "reports" / "tokenization.json").read_text())
    assert facts["vocabulary"] == len(pieces)
    assert (facts["train"]["pairs"], facts["validation"]["pairs"]) == (60, 2)
    assert facts["validation"]["copied_unknowns"] == 2


def test_the_same_pairs_give_the_same_bytes(project: Path) -> None:
    found = []
    for _ in range(2):
        tokenization.main()
        found.append({path.name: path.read_bytes() for path in (project / "data" / "tokens").iterdir()})
    assert found[0] == found[1]


def test_what_cannot_be_made_leaves_the_old_tokens(project: Path) -> None:
    tokenization.main()
    before = sorted(path.stat().st_mtime_ns for path in (project / "data" / "tokens").iterdir())
    configure(project, type="bpe")
    with pytest.raises(UserError, match=r"^tokenization\.vocabulary_size is \d+: .* bpe vocabulary"):
        tokenization.main()
    assert sorted(path.stat().st_mtime_ns for path in (project / "data" / "tokens").iterdir()) == before
    assert [path.name for path in (project / "data").iterdir() if path.name != "raw"] == ["tokens"]


def test_word_vectors_are_kept_and_the_share_that_has_them_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only the validation split has a zebra: it is no piece, so its vector is none of ours.
    (project / "corpus").mkdir()
    (project / "corpus" / "vectors.txt").write_text("sum 1 2 3\nzebra 4 5 6\n0 7 8 9\n")
    configure(project, type="word", word_vectors="corpus/vectors.txt")
    tokenization.main()
    pieces, found = Vocabulary.load(project / "data" / "tokens"), load_word_vectors(project / "data" / "tokens")
    assert found is not None
    by_word = {
        pieces.decode([id_]): vector for id_, vector in zip(found.ids.tolist(), found.vectors.tolist(), strict=True)
    }
    assert by_word == {"sum": [1, 2, 3], "0": [7, 8, 9]}
    facts = json.loads((project / "reports" / "tokenization.json").read_text())
    assert facts["word_vectors"] == {"size": 3, "found": 2, "share": round(2 / len(pieces), 4)}
    assert f"word vectors of 2 of {len(pieces)} pieces ({2 / len(pieces):.1%})" in capsys.readouterr().out
    # And they go when they are no longer asked for.
    configure(project, word_vectors="null")
    tokenization.main()
    assert load_word_vectors(project / "data" / "tokens") is None
    assert "word_vectors" not in json.loads((project / "reports" / "tokenization.json").read_text())


def test_missing_word_vectors_leave_the_old_tokens(project: Path) -> None:
    tokenization.main()
    configure(project, word_vectors="corpus/vectors.txt")
    with pytest.raises(UserError, match="there is no such file"):
        tokenization.main()
    assert [path.name for path in (project / "data").iterdir() if path.name != "raw"] == ["tokens"]


def test_the_words_of_a_vocabulary_file_are_the_vocabulary(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(project, type="word", vocabulary_size=9, vocabulary_file="corpus/vocab")
    (project / "corpus").mkdir()
    (project / "corpus" / "vocab").write_text("xylophones 9\nof 8\nOF 7\nthe 6\nzebra 5\n0 4\nsum 3\n")
    tokenization.main()
    pieces = Vocabulary.load(project / "data" / "tokens")
    assert [pieces.decode([id_]) for id_ in range(4, 9)] == ["xylophones", "of", "the", "zebra", "0"]
    facts = json.loads((project / "reports" / "tokenization.json").read_text())
    assert facts["vocabulary_file"] == {"words": 5, "skipped": 1} and facts["vocabulary"] == 9
    assert "5 words of corpus/vocab; 1 others can stand in no text" in capsys.readouterr().out
    assert "\u2581sum" in TokenStore(project / "data" / "tokens", "validation").copies(1)
