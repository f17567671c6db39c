import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from critic_cases import random_critic
from tiny import tiny_model

import rlseq2seq
from rlseq2seq.cli import main
from rlseq2seq.config.decoding import BeamConfig
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.models.saved import save_model

ROOT = Path(__file__).parents[1]
TEXTS = ["the sum of values", "", "mean of 日本 rows , along axis", "a", "get_sumOf(values)\tand more"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> Path:
    folder = tmp_path_factory.mktemp("models") / "rl"
    model = tiny_model(len(vocabulary), dtype=torch.float32)
    save_model(folder, model, vocabulary, random_critic(model.feature_size, len(vocabulary)))
    return folder


@pytest.fixture
def expected(checkpoint: Path) -> list[str]:
    outputs = rlseq2seq.load(checkpoint).generate(TEXTS)
    assert len(set(outputs)) > 2
    return outputs


def lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def generate(capsys: pytest.CaptureFixture[str], checkpoint: Path, *options: str) -> str:
    main(["generate", "--checkpoint", str(checkpoint), *options])
    return capsys.readouterr().out


# What it writes.


def test_a_file_of_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path, expected: list[str]
) -> None:
    path = tmp_path / "sources.txt"
    path.write_bytes(lines(TEXTS))
    written = "".join(f"{text}\t{output}\n" for text, output in zip(TEXTS, expected, strict=True))
    assert generate(capsys, checkpoint, str(path)) == written


@pytest.mark.parametrize("name", [[], ["-"]])
@pytest.mark.parametrize(("end", "last"), [("\n", "\n"), ("\r\n", "\r\n"), ("\n", "")])
def test_standard_input(
    name: list[str],
    end: str,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
    expected: list[str],
) -> None:
    typed(monkeypatch, (end.join(TEXTS) + last).encode())
    rows = generate(capsys, checkpoint, *name).splitlines()
    assert rows == [f"{text}\t{output}" for text, output in zip(TEXTS, expected, strict=True)]


@pytest.mark.parametrize("form", ["auto", "jsonl"])
@pytest.mark.parametrize("start", ["", "\n  \n", "\ufeff"])
def test_json_lines_keep_their_other_keys(
    form: str,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
    expected: list[str],
) -> None:
    rows: list[dict[str, Any]] = [{"id": i, "source": text, "日本": {"a": [1.5, None]}} for i, text in enumerate(TEXTS)]
    typed(monkeypatch, (start + "\n\n".join(json.dumps(row) for row in rows)).encode())
    out = generate(capsys, checkpoint, "--format", form)
    assert [json.loads(line) for line in out.splitlines()] == [
        {**row, "output": output} for row, output in zip(rows, expected, strict=True)
    ]
    assert list(json.loads(out.splitlines()[0])) == ["id", "source", "日本", "output"]
    assert "日本" in out


