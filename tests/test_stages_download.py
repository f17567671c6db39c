import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from parquet_files import write_parquet
from ruamel.yaml import YAML
from test_data_sources_tf_bin import pair, prefixed

from rlseq2seq.config.data import DataConfig
from rlseq2seq.data.pairs import SPLITS, Corpus, Pair, read_pairs
from rlseq2seq.errors import UserError
from stages import download

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub("(?m)^  source: .*", "  source: files", params))
    (tmp_path / "corpus").mkdir()
    for split in SPLITS:
        rows = [{"source": f"{split} {i}", "target": f"{i}", "references": [f"n{i}"]} for i in range(3)]
        (tmp_path / "corpus" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_user_s_own_files(project: Path) -> None:
    download.main()
    for split in SPLITS:
        pairs = list(read_pairs(project / "data" / "raw" / f"{split}.jsonl"))
        assert [(pair.source, pair.target, pair.references) for pair in pairs] == [
            (f"{split} {i}", f"{i}", (f"n{i}",)) for i in range(3)
        ]
    report = json.loads((project / "reports" / "corpus.json").read_text())
    assert report["pairs"] == {"train": 3, "validation": 3, "test": 3}


def test_a_bad_line_leaves_the_old_pairs(project: Path) -> None:
    download.main()
    (project / "corpus" / "test.jsonl").write_text('{"source": 3}\n')
    with pytest.raises(UserError, match=r"corpus/test\.jsonl, line 1"):
        download.main()
    assert sum(1 for _ in read_pairs(project / "data" / "raw" / "test.jsonl")) == 3
    assert [path.name for path in (project / "data").iterdir()] == ["raw"]


@pytest.mark.parametrize("empty", SPLITS)
def test_a_split_without_pairs_is_told(empty: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {split: [] if split == empty else [Pair("", "a", "b")] for split in SPLITS}
    monkeypatch.setattr(download, "load_corpus", lambda config: Corpus(splits))
    with pytest.raises(UserError, match=f"gave no {empty} pairs"):
        download.main()
    assert not (project / "data" / "raw").exists()


def test_facts_that_are_counted_while_reading_are_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, int] = {}

    def counted():
        yield Pair("", "a", "b")
        facts["skipped"] = 7

    splits = {"train": counted(), "validation": [Pair("", "a", "b")], "test": [Pair("", "a", "b")]}
    monkeypatch.setattr(download, "load_corpus", lambda config: Corpus(splits, facts))
    download.main()
    assert json.loads((project / "reports" / "corpus.json").read_text())["facts"] == {"skipped": 7}


def columns(source: str, target: str) -> Callable[[Path, str], None]:
    """Writes a split as parquet."""

    def write(folder: Path, split: str) -> None:
        write_parquet(folder / f"{split}.parquet", **{source: [f"from {split}"], target: [f"to {split}"]})

    return write


def lines(source: str, target: str) -> Callable[[Path, str], None]:
    """Writes a split as JSON lines."""

    def write(folder: Path, split: str) -> None:
        (folder / f"{split}.jsonl").write_text(json.dumps({source: f"from {split}", target: f"to {split}"}))

    return write


def parallel(folder: Path, split: str) -> None:
    name = {"train": "train", "validation": "val", "test": "test_2016_flickr"}[split]
    (folder / f"{name}.en").write_text(f"from {split}\n")
    (folder / f"{name}.de").write_text(f"to {split}\n")


def binary(folder: Path, split: str) -> None:
    (folder / f"{split}_000.bin").write_bytes(prefixed(pair(f"from {split}", f"<s> to {split} </s>")))


WRITERS = {
    "cnn_dailymail": columns("article", "highlights"),
    "xsum": columns("document", "summary"),
    "gigaword": columns("document", "summary"),
    "newsroom": lines("text", "summary"),
    "aeslc": lines("source", "target"),
    "multi30k": parallel,
    "hub": columns("dialogue", "summary"),
    "tf_bin": binary,
}


def set_data(**values: object) -> None:
    params = YAML().load(Path("params.yaml"))
    params["data"] |= values
    YAML().dump(params, Path("params.yaml"))


@pytest.mark.parametrize("source", sorted(WRITERS))
def test_each_source_from_a_folder(
    source: str, project: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp(source)
    for split in SPLITS:
        WRITERS[source](folder, split)
    set_data(source=source, path=str(folder))
    download.main()
    for split in SPLITS:
        (found,) = read_pairs(project / "data" / "raw" / f"{split}.jsonl")
        assert (found.source, found.target) == (f"from {split}", f"to {split}")
    notes = json.loads((project / "reports" / "corpus.json").read_text())["notes"]
    assert notes[0] == "origin: a local folder (data.path)"
    assert capsys.readouterr().out.splitlines() == [*notes, "pairs: 1 train, 1 validation, 1 test"]


def test_no_source_is_without_a_test() -> None:
    sources = DataConfig.__annotations__["source"].__args__
    assert {*WRITERS, "files", "python_docstrings"} == set(sources)


def test_a_truncated_file_leaves_nothing_to_be_cached(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("xsum")
    for split in SPLITS:
        WRITERS["xsum"](folder, split)
    whole = (folder / "test.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(whole[:-5])
    set_data(source="xsum", path=str(folder))
    with pytest.raises(UserError, match=r"test\.parquet is no whole parquet file"):
        download.main()
    assert not (project / "data" / "raw").exists() and not (project / "reports").exists()
    (folder / "test.parquet").write_bytes(whole)
    download.main()
    assert (project / "data" / "raw" / "test.jsonl").exists()
