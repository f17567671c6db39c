from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import sentences, tokenization_config

from rlseq2seq.data.pairs import Pair, read_pairs, write_pairs
from rlseq2seq.data.store import TokenStore, write_store
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.processes import CHUNK
from rlseq2seq.token_ids import UNKNOWN

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
known = st.lists(st.sampled_from(sentences(5)), max_size=2).map(" ".join)
pairs = st.lists(st.builds(lambda s, t: Pair("", s, t), texts | known, texts | known), max_size=8)


def written(folder: Path, rows: list[Pair], vocabulary: Vocabulary) -> tuple[TokenStore, dict[str, int]]:
    facts = write_store(folder, "train", rows, vocabulary)
    return TokenStore(folder, "train"), facts


@given(pairs, st.booleans())
def test_what_is_written_is_read_back(
    vocabulary: Vocabulary, word_vocabulary: Vocabulary, rows: list[Pair], words: bool
) -> None:
    pieces = word_vocabulary if words else vocabulary
    with TemporaryDirectory() as folder:
        store, facts = written(Path(folder), rows, pieces)
        assert len(store) == len(store.sources) == len(store.targets) == len(rows) == facts["pairs"]
        for i, pair in enumerate(rows):
            source = pieces.encode_source(pair.source)
            assert store.sources[i].tolist() == source.ids
            assert store.copies(i) == source.copies
            assert store.targets[i].tolist() == pieces.encode_target(pair.target, source.copies)
            assert store.target_text(i) == pair.target
        assert store.sources.lengths.tolist() == [len(store.sources[i]) for i in range(len(rows))]
        assert facts["source_tokens"] == store.sources.lengths.sum()
        assert facts["target_tokens"] == store.targets.lengths.sum()
        assert facts["copied_unknowns"] == sum(len(store.copies(i)) for i in range(len(rows)))
        assert facts["unknown_targets"] == sum(store.targets[i].tolist().count(UNKNOWN) for i in range(len(rows)))


def test_values_are_mapped_and_rows_are_views(tmp_path: Path, word_vocabulary: Vocabulary) -> None:
    rows = [Pair("", "the sum of 日本", "sum"), Pair("", "mean values", "mean of values")]
    store, _ = written(tmp_path, rows, word_vocabulary)
    for array in (store.sources, store.targets):
        assert isinstance(array.values, np.memmap) and array.values.dtype == np.int32
        assert all(np.shares_memory(array[i], array.values) for i in range(2))
        with pytest.raises(ValueError, match="read-only"):
            array[0][0] = 7


def test_a_mapped_store_outlives_its_files(tmp_path: Path, vocabulary: Vocabulary) -> None:
    # `dvc` replaces outputs while an orphan of a killed run may still read them.
    store, _ = written(tmp_path, [Pair("", "the sum", "sum")], vocabulary)
    before = store.sources[0].tolist()
    for file in tmp_path.iterdir():
        file.unlink()
    write_store(tmp_path, "train", [Pair("", "other texts", "split")], vocabulary)
    assert store.sources[0].tolist() == before


def test_empty_rows_and_an_empty_store(tmp_path: Path, vocabulary: Vocabulary) -> None:
    store, facts = written(tmp_path, [Pair("", "", ""), Pair("", "sum", "sum"), Pair("", "  ", "\n")], vocabulary)
    assert store.sources.lengths.tolist()[::2] == [0, 0] and store.targets.lengths.tolist()[::2] == [1, 1]
    assert store.copies(0) == [] and store.target_text(0) == "" and store.target_text(2) == "\n"
    store, facts = written(tmp_path, [], vocabulary)
    assert len(store) == 0 and set(facts.values()) == {0}


def test_texts_that_fill_the_limits_are_counted(tmp_path: Path) -> None:
    config = tokenization_config(type="word", max_source_tokens=2, max_target_tokens=3)
    pieces = Vocabulary.train(sentences(), sentences(), config)
    rows = [Pair("", "one", "one two three"), Pair("", "one two", "one"), Pair("", "one two three", "one")]
    store, facts = written(tmp_path, rows, pieces)
    assert store.sources.lengths.tolist() == [1, 2, 2] and store.targets.lengths.tolist() == [3, 2, 2]
    assert (facts["full_sources"], facts["full_targets"]) == (2, 1)


def test_splits_lie_side_by_side(tmp_path: Path, vocabulary: Vocabulary) -> None:
    for split, text in (("train", "sum"), ("validation", "mean")):
        write_store(tmp_path, split, [Pair("", text, text)], vocabulary)
    assert [TokenStore(tmp_path, split).target_text(0) for split in ("train", "validation")] == ["sum", "mean"]


@given(st.lists(st.builds(Pair, texts, texts, texts, texts, texts, st.lists(texts, max_size=3).map(tuple)), max_size=5))
def test_pairs_are_read_as_written(rows: list[Pair]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        assert write_pairs(path, rows) == len(rows)
        assert list(read_pairs(path)) == rows


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path, word_vocabulary: Vocabulary) -> None:
    rows = [Pair("", f"the sum of zorp{i} values", f"zorp{i} sum") for i in range(2 * CHUNK + 7)]
    facts = []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        facts.append(write_store(tmp_path / str(workers), "train", iter(rows), word_vocabulary, workers))
    assert facts[0] == facts[1] and facts[0]["pairs"] == len(rows)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "12")
    assert one == two and len(one) == 8
    store = TokenStore(tmp_path / "2", "train")
    assert [store.target_text(i) for i in range(len(store))] == [pair.target for pair in rows]
    assert store.copies(CHUNK) == [f"\u2581zorp{CHUNK}"]