@pytest.mark.parametrize("first", ['{"source": "a"}', '  {  "source" : "a", "id": 3}', '{"id": 3, "source": "a"}'])
def test_json_is_known_by_its_first_line(
    first: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    typed(monkeypatch, first.encode())
    assert json.loads(generate(capsys, checkpoint)).keys() >= {"source", "output"}


@pytest.mark.parametrize("text", ["{x: 1 for x in y}", "{}", "[1]", "3", "{'source': 'a'}"])
def test_code_is_not_taken_for_json(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    typed(monkeypatch, text.encode())
    assert generate(capsys, checkpoint).startswith(f"{text}\t")
    typed(monkeypatch, b'{"source": "a"}')
    assert generate(capsys, checkpoint, "--format", "lines").startswith('{"source": "a"}\t')


def test_an_output_file_replaces_what_was_there_even_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path, expected: list[str]
) -> None:
    path = tmp_path / "sources.txt"
    path.write_bytes(lines(TEXTS))
    assert generate(capsys, checkpoint, str(path), "--output", str(path)) == ""
    rows = path.read_text(encoding="utf-8").splitlines()
    assert rows == [f"{text}\t{output}" for text, output in zip(TEXTS, expected, strict=True)]
    assert [file.name for file in tmp_path.iterdir()] == ["sources.txt"]


def test_an_output_that_is_no_regular_file_is_written_to_and_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    typed(monkeypatch, b"a\n")
    generate(capsys, checkpoint, "--output", os.devnull)
    assert not Path(os.devnull).is_file()


def test_no_input_gives_no_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    typed(monkeypatch, b"")
    assert generate(capsys, checkpoint) == ""


def test_outputs_do_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    found = set()
    for size in ("1", "2", "64"):
        typed(monkeypatch, lines(TEXTS))
        found.add(generate(capsys, checkpoint, "--batch-size", size, "--beam-size", "3"))
    assert len(found) == 1


def test_options_of_the_search_reach_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    search = BeamConfig(beam_size=3, length_penalty=2.5, block_ngrams=1, min_tokens=6, critic_weight=0.3)
    outputs = rlseq2seq.load(checkpoint).generate(TEXTS, search)
    options = ["--beam-size", "3", "--length-penalty", "2.5", "--block-ngrams", "1", "--min-tokens", "6"]
    options += ["--critic-weight", "0.3"]
    typed(monkeypatch, lines(TEXTS))
    assert [row.split("\t")[-1] for row in generate(capsys, checkpoint, *options).splitlines()] == outputs
    assert outputs != rlseq2seq.load(checkpoint).generate(TEXTS, replace(search, critic_weight=0.0))


# What it refuses: one sentence, exit code 2, and nothing written.


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["generate", *arguments])
    out, error = capsys.readouterr()
    assert caught.value.code == 2
    assert out == ""
    assert error.startswith("rlseq2seq") and error.endswith("\n") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"fine\n\xff\xfe\n", "line 2 is not UTF-8"),
        (b'{"source": "a"}\n\n{"source": "a"', "line 3 is not JSON"),
        (b'{"source": "a"}\nplain text\n', "line 2 is not JSON"),
        (b'{"source": "a"}\n[1]\n', 'line 2 has no text "source"'),
        (b'{"target": "a"}\n', 'line 1 has no text "source"'),
        (b'{"source": null}\n', 'line 1 has no text "source"'),
        (b'{"source": ["a"]}\n', 'line 1 has no text "source"'),
        (b'{"source": "\\ud800"}\n', "line 1 is not JSON"),
        (b'{"source": "a", "id": "\\udfff"}\n', "line 1 is not JSON"),
        (b'{"source": ' + b"[" * 100_000 + b"\n", "line 1 is not JSON"),
        (b'{"source": "a", "id": ' + b"1" * 5000 + b"}\n", "line 1 is not JSON"),
    ],
)
def test_bad_lines(
    data: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    path, output = tmp_path / "sources", tmp_path / "outputs"
    path.write_bytes(data)
    error = refused(capsys, "--checkpoint", str(checkpoint), str(path), "--output", str(output))
    assert f"{path}, {told}" in error
    assert not output.exists()
    assert told in refused(capsys, "--checkpoint", str(checkpoint), str(path))


def test_an_input_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing.txt")
    assert f"{missing} cannot be read (No such file or directory)" in refused(capsys, missing)
    assert f"{tmp_path} cannot be read (Is a directory)" in refused(capsys, str(tmp_path))
    under_a_file = str(Path(__file__) / "sources.txt")
    assert f"{under_a_file} cannot be read (Not a directory)" in refused(capsys, under_a_file)


def test_an_output_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    for output in (tmp_path / "missing" / "outputs", tmp_path):
        typed(monkeypatch, b"a\n")
        assert f"--output {output} is not" in refused(capsys, "--output", str(output), "--checkpoint", str(checkpoint))
    if Path("/dev/full").exists():
        typed(monkeypatch, b"a\n")
        error = refused(capsys, "--output", "/dev/full", "--checkpoint", str(checkpoint))
        assert "--output /dev/full cannot be written (No space left on device)" in error


def test_a_checkpoint_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, told in (([], "models/rl"), (["--checkpoint", __file__], __file__), (["--checkpoint", "."], ".")):
        typed(monkeypatch, b"a\n")
        assert f"rlseq2seq: {told} is not a checkpoint" in refused(capsys, *options)


def test_a_checkpoint_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(path: Path) -> bool:  # root, as tests may run, may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    typed(monkeypatch, b"a\n")
    monkeypatch.setattr(Path, "is_file", refuse)
    told = "rlseq2seq: /theirs/config.json cannot be opened (Permission denied): see to its permissions"
    assert told in refused(capsys, "--checkpoint", "/theirs")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("tokenizer.json", b"{}"),
        ("tokenizer.model", b""),
        ("tokenizer.model", b"nonsense"),
        ("model.safetensors", b""),
        ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
    ],
)
def test_a_checkpoint_that_is_damaged(
    name: str,
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(content if file.name == name else file.read_bytes())
    typed(monkeypatch, b"a\n")
    assert str(tmp_path) in refused(capsys, "--checkpoint", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--beam-size", "0"], "argument --beam-size: 0 is not a number of at least 1"),
        (["--beam-size", "many"], "argument --beam-size: invalid number value: 'many'"),
        (["--beam-size", "1.5"], "argument --beam-size: invalid number value: '1.5'"),
        (["--batch-size", "0"], "argument --batch-size: 0 is not"),
        (["--min-tokens", "-1"], "argument --min-tokens: -1 is not"),
        (["--block-ngrams", "-1"], "argument --block-ngrams: -1 is not"),
        (["--length-penalty", "-0.5"], "argument --length-penalty: -0.5 is not"),
        (["--length-penalty", "nan"], "argument --length-penalty: nan is not"),
        (["--length-penalty", "inf"], "argument --length-penalty: inf is not"),
        (["--critic-weight", "-0.5"], "argument --critic-weight: -0.5 is not"),
        (["--critic-weight", "inf"], "argument --critic-weight: inf is not"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
        (["--temperature", "1"], "unrecognized arguments: --temperature"),
    ],
)
def test_bad_options(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, *options)
    assert told in error and "--help" in error


def test_a_critic_that_is_not_there_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vocabulary: Vocabulary
) -> None:
    save_model(tmp_path, tiny_model(len(vocabulary), dtype=torch.float32), vocabulary)
    typed(monkeypatch, b"a\n")
    options = ["--checkpoint", str(tmp_path), "--critic-weight", "0.5", "--output", str(tmp_path / "outputs")]
    assert "critic_weight is 0.5, but the model has no critic: set it to 0, or" in refused(capsys, *options)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps", ""])
