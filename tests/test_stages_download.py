import json
import re
from pathlib import Path

import pytest

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
