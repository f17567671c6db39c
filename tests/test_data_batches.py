import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlseq2seq.data.batches import BatchOrder, in_length_order, make_batch, pad_rows
from rlseq2seq.data.pairs import Pair
from rlseq2seq.data.store import TokenStore, write_store
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.token_ids import END, PAD

CPU = torch.device("cpu")


class Ragged:
    """Only the lengths of a store's rows: all that an order looks at."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths = lengths


class Lengths:
    def __init__(self, count: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.sources = Ragged(random.integers(0, 60, count))
        self.targets = Ragged(random.integers(1, 20, count))

    def __len__(self) -> int:
        return len(self.sources.lengths)


def order(store: Lengths, batch_size: int, seed: int = 0) -> BatchOrder:
    return BatchOrder(store, batch_size, seed)  # type: ignore[arg-type]


def epoch(batches: BatchOrder, number: int) -> list[list[int]]:
    start = number * batches.batches_per_epoch
    return [batches.rows(start + i).tolist() for i in range(batches.batches_per_epoch)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, word_vocabulary: Vocabulary) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    rows = [
        Pair("", "the sum of 日本 日本 values", "sum of 日本 ."),
        Pair("", "", ""),
        Pair("", "mean", "mean of values along axis"),
        Pair("", "quux , the mean of rows", "the mean"),
    ]
    write_store(folder, "train", rows, word_vocabulary)
    return TokenStore(folder, "train")


@given(st.integers(1, 300), st.integers(1, 70), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_every_row_is_seen_once_an_epoch(count: int, batch_size: int, seed: int, number: int) -> None:
    batches = order(Lengths(count), batch_size, seed)
    rows = epoch(batches, number)
    assert sorted(row for batch in rows for row in batch) == list(range(count))
    assert len(rows) == batches.batches_per_epoch == -(-count // batch_size)
    assert all(1 <= len(batch) <= batch_size for batch in rows)


def test_every_row_is_seen_once_where_there_are_several_pools() -> None:
    batches = order(Lengths(1003), 3)
    rows = epoch(batches, 2)
    assert sorted(row for batch in rows for row in batch) == list(range(1003))


def test_the_order_is_a_function_of_seed_and_step_alone() -> None:
    store = Lengths(100)
    one, other = order(store, 8, seed=3), order(store, 8, seed=3)
    forwards = {step: one.rows(step).tolist() for step in range(40)}
    # Backwards, and some steps twice: as after a resumption.
    for step in (*reversed(range(40)), 7, 7, 31, 0):
        assert other.rows(step).tolist() == forwards[step]


def test_epochs_and_seeds_differ() -> None:
    batches = order(Lengths(100), 8)
    assert epoch(batches, 0) != epoch(batches, 1)
    assert epoch(batches, 0) != epoch(order(Lengths(100), 8, seed=1), 0)
    # Not only the batches' places: other pairs meet.
    assert {frozenset(batch) for batch in epoch(batches, 0)} != {frozenset(batch) for batch in epoch(batches, 1)}


def test_batches_of_like_lengths_are_not_met_in_a_row() -> None:
    store = Lengths(2000)
    batches = epoch(order(store, 8), 0)
    for lengths in (store.sources.lengths, store.targets.lengths):
        means = [lengths[batch].mean() for batch in batches]
        assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_batches_are_of_near_equal_lengths() -> None:
    store = Lengths(5000)

    def padded(batches: list[list[int]], lengths: np.ndarray) -> float:
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    batches = epoch(order(store, 16), 0)
    assert padded(batches, store.sources.lengths) < 1.15
    assert padded(batches, store.targets.lengths) < 1.25


def test_a_batch_is_padded_after_its_lengths(store: TokenStore) -> None:
    rows = np.array([2, 0, 1, 3])
    batch = make_batch(store, rows, CPU)
    assert batch.rows == (2, 0, 1, 3)
    for array, values, lengths in (
        (store.sources, batch.sources, batch.source_lengths),
        (store.targets, batch.targets, batch.target_lengths),
    ):
        assert values.dtype == lengths.dtype == torch.int64
        assert values.shape == (4, int(array.lengths.max()))
        for i, row in enumerate(rows):
            length = int(lengths[i])
            assert values[i, :length].tolist() == array[row].tolist()
            assert (values[i, length:] == PAD).all()
            assert not (values[i, :length] == PAD).any()
    assert batch.targets.gather(1, batch.target_lengths[:, None] - 1).flatten().tolist() == [END] * 4
    assert batch.copies == tuple(store.copies(row) for row in rows)
    assert batch.target_texts == ("mean of values along axis", "sum of 日本 .", "", "the mean")


def test_a_batch_does_not_lend_the_store_s_memory(store: TokenStore) -> None:
    batch = make_batch(store, np.array([0]), CPU)
    before = store.sources[0].tolist()
    batch.sources.fill_(7)
    assert store.sources[0].tolist() == before


def test_a_batch_of_an_empty_source(store: TokenStore) -> None:
    batch = make_batch(store, np.array([1]), CPU)
    assert batch.sources.shape == (1, 0) and batch.source_lengths.tolist() == [0]
    assert batch.targets.tolist() == [[END]]


@given(st.lists(st.lists(st.integers(1, 99), max_size=5), max_size=6))
def test_pad_rows(rows: list[list[int]]) -> None:
    padded, lengths = pad_rows(rows)
    assert padded.shape == (len(rows), max(map(len, rows), default=0))
    assert lengths.tolist() == [len(row) for row in rows]
    assert [row[:length] for row, length in zip(padded.tolist(), lengths.tolist(), strict=True)] == rows
    assert int((padded != PAD).sum()) == sum(map(len, rows))


def test_the_longest_sources_come_first() -> None:
    store = Lengths(50)
    batches = list(in_length_order(store, 30, 8))  # type: ignore[arg-type]
    rows = np.concatenate(batches)
    assert sorted(rows.tolist()) == list(range(30))
    assert (np.diff(store.sources.lengths[rows]) <= 0).all()
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    assert len(np.concatenate(list(in_length_order(store, 1000, 8)))) == 50  # type: ignore[arg-type]