def test_a_device_that_is_none(
    device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    typed(monkeypatch, b"a\n")
    assert f"the device is {device}" in refused(capsys, "--checkpoint", str(checkpoint), "--device", device)


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["translate"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, error = capsys.readouterr()
        assert (caught.value.code, out, error.count("\n")) == (2, "", 1)


# In a process of its own.

RUN = [sys.executable, "-c", "from rlseq2seq.cli import main; main()"]


def test_help_and_bad_input_do_not_wait_for_torch(tmp_path: Path) -> None:
    code = "import sys, rlseq2seq.cli\ntry: rlseq2seq.cli.main()\nfinally: assert 'torch' not in sys.modules"
    for arguments, status in ((["--help"], 0), (["generate", "--help"], 0), (["generate", str(tmp_path / "x")], 2)):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert ("rlseq2seq generate" in done.stdout) == (status == 0)


def test_what_is_written_is_utf_8_whatever_the_terminal_speaks(checkpoint: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    command = [*RUN, "generate", "--checkpoint", str(checkpoint)]
    text = "日本\n".encode()
    done = subprocess.run(command, cwd=ROOT, env=environment, input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("日本\t".encode())


def test_a_reader_that_has_had_enough_is_no_fault(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "sources.txt"
    path.write_bytes(b"x" * (1 << 20) + b"\na\n")  # more than a pipe holds
    command = [*RUN, "generate", "--checkpoint", str(checkpoint), str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (1, b"")


# In Python.


def test_three_lines_of_python(checkpoint: Path, expected: list[str]) -> None:
    assert rlseq2seq.load(str(checkpoint)).generate(iter(TEXTS)) == expected
    assert rlseq2seq.load(checkpoint).generate([]) == []
    assert rlseq2seq.__all__ == ["load"]
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = rlseq2seq.lod
