"""`rlseq2seq examples`."""

import json
from pathlib import Path

import pytest

from rlseq2seq.cli import main


def test_examples_are_printed_with_their_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "predictions.jsonl"
    rows = [
        {
            "id": str(i),
            "source": f"source {i} " + "long " * 40,
            "target": f"größe {i}",
            "outputs": {"mle": f"wrote {i}", "rl": ""},
        }
        for i in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shown = {}
    for seed in ("0", "1"):
        main(["examples", "--count", "3", "--seed", seed, "--predictions", str(path)])
        shown[seed] = capsys.readouterr().out
        places = [int(line.split()[2]) - 1 for line in shown[seed].splitlines() if line.startswith("test pair")]
        assert places == sorted(set(places)) and len(places) == 3
        for place in places:
            for text in (
                f"source  source {place} long",
                f"target  größe {place}\n",
                f"mle     wrote {place}\n",
                "rl      (nothing)",
            ):
                assert text in shown[seed]
        assert shown[seed].count("long") == 120 and max(map(len, shown[seed].splitlines())) <= 110
    assert shown["0"] != shown["1"]
    main(["examples", "--count", "99", "--predictions", str(path)])
    assert capsys.readouterr().out.count("test pair") == 8


def test_examples_before_there_are_any_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["examples", "--predictions", str(tmp_path / "none.jsonl")])
    assert caught.value.code == 2
    assert "none.jsonl cannot be read (No such file or directory): `dvc repro` makes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON\n",
        b'{"id": "1"}\n',
        b"[1]\n",
        b'{"source": "\xff"}\n',
        b'{"source": "a", "target": 1, "outputs": {}}\n',
    ],
)
def test_examples_of_another_file_are_told(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["examples", "--predictions", str(path)])
    assert caught.value.code == 2
    assert "is not what the stage evaluate writes: name its file" in capsys.readouterr().err
